//! The fuzz target's body over bytes from a seed.

use blockyard_fuzz::{PLAN_BYTES, check, run};
use blockyard_sim::Verdict;
use blockyard_units::{Design, Mutant};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// As many different inputs, of every length that matters.
fn inputs(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = vec![0; PLAN_BYTES + 200];
        random.fill_bytes(&mut bytes);
        let length = match seed % 4 {
            0 => random.next_u32() as usize % PLAN_BYTES,
            1 => PLAN_BYTES,
            _ => bytes.len(),
        };
        bytes.truncate(length);
        bytes
    })
}

#[test]
fn any_bytes_are_a_clean_run_and_always_the_same() {
    check(&[]);
    for bytes in inputs(200) {
        check(&bytes);
        assert_eq!(run(&bytes, Design::default()), run(&bytes, Design::default()));
    }
}

#[test]
fn bytes_find_a_mutant() {
    let mut design = Design::default();
    design.set_mutant(Mutant::MirrorActiveClearsPartialChunk).expect("this build has mutants");
    let found = inputs(2000).position(|bytes| {
        let (_, exploration) = run(&bytes, design);
        matches!(exploration.verdict, Verdict::Violated { finding, .. }
            if finding.property == "mirror-convergence")
    });
    assert!(found.is_some(), "2000 inputs find nothing");
    println!("input {found:?}");
}
