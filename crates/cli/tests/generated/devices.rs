//! Plans about devices, filters, media and mirrors.

use blockyard_scenario::generate::{
    AdminStep, Alignment, DevicePlan, DiskPlan, End, Generate, GuestStep, How, MirrorPlan, Pause,
    Plan, Plans,
};
use blockyard_scenario::{GRAPH_EDITS, Request};
use blockyard_sim::{Exploration, Summary, Verdict};
use blockyard_units::{Design, Mutant};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::{check_plans, check_swaps, explore, finding, first_to_notice, with_mutant};

#[test]
fn every_plan_is_a_scenario_and_so_is_every_simpler_one() {
    check_plans::<Plan>();
}

#[test]
fn shrinking_what_always_fails_comes_to_the_simplest_plan() {
    for seed in 0..50 {
        let simplest = Plan::from_seed(seed).simplest(&mut |_| true);
        assert_eq!(simplest.smaller(), [], "{seed}");
        let nothing = DevicePlan {
            chunks: 1,
            disk: DiskPlan::default(),
            twin: None,
            policies: Default::default(),
            filters: Vec::new(),
            resizes: false,
            guests: Vec::new(),
            mirrors: Vec::new(),
            admin: Vec::new(),
            bitmaps: Vec::new(),
        };
        assert_eq!(simplest, Plan { devices: vec![nothing], faults: 0, crashes: 0 }, "{seed}");
    }
}

#[test]
fn generated_scenarios_are_clean_and_reach_what_matters() {
    let mut total = Summary::default();
    for seed in 0..600 {
        let plan = Plan::from_seed(seed);
        let Exploration { verdict, summary } = explore(&plan, Design::default(), seed..seed + 1);
        let again = format!("blockyard fuzz --generate --seeds {seed}..{}", seed + 1);
        assert_eq!(verdict, Verdict::Clean { exhausted: false }, "{again}\n{plan:?}");
        total.add(summary);
    }
    let Summary { marks, counts, .. } = total;
    let matters = [
        "a drained section is asked for while a job has one",
        "a mismatch seen",
        "a publication was lost to another",
        "guest request parked by a drained section",
        "guest write in flight when the final count is taken",
        "mirror found dirty in the drained section",
        "mirror ready while writes in flight",
        "pivot after the filter's insertion",
        "pivot before the filter's creation",
        "a throttled request goes on before its time",
    ];
    let missed: Vec<_> =
        matters.iter().chain(Plan::MARKS).filter(|mark| !marks.contains(**mark)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}; reached: {marks:?}");
    // Whatever can be asked succeeds, also while a guest request is in flight.
    let kinds = Request::ALL.iter().map(|kind| kind.word());
    let flags = ["flush", "fua", "serialising", "unmap", "no-fallback", "cancel-after"];
    // They have no quorum, and nothing is told to go below filters.
    let not_here = ["x-blockdev-change", "x-blockdev-snapshot-stack"];
    let edits = GRAPH_EDITS.iter().copied().filter(|name| !not_here.contains(name));
    for name in kinds.chain(flags).chain(edits).chain(["block_resize"]) {
        let [tried, succeeded, beside] = counts.get(name).copied().unwrap_or_default();
        assert!(
            beside > 5,
            "{name}: {tried} tried, {succeeded} succeeded, {beside} of them beside others"
        );
    }
    let edits = GRAPH_EDITS.iter().filter_map(|name| counts.get(*name));
    let (tried, accepted) = edits.fold((0, 0), |(t, a), [tried, ok, _]| (t + tried, a + ok));
    assert!(accepted * 2 >= tried && tried > 300, "{accepted} of {tried} graph edits");
}

#[test]
fn independent_steps_of_generated_scenarios_commute() {
    check_swaps::<Plan>(100);
}

