//! Tests.

use super::*;
use alloc::vec;

fn message(outcome: Result<(), Violation>) -> Option<alloc::string::String> {
    outcome.err().map(|violation| violation.message)
}

#[test]
fn at_the_pivot_the_target_equals_the_source_over_its_length() {
    for (source, target, len, expected) in [
        (&[1, 2, 3][..], &[1, 2, 3][..], 3, None),
        (&[1, 2, 3], &[1, 2, 3, 9], 3, None),
        (&[1, 2, 3, 8], &[1, 2, 3, 9], 3, None),
        (&[1, 2, 3], &[1, 7, 7], 3, Some("at the pivot source and target differ at offset 1")),
        (&[1, 2, 3], &[1, 2], 3, Some("the target ends at 2, the source at 3")),
    ] {
        let outcome = MirrorConvergence::check(source, target, ByteLen(len));
        assert_eq!(message(outcome).as_deref(), expected);
    }
}

#[test]
fn a_completed_active_write_is_on_both_or_marked() {
    // Bytes 6..14 with chunks of 4: the chunks at 4 and 12 are covered in part.
    let check = |differing: &[usize], marked: &[u64]| {
        let mut target = vec![1; 8];
        differing.iter().for_each(|at| target[*at - 6] = 2);
        message(MirrorConvergence::check_active(&ActiveWrite {
            range: ByteRange::new(6, 8),
            source: &[1; 8],
            target: &target,
            dirty: &|chunk| marked.contains(&chunk),
            granularity: ByteLen(4),
        }))
    };
    assert_eq!(check(&[], &[]), None);
    assert_eq!(check(&[6, 7, 13], &[4, 12]), None);
    for (differing, marked, chunk) in
        [(&[7][..], &[][..], 4), (&[7, 9], &[4], 8), (&[13], &[0, 4, 8, 16], 12)]
    {
        let at = differing.last().expect("some byte differs");
        let expected = alloc::format!(
            "the write at 6+8 is not on the target at offset {at}, and chunk {chunk}+4 is not marked"
        );
        assert_eq!(check(differing, marked), Some(expected));
    }
}
