//! The design decisions that people argue about, as plain data handed down by the world; and, with the feature
//! `mutants`, one known bug put back. Defaults are the correct choices.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Whether this build can put known bugs back. Programs that serve real images refuse to be built with it.
pub const MUTANTS: bool = cfg!(feature = "mutants");

/// Declares an enum whose values are words on the command line, with what each means.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal, $about:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $(#[doc = $about] $variant,)* }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What it means, in one line.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }
        }

        impl FromStr for $name {
            type Err = DesignError;
            fn from_str(text: &str) -> Result<Self, DesignError> {
                Self::ALL.iter().copied().find(|value| value.word() == text).ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|value| value.word()).collect();
                    DesignError(alloc::format!("'{text}' is none of {}", words.join(", ")))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// How an edge is redirected while others redirect edges too: by the operator's replace-child and by the
    /// pivot of a job.
    Replace {
        Naive = "naive",
            "a pivot redirects only the edges it recorded at its start, replace-child ignores what is expected";
        Compare = "compare",
            "both compare the edge with what they expect, and fail or repeat the whole edit on a mismatch";
        Transaction = "transaction", "creating a filter and attaching it is one edit; both compare";
        Parents = "parents", "a pivot redirects every parent the filter has by then; replace-child compares";
    }
}

words! {
    /// What becomes of filters below a job's filter at the pivot.
    Pivot {
        FilterParent = "filter-parent", "the parents of the job's filter get the target; filters below it are dropped";
        ReplaceNode = "replace-node",
            "the source is replaced by the target where it hangs; filters below the job's filter stay";
    }
}

words! {
    /// How a mirror follows the guest's writes when the command gives no copy-mode.
    CopyMode {
        Passive = "passive", "writes are marked in a dirty bitmap and copied later (QEMU: background)";
        Active = "active", "writes go to source and target before they complete (QEMU: write-blocking)";
        SourceBitmap = "source-bitmap",
            "passive without a filter: the job holds source and target itself, the dirty bitmap is the source's";
    }
}

words! {
    /// Whether a commit has a filter above the top while it works.
    CommitNode {
        Filter = "filter", "a filter stands for the top: filters above it stay at the pivot";
        Bare = "bare",
            "the job holds the top and the base itself: at the pivot the overlay gets the base, filters in between \
             are dropped";
    }
}

words! {
    /// How a backup comes by the data that a guest is about to overwrite.
    BackupWay {
        Workers = "workers",
            "a filter has guest writes wait until workers have read what they overwrite, those first that wait longest";
        Filter = "filter",
            "a filter copies what a guest write overwrites, and lets it go on when that is in the target";
        Notifier = "notifier",
            "a hook of the source does, chunk by chunk, after all that intersects; there is no filter (QEMU's old way)";
    }
}

words! {
    /// Whether a backup's workers copy several chunks at once where nobody waits for them.
    BackupChunks {
        Coalesced = "coalesced", "as many neighbours as 'max-chunk' has room for";
        Single = "single", "one at a time";
    }
}

words! {
    /// Whether a write that leaves a node's view as it is (copy-on-read) is recorded in the node's bitmaps.
    UnchangedMarks {
        No = "no", "a write that is flagged as leaving the view unchanged marks no bitmap";
        Yes = "yes", "it marks like any other write, so that a backup copies what nobody changed";
    }
}

words! {
    /// What becomes of the bitmaps that are stored with a node, when an edit puts another in its place.
    StoredBitmaps {
        Stay = "stay", "they stay with their node (QEMU's way)";
        Follow = "follow", "they follow the data: a snapshot and a pivot move them to the node that comes";
    }
}

words! {
    /// What becomes of a guest's write that an active mirror has made on the source, and that fails on the target.
    MirrorFailure {
        Job = "job", "it has succeeded, and the job does about the target's error what its policy says";
        Guest = "guest", "it fails for the guest, whose device's policy says what is done, and the job goes on";
    }
}