/// What generated scenarios do not notice by themselves, and why; the zoo hunts these in other ways too.
const NOT_BY_AWAIT: &[(Mutant, &str)] = &[
    (Mutant::ChildSwapUndrainsParent, "interrupts between two operations of a task"),
    (Mutant::JobIgnoresDrainedNode, "once in tens of thousands of seeds"),
    (Mutant::DrainForgetsNewParents, "a device that gets its node while that is drained"),
    (Mutant::FailedFlushMarksClean, "flushes that fail, which are no default family of faults"),
    (Mutant::UnchangedReachesStorage, "they have no images"),
    (Mutant::BlklogwritesLogsFirst, "none of their filters keeps a log"),
    (Mutant::LuksErasedSlotKeepsKey, "they encrypt nothing"),
    (Mutant::SnapshotSkipsFlush, "their overlays are in memory"),
    (Mutant::TxnAbortSoftcancelsReadyPeer, "their jobs end alone"),
    (Mutant::TxnCancelledMemberCommits, "their jobs end alone"),
    (Mutant::TxnMemberRunsBeforePeersExist, "their jobs end alone"),
    (
        Mutant::JobCompletionCallbackNotCounted,
        "writes between a job's work and its end, and a section then",
    ),
    (Mutant::JobPausedWhileAsleepResumes, "their jobs have no rate"),
    (Mutant::WitnessBeforeTargetFlush, "their mirrors have no witness"),
    (Mutant::WitnessNotSynced, "their mirrors have no witness"),
    (Mutant::GuestAdmittedBeforeWitness, "their mirrors have no witness"),
    (Mutant::UnknownWitnessResumesOnSource, "their mirrors have no witness"),
    (Mutant::MirrorReadyTwiceAfterError, "their jobs end with the first error"),
    (Mutant::MirrorActiveWriteStarvesBackground, "none of their guests' writes goes on for ever"),
    (Mutant::MirrorTopCopiesNothing, "their mirrors copy everything or nothing"),
    (Mutant::MirrorBitmapTakenEarly, "their mirrors copy everything or nothing"),
    (Mutant::CommitRenamesBeforeFlush, "their overlays are in memory"),
    (Mutant::CommitForgetsTail, "the layers of their chains are of one length"),
    (Mutant::CommitStatusOfTopOnly, "of their layers only the top one holds anything"),
    (Mutant::StreamFreezesChainTooLate, "two jobs that are about one chain"),
    (Mutant::StreamCompletionNotDrained, "two jobs that are about one chain"),
    (Mutant::StreamNamesBaseFirst, "their overlays are in memory"),
    (Mutant::StreamForgetsShortLayer, "the layers of their chains are of one length"),
    (Mutant::MirrorFailsGuestUnmarked, "of a design that is not the default"),
    (Mutant::FollowOldVouched, "of a design that is not the default"),
    (Mutant::FollowNewVouched, "of a design that is not the default"),
    (Mutant::FollowAfterDrain, "of a design that is not the default"),
    (Mutant::FollowTakesPlaceForGranted, "of a design that is not the default"),
    (Mutant::BackupRecopiesSavedClusters, "they have no backups"),
    (Mutant::FleecingReadOvertakesCbw, "they have no backups"),
    (Mutant::TransactionMembersNotDrained, "they have no backups"),
    (Mutant::CbwDiscardNotIntercepted, "they have no backups"),
    (Mutant::CbwReadWaitsOnSerialising, "they have no backups"),
    (Mutant::BackupPartialTargetCluster, "they have no backups"),
    (Mutant::CbwTimeoutWraps, "they have no backups"),
    (Mutant::BackupLetsGoBeforeRead, "they have no backups"),
    (Mutant::BackupReadsAgain, "they have no backups"),
    (Mutant::BackupServesInItsOrder, "they have no backups"),
    (Mutant::BackupRestsFromGuests, "they have no backups"),
    (Mutant::BackupFailedClearsBitmap, "they have no backups"),
    (Mutant::BackupHolesHoldGuests, "they have no backups"),
    (Mutant::BackupSkipsWithoutZeroes, "they have no backups"),
    (Mutant::BackupSkipsFlush, "they have no backups"),
    (Mutant::BackupPivotLiteral, "they have no backups"),
    (Mutant::FleecingDiscardOvertakesRead, "they have no backups"),
    (Mutant::GrowExposesBackingData, "overlays that end before what is below them, and grow"),
    (Mutant::ThrottleMemberLeavesWithTimer, "their throttles are in no group"),
    (Mutant::ThrottleDrainedMemberWaitsForOthers, "their throttles are in no group"),
    (Mutant::QuorumAnyChildIsEnough, "they have no quorum"),
    (Mutant::QuorumFlushVoteBypassed, "they have no quorum"),
    (Mutant::QuorumFlushForgetsFailedWrites, "they have no quorum"),
    (Mutant::QuorumReadsWhoMissedWrite, "they have no quorum"),
    (Mutant::DedupFreesBeforeFlush, "they have no dedup images"),
    (Mutant::DedupEntryBeforeData, "they have no dedup images"),
    (Mutant::DedupReadNotPinned, "they have no dedup images"),
    (Mutant::DedupCopiesLate, "they have no dedup images"),
    (Mutant::DedupFailedFlushForgets, "they have no dedup images"),
    (Mutant::DedupReleasesReferred, "they have no dedup images"),
    (Mutant::UnopenedNodeUsed, "they have no images"),
    (Mutant::BusyNodeNotRefused, "what is refused or not is all the same to them"),
    (
        Mutant::CloseWithStreamRunning,
        "a device that loses its disk while something is pulled up into that",
    ),
    (Mutant::GrowingZeroesDoNotSerialise, "a device that makes its disk longer"),
];

