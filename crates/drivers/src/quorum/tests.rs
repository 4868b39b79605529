//! The arithmetic of votes.

use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_runtime::{IoBuffer, IoErrorKind};
use blockyard_units::ByteRange;

use super::Quorum;
use super::votes::{Answers, error, succeeded, winner};

/// A byte of its data, or what it met.
type Child = Result<u8, IoErrorKind>;
/// The byte, and how many have it.
type Winner = (u8, usize);

/// Each child's bytes, all the same; or its error.
fn answers(children: &[Child]) -> Answers<IoBuffer> {
    let answer = |child: &Child| match *child {
        Ok(byte) => Ok(IoBuffer::from(Vec::from([byte; 4]))),
        Err(kind) => {
            Err(BlockError::Io { kind, node: "child".into(), range: ByteRange::new(0, 4) })
        }
    };
    Quorum::CHILDREN.into_iter().zip(children.iter().map(answer)).collect()
}

#[test]
fn most_votes_win_and_the_first_of_as_many() {
    let failed = Err(IoErrorKind::Io);
    let cases: [(&[Child], Option<Winner>); 6] = [
        (&[Ok(1), Ok(1), Ok(1)], Some((1, 3))),
        (&[Ok(2), Ok(1), Ok(1)], Some((1, 2))),
        (&[Ok(1), Ok(2), Ok(2), Ok(1)], Some((1, 2))),
        (&[Ok(3), Ok(2), Ok(1)], Some((3, 1))),
        (&[failed, Ok(1), failed], Some((1, 1))),
        (&[failed, failed], None),
    ];
    for (children, expected) in cases {
        let answers = answers(children);
        assert_eq!(winner(&answers).map(|(data, votes)| (data[0], votes)), expected);
        let ok = children.iter().filter(|child| child.is_ok()).count();
        assert_eq!(succeeded(&answers), ok);
    }
}

#[test]
fn the_error_is_that_of_most_who_failed() {
    let (io, full) = (Err(IoErrorKind::Io), Err(IoErrorKind::NoSpace));
    assert_eq!(error(&answers(&[Ok(1), full, io, full])), IoErrorKind::NoSpace);
    assert_eq!(error(&answers(&[io, full])), IoErrorKind::Io);
    assert_eq!(error(&answers(&[Ok(1)])), IoErrorKind::Io, "they differ");
}