words! {
    /// A known bug, put back in one place of the implementation. A scenario must notice each.
    Mutant {
        MirrorPivotUndrainedWindow = "mirror-pivot-undrained-window",
            "the drained section ends between the last count and the pivot";
        MirrorConvergeCheckOutsideDrain = "mirror-converge-check-outside-drain",
            "the last count is taken before the drained section";
        MirrorActiveClearsPartialChunk = "mirror-active-clears-partial-chunk",
            "an active write clears chunks that it covers in part";
        MirrorActiveOpsWaitCycle = "mirror-active-ops-wait-cycle",
            "a request that waited for one that overlaps it waits for those that came later, too";
        MirrorOpWaitsForItself = "mirror-op-waits-for-itself",
            "a copy without room in the buffer waits for any that is listed, itself included";
        MirrorCopiesOverlap = "mirror-copies-overlap", "a place is copied again while a copy of it is under way";
        MirrorDrainPollSaysIdle = "mirror-drain-poll-says-idle",
            "a mirror counts as at rest while no copy is under way";
        MirrorReadyTwiceAfterError = "mirror-ready-twice-after-error",
            "a mirror that is in sync again after an error says again that it is ready";
        MirrorActiveWriteStarvesBackground = "mirror-active-write-starves-background",
            "an active mirror copies only while no guest write is under way";
        MirrorSwitchesUndrained = "mirror-switches-undrained",
            "a copy mode takes effect while writes and copies of the old one are under way";
        MirrorTopCopiesNothing = "mirror-top-forgets-top",
            "what the top image holds when the mirror begins is not copied";
        MirrorBitmapTakenEarly = "mirror-bitmap-taken-early",
            "what an incremental mirror copies is read from its bitmap before the mirror records";
        MirrorFailsGuestUnmarked = "mirror-fails-guest-unmarked",
            "where a guest's write fails for the target's error, its place counts as copied";
        MirrorMarksBeforeIo = "mirror-marks-before-io", "a write is marked when it begins instead of when it ends";
        DrainSkipsInFlight = "drain-skips-in-flight", "a drained section begins without waiting for requests in flight";
        DrainEndForgetsParked = "drain-end-forgets-parked",
            "the end of a drained section does not wake the requests it parked";
        MirrorPivotSkipsFlush = "mirror-pivot-skips-flush", "the target is not flushed before the pivot";
        MirrorFilterSwallowsFlush = "mirror-filter-swallows-flush",
            "the mirror's filter answers a flush and does not pass it on";
        PivotKeepsFilterParent = "pivot-keeps-filter-parent",
            "the pivot leaves the retired filter attached to one of its parents";
        RequestEndSkipsFailed = "request-end-skips-failed",
            "a write that failed is not marked, though it may have changed the disk";
        WriteAcknowledgedEarly = "write-acknowledged-early",
            "a guest's write is acknowledged before it has ended";
        QueuedRequestCountsAsInFlight = "queued-request-counts-as-inflight",
            "a request that a drained section parks still counts as in flight";
        DrainEndsOnCurrentNode = "drain-holds-borrowed-node-across-wait",
            "the end of a drained section is applied to whatever was drained last";
        ChildSwapUndrainsParent = "child-swap-briefly-undrains-parent",
            "a parent that an edit leads elsewhere is let go before the drained section ends";
        BackendSubmitsDuringDrain = "backend-submits-during-drain",
            "a guest's request begins though what it reaches is drained";
        StoppedGuestsGoOn = "stopped-guests-go-on",
            "guests that are to stand still make requests";
        JobIgnoresDrainedNode = "attach-drained-child-without-waiting",
            "a job goes on though a node that it was attached to is drained";
        ReplaceNodeWithRequestsInside = "replace-node-with-requests-inside",
            "an edge is redirected when the drained section has ended already";
        DrainForgetsNewParents = "drain-recursion-over-mutating-graph",
            "a drained section parks what was above its nodes when it began, and nobody who comes later";
        FailedRequestLeaksInFlight = "failed-request-leaks-inflight", "a read that fails stays in flight";
        LimitsZeroedUnderIo = "limits-zeroed-under-io",
            "while anything is drained, requests elsewhere are placed as if nothing needed alignment";
        FailedFlushMarksClean = "failed-flush-marks-clean", "a flush that failed counts as done";
        FlushGenerationDeadlock = "flush-generation-deadlock",
            "whether a flush is under way is derived from two generations";
        GrowingZeroesDoNotSerialise = "write-beyond-eof-races-with-extending-zero",
            "zeroes behind the end of a file do not wait for the writes behind them";
        FuaLostOnWriteZeroes = "fua-lost-on-write-zeroes",
            "zeroes that are to be durable are not flushed where the driver cannot do both";
        CopyRangeSkipsRequestEnd = "copy-range-skips-request-end",
            "a copy neither marks its range nor makes the next flush necessary";
        TruncateLeavesBitmapLimit = "truncate-leaves-bitmap-search-limit",
            "a bitmap keeps its end when its node becomes longer";
        MergeLeavesCountStale = "merge-leaves-count-stale",
            "what a merge has set is not counted";
        ReopenReadOnlyDropsBitmaps = "reopen-ro-drops-bitmaps",
            "a node that becomes read-only loses its bitmaps";
        BitmapClearUndoneThoughNotDone = "bitmap-clear-undone-though-not-done",
            "a clear or an add that was refused is undone as if it had taken place";
        UnchangedReachesStorage = "unchanged-reaches-storage",
            "a copy that leaves a node's view as it is is said to leave that of the node's storage so, too";
        VanishingBitmap = "vanishing-bitmap",
            "a device's name stands for the bitmaps of the node below it, which a filter may take the place of";
        DeviceBitmapMissesDiscard = "device-bitmap-misses-discard",
            "a discard is not recorded in the bitmaps of its device";
        DeviceBitmapLostWithMedium = "device-bitmap-lost-with-medium",
            "the bitmaps of a device are taken away with its medium";
        DeviceBitmapMissesResize = "device-bitmap-misses-resize",
            "the bitmaps of devices keep their end when what the device shows becomes shorter";
        FollowOldVouched = "follow-old-vouched",
            "the image that bitmaps leave vouches for them still";
        FollowNewVouched = "follow-new-vouched",
            "the image that bitmaps come to vouches for them from the beginning";
        FollowAfterDrain = "follow-after-drain",
            "bitmaps move when guests go on already";
        FollowTakesPlaceForGranted = "follow-takes-place-for-granted",
            "a bitmap that has come to a node counts as stored with it, whether it can be or not";
        SnapshotSkipsFlush = "snapshot-skips-flush",
            "a node is not flushed before an overlay comes above it";
        TxnAbortSoftcancelsReadyPeer = "txn-abort-softcancels-ready-peer",
            "a job that is ready is cancelled softly when another of its transaction fails";
        TxnCancelledMemberCommits = "txn-cancelled-member-commits",
            "a job that had done its work keeps its promise though another of its transaction failed";
        TxnMemberRunsBeforePeersExist = "txn-member-runs-before-peers-exist",
            "each job of a transaction begins as if it were the only one";
        JobCompletionCallbackNotCounted = "job-completion-callback-not-counted",
            "a job counts as at rest from when its work is done until it has ended";
        DrainDoesNotWaitForJob = "drain-does-not-wait-for-job",
            "a drained section begins though a job has not come to rest";
        JobPausedWhileAsleepResumes = "job-paused-while-asleep-resumes",
            "a job that slept goes on though what it reaches was drained meanwhile";
        JobCancelUntold = "job-cancel-untold",
            "a job that was cancelled ends without an event";
        ThrottleMemberLeavesWithTimer = "throttle-member-leaves-with-timer",
            "a throttle whose turn it is in its group takes the turn with it when it is drained";
        ThrottleDrainedMemberWaitsForOthers = "throttle-drained-member-waits-for-others",
            "requests of a drained throttle wait for the turn of their member in the group";
        QuorumAnyChildIsEnough = "quorum-any-child-is-enough",
            "a quorum takes what any one child has done or says for what all have";
        QuorumFlushVoteBypassed = "quorum-flush-vote-bypassed",
            "a quorum's flush succeeds however many children fail";
        QuorumReadsWhoMissedWrite = "quorum-reads-who-missed-write",
            "a quorum reads from its first child, whatever writes that has missed";
        QuorumFlushForgetsFailedWrites = "quorum-flush-forgets-failed-writes",
            "a quorum's flush does not ask whether the children that flush have done the writes";
        DedupFreesBeforeFlush = "dedup-frees-before-flush",
            "a data cluster is used anew while entries on disk still refer to it";
        DedupEntryBeforeData = "dedup-entry-before-data",
            "entries of a dedup image are written before the data that they refer to is durable";
        DedupReadNotPinned = "dedup-read-not-pinned",
            "a data cluster is used anew while somebody is on the way to read it";
        DedupCopiesLate = "dedup-copies-late",
            "entries of a dedup image are copied after its data was flushed, with what was written meanwhile";
        DedupFailedFlushForgets = "dedup-failed-flush-forgets",
            "entries of a dedup image that could not be written are taken for written";
        DedupReleasesReferred = "dedup-releases-referred",
            "a data cluster is released after a flush though it was referred to anew meanwhile";
        BlklogwritesLogsFirst = "blklogwrites-logs-first",
            "writes are logged before they are done, and stay there if they fail";
        LuksErasedSlotKeepsKey = "luks-erased-slot-keeps-key",
            "a key slot that is erased is no longer named, and its key material stays where it is";
        UnopenedNodeUsed = "unopened-node-used",
            "edges lead to a node that is still being opened";
        BusyNodeNotRefused = "busy-node-not-refused",
            "what a job holds is given another place, or taken from its device";
        CompleteRefusedWhileDrained = "complete-refused-while-drained",
            "a job that is ready is not to be completed while what it reaches is drained";
        WitnessBeforeTargetFlush = "witness-before-target-flush",
            "the witness of a switch is set before the target is flushed";
        WitnessNotSynced = "witness-not-synced", "the witness of a switch is written and not flushed";
        GuestAdmittedBeforeWitness = "guest-admitted-before-witness",
            "a switch takes place, and guests go on, while its witness is still being flushed";
        UnknownWitnessResumesOnSource = "unknown-witness-resumes-on-source",
            "guests go on with the source though the witness may have been set";
        CommitRenamesBeforeFlush = "commit-renames-before-flush",
            "an overlay names the base as its backing file before the base is flushed";
        CommitForgetsTail = "commit-forgets-tail",
            "what a base has behind the end of the top that is committed to it is not hidden from longer overlays";
        CommitStatusOfTopOnly = "commit-status-of-top-only",
            "of several layers a commit copies what the top one holds";
        BackupRecopiesSavedClusters = "backup-recopies-saved-clusters",
            "what a backup copies at once is as long as it may be, whether it is saved already or not";
        FleecingReadOvertakesCbw = "fleecing-read-overtakes-cbw",
            "a guest's write does not wait for those who read what it overwrites as it was";
        TransactionMembersNotDrained = "transaction-members-not-drained",
            "each action of a transaction takes place in a drained section of its own";
        CbwDiscardNotIntercepted = "cbw-discard-not-intercepted",
            "what a discard takes away is not saved before";
        CbwReadWaitsOnSerialising = "cbw-read-waits-on-serialising-request",
            "what the hook of a write reads waits for writes that serialise";
        BackupPartialTargetCluster = "backup-partial-target-cluster",
            "what a backup copies may be smaller than what its target allocates at once";
        CbwTimeoutWraps = "cbw-timeout-wraps",
            "how long a guest's write waits for a backup is kept in 32 bits of nanoseconds";
        BackupLetsGoBeforeRead = "backup-lets-go-before-read",
            "a guest's write goes on when a worker begins to read what it overwrites";
        BackupReadsAgain = "backup-reads-again",
            "what could not be written to a backup's target is read again before it is tried again";
        BackupSkipsWithoutZeroes = "backup-skips-without-zeroes",
            "what is not there is left out of a backup, whatever the target holds";
        BackupSkipsFlush = "backup-skips-flush",
            "a backup ends before its target is flushed";
        BackupServesInItsOrder = "backup-serves-in-its-order",
            "what a guest waits for is saved when its turn comes";
        BackupRestsFromGuests = "backup-rests-from-guests",
            "while a backup rests, nobody saves what a guest waits for";
        BackupHolesHoldGuests = "backup-holes-hold-guests",
            "a guest's write waits until the zeroes are in the target that a backup has in place of what is not there";
        BackupFailedClearsBitmap = "backup-failed-clears-bitmap",
            "a backup that fails gives up what its bitmap said";
        BackupPivotLiteral = "backup-pivot-literal",
            "at the end of a backup the parents of its filter get the target";
        FleecingDiscardOvertakesRead = "fleecing-discard-overtakes-read",
            "what was saved is discarded while somebody reads it";
        StreamCompletionNotDrained = "stream-completion-not-drained",
            "the base that a stream leaves below its node is looked up before the drained section";
        CloseWithStreamRunning = "close-with-stream-running",
            "a stream that is cancelled ends while its requests are under way";
        StreamFreezesChainTooLate = "stream-freezes-chain-too-late",
            "a stream's chain is frozen when its job runs, and not in the publication in which it begins";
        StreamNamesBaseFirst = "stream-names-base-first",
            "an image names the base as its backing file before it has what was above that";
        StreamForgetsShortLayer = "stream-forgets-short-layer",
            "what a layer hides of the base behind its own end is not hidden when it is gone";
        GrowExposesBackingData = "grow-exposes-backing-data",
            "an overlay that was cut and grows again shows what its backing file has there";
        Qcow2ReftableBeforeBlocks = "qcow2-reftable-before-blocks",
            "a refcount table is written before the blocks that it refers to are durable";
        Qcow2L2BeforeReferred = "qcow2-l2-before-what-it-refers-to",
            "an L2 table is written before the refcounts and the data of what it refers to are durable";
        Qcow2EvictsL2Alone = "qcow2-evicts-l2-alone",
            "an L2 table that makes room for another is written without what it refers to";
        Qcow2FlushSkipsFile = "qcow2-flush-skips-file",
            "a flush writes the structures and does not flush the file";
        Qcow2FlushSkipsDataFile = "qcow2-flush-skips-data-file",
            "a flush makes the structures durable and not the external file with the data";
        Qcow2ReleasesBeforeFlush = "qcow2-releases-before-flush",
            "clusters are given back before it is durable that nothing refers to them";
        Qcow2ReleasesInUse = "qcow2-releases-in-use",
            "clusters are given back while requests that came before still use them";
        Qcow2WritesKeptInUse = "qcow2-writes-kept-in-use",
            "space that a zero cluster keeps is written while requests that found data there still use it";
        Qcow2CopiesWhatIsWritten = "qcow2-copies-what-is-written",
            "a write that fills subclusters copies the rest of one at its end that others write in place";
        Qcow2HeaderBeforeReferred = "qcow2-header-before-what-it-refers-to",
            "a header is written before the tables that it refers to are durable";
        Qcow2HeaderNotFlushed = "qcow2-header-not-flushed",
            "what a header referred to is given back before the new header is durable";
        Qcow2MadeNotFlushed = "qcow2-made-not-flushed",
            "an image is said to be made before it is durable";
        Qcow2HeaderForgotten = "qcow2-header-forgotten",
            "after a header was not written well, the one that is meant is not written again";
        Qcow2ReftableGrowsOverDirty = "qcow2-reftable-grows-over-dirty",
            "a refcount table moves while blocks that it refers to are in memory alone";
        Qcow2L1GrowsOverDirty = "qcow2-l1-grows-over-dirty",
            "an L1 table moves while refcounts and L2 tables that it needs are in memory alone";
        Qcow2GrowShowsBacking = "qcow2-grow-shows-backing",
            "an image is longer before what its backing file has there is hidden";
        Qcow2ShrinksOverDirty = "qcow2-shrinks-over-dirty",
            "a disk becomes shorter while what it loses is gone in memory alone";
        Qcow2SnapshotFreesFirst = "snapshot-delete-frees-before-unlink",
            "the refcounts of a snapshot are lowered before it is no longer listed";
        Qcow2SharesCopied = "qcow2-shares-copied",
            "a snapshot raises refcounts before it is durable that nobody writes in place";
        Qcow2SnapshotOverDirty = "qcow2-snapshot-over-dirty",
            "a header refers to new tables whose refcounts are in memory alone";
        Qcow2ZeroFreesFirst = "zero-frees-cluster-before-l2-update",
            "zeroes free the old cluster before the entry that refers to it is changed";
        Qcow2AbortFreesReused = "alloc-abort-frees-reused-cluster",
            "a write that fails frees its cluster even if an entry refers to it already";
        Qcow2DiscardExposesBacking = "discard-exposes-backing-file",
            "a discard leaves no mark though there is a backing file";
        Qcow2L2CowFreesFirst = "l2-cow-frees-old-table-first",
            "the refcount of a shared L2 table is lowered before its copy is linked";
        Qcow2LateDiscard = "pending-discard-hits-reused-cluster",
            "a cluster may be in use again while its discard is still under way";
        Qcow2ZeroesWiden = "zero-write-over-partial-backing-cluster",
            "zeroes over a part of a cluster that is zero below become those of the whole cluster";
        Qcow2BlockOverData = "refblock-allocated-over-data",
            "a new refcount block is put where clusters are being allocated";
        Qcow2WaitsWithTurn = "cache-reference-held-across-wait",
            "who waits for another's allocation keeps what others need";
        Qcow2BitmapsOverDirty = "qcow2-bitmaps-over-dirty",
            "a header refers to new bitmaps whose refcounts are in memory alone";
        Qcow2BitmapsFreedFirst = "qcow2-bitmaps-freed-first",
            "the clusters of old bitmaps are given back before it is durable that the header refers to new ones";
        Qcow2BitmapsDisownedLate = "qcow2-bitmaps-disowned-late",
            "a write begins before it is durable that the stored bitmaps are in use";
        BitmapStoreErrorFreesWrongClusters = "bitmap-store-error-frees-wrong-clusters",
            "when a bitmap's table cannot be written, clusters are given back by its entries in the other byte order";
        DisabledBitmapEnabledAfterReload = "disabled-bitmap-enabled-after-reload",
            "a stored bitmap that does not record does when it is loaded";
        Qcow2AmendsOverDirty = "qcow2-amends-over-dirty",
            "an entry that is amended refers to a cluster that is not durable yet";
        Qcow2CleansDirty = "qcow2-cleans-dirty",
            "what is not used is forgotten though it was not written";
        Qcow2RawRootNotMapped = "qcow2-raw-root-not-mapped",
            "an image over a file with data of its own is made without saying that they are there";
        Qcow2DiscardLooksAtBackingLength = "qcow2-discard-looks-at-backing-length",
            "what is discarded or zeroed behind the end of the backing file is left to that";
    }
}