#[test]
fn generated_scenarios_notice_mutants() {
    // Those of images come last, and generated scenarios have no images.
    let excepted = |mutant: &Mutant| {
        let named = NOT_BY_AWAIT.iter().any(|(other, _)| other == mutant);
        named || *mutant >= Mutant::Qcow2ReftableBeforeBlocks
    };
    for &mutant in Mutant::ALL.iter().filter(|mutant| !excepted(mutant)) {
        let noticed = first_to_notice::<Plan>(with_mutant(mutant), 0..6000);
        let (seed, finding) = noticed.unwrap_or_else(|| panic!("{mutant} is not noticed"));
        println!("{mutant}: seed {seed}: {}", finding.property);
    }
    let mut naive = Design::default();
    naive.set("replace", "naive").expect("there is such a decision");
    assert!(first_to_notice::<Plan>(naive, 0..2000).is_some(), "replace=naive is not noticed");
}

/// A mirror without a copy that is told to stop twice: the second time while it ends.
#[test]
fn a_mirror_cancelled_twice_does_not_pivot() {
    let mirror = MirrorPlan {
        source: None,
        active: Some(false),
        full: false,
        granularity: 3,
        buffer: 1,
        switches: 0,
        alignment: Alignment::Byte,
        pause: Pause::Never,
        finalize: false,
        dismiss: false,
        back: false,
        in_transaction: false,
        commits: false,
        streams: None,
        end: End::Cancel,
    };
    let read =
        GuestStep::Request { kind: Request::Read, sector: 0, sectors: 1, how: How::default() };
    let device = DevicePlan {
        chunks: 1,
        disk: DiskPlan::default(),
        twin: None,
        policies: Default::default(),
        filters: Vec::new(),
        resizes: false,
        guests: vec![vec![read]],
        mirrors: vec![mirror],
        admin: vec![AdminStep::CancelMirror { force: false }],
        bitmaps: Vec::new(),
    };
    let plan = Plan { devices: vec![device], faults: 0, crashes: 0 };
    assert_eq!(finding(&plan, Design::default(), 0..2000), None);
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: 60,
        rng_seed: RngSeed::Fixed(0x6765_6e65_7261_7465),
        failure_persistence: None,
        ..Config::default()
    })
}

/// Runs each plan a few times.
fn proptest(design: Design) -> Result<(), TestError<Plan>> {
    runner().run(&Plans, |plan| match finding(&plan, design, 0..10) {
        None => Ok(()),
        Some(finding) => Err(TestCaseError::fail(finding.message)),
    })
}

#[test]
fn proptest_finds_nothing_by_default() {
    assert_eq!(proptest(Design::default()), Ok(()));
}

#[test]
fn proptest_finds_a_mutant_and_shrinks_its_scenario() {
    let design = with_mutant(Mutant::MirrorActiveClearsPartialChunk);
    let found = proptest(design);
    assert_eq!(found, proptest(design), "the seed is fixed");
    let Err(TestError::Fail(_, plan)) = found else { panic!("{found:?}") };
    let [device] = &plan.devices[..] else { panic!("{plan:?}") };
    assert_eq!((device.mirrors.len(), device.guests.len()), (1, 1), "{plan:?}");
    assert_eq!((device.guests[0].len(), device.filters.len()), (1, 0), "{plan:?}");
    assert_eq!((device.chunks, device.admin.len(), plan.faults), (1, 0, 0), "{plan:?}");
    let still = |plan: &Plan| finding(plan, design, 0..10).is_some();
    assert!(!plan.smaller().iter().any(still), "it could be simpler: {plan:?}");
}

fn quickcheck() -> QuickCheck {
    QuickCheck::new().rng(Gen::from_size_and_seed(100, 0x6765_6e65)).tests(60)
}

#[test]
fn quickcheck_finds_nothing_by_default() {
    fn clean(plan: Plan) -> bool {
        finding(&plan, Design::default(), 0..4).is_none()
    }
    quickcheck().quickcheck(clean as fn(Plan) -> bool);
}

#[test]
fn quickcheck_finds_a_mutant_and_shrinks_as_plans_do() {
    fn clean(plan: Plan) -> bool {
        finding(&plan, with_mutant(Mutant::DrainEndForgetsParked), 0..4).is_none()
    }
    let failed = quickcheck().quicktest(clean as fn(Plan) -> bool).expect_err("it is noticed");
    assert_eq!(format!("{failed:?}"), {
        let again = quickcheck().quicktest(clean as fn(Plan) -> bool);
        format!("{:?}", again.expect_err("it is noticed"))
    });
    let plan = Plan::from_seed(3);
    assert!(plan.shrink().eq(plan.smaller()));
}