/// A decision, its values, and what each means.
pub struct Decision {
    /// The key on the command line.
    pub key: &'static str,
    /// Value and meaning; the default first.
    pub values: Vec<(&'static str, &'static str)>,
}

/// Declares the decisions: the field of each, its values, the one by default, and its key on the command line.
macro_rules! decisions {
    ($($(#[$doc:meta])* $field:ident: $values:ident = $default:ident, $key:literal;)*) => {
        /// The decisions a world runs under.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Design {
            $($(#[$doc])* pub $field: $values,)*
            mutant: Option<Mutant>,
        }

        impl Default for Design {
            fn default() -> Self {
                Self { $($field: $values::$default,)* mutant: None }
            }
        }

        /// Every decision there is, for people to read.
        pub fn decisions() -> Vec<Decision> {
            let default = Design::default();
            let mut decisions = Vec::from([$(Decision {
                key: $key,
                values: $values::ALL.iter().map(|value| (value.word(), value.about())).collect(),
            },)*]);
            for decision in &mut decisions {
                let default = default.get(decision.key);
                decision.values.sort_by_key(|(word, _)| Some(*word) != default);
            }
            decisions
        }

        impl Design {
            /// Sets decision `key` to `value`, both as the command line has them.
            ///
            /// # Errors
            /// Names the keys or values there are; the design stays as it was.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), DesignError> {
                let named = |DesignError(why)| DesignError(alloc::format!("design {key}: {why}"));
                match key {
                    $($key => self.$field = value.parse().map_err(named)?,)*
                    _ => {
                        let keys = [$($key),*].join(", ");
                        return Err(DesignError(alloc::format!(
                            "there is no design decision '{key}'; there are {keys}"
                        )));
                    }
                }
                Ok(())
            }

            /// The word that decision `key` stands at.
            pub fn get(&self, key: &str) -> Option<&'static str> {
                match key {
                    $($key => Some(self.$field.word()),)*
                    _ => None,
                }
            }
        }
    };
}

decisions! {
    /// How edges are redirected.
    replace: Replace = Compare, "replace";
    /// What a pivot does with lower filters.
    pivot: Pivot = FilterParent, "pivot";
    /// The mirror's default copy mode.
    mirror: CopyMode = Passive, "mirror";
    /// Whose error it is if an active mirror's target fails.
    mirror_failure: MirrorFailure = Job, "mirror-failure";
    /// Whether a commit has a filter.
    commit: CommitNode = Filter, "commit";
    /// How a backup comes by what guests overwrite.
    backup: BackupWay = Workers, "backup";
    /// Whether a backup copies neighbours at once.
    backup_chunks: BackupChunks = Coalesced, "backup-chunks";
    /// Whether unchanged writes mark bitmaps.
    unchanged_marks: UnchangedMarks = No, "unchanged-marks";
    /// Whether stored bitmaps follow the data.
    bitmaps: StoredBitmaps = Stay, "bitmaps";
}

impl Design {
    /// Puts a known bug back.
    ///
    /// # Errors
    /// If this build has no mutants; the design stays as it was.
    pub fn set_mutant(&mut self, mutant: Mutant) -> Result<(), DesignError> {
        if !MUTANTS {
            return Err(DesignError("this build has no mutants".into()));
        }
        self.mutant = Some(mutant);
        Ok(())
    }

    /// The bug that was put back, if any.
    pub fn mutant(&self) -> Option<Mutant> {
        if MUTANTS { self.mutant } else { None }
    }

    /// Whether `mutant` is the bug that was put back; a constant `false` in builds without mutants.
    pub fn is_mutant(&self, mutant: Mutant) -> bool {
        self.mutant() == Some(mutant)
    }
}

/// Why a design was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesignError(pub String);

impl fmt::Display for DesignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for DesignError {}
