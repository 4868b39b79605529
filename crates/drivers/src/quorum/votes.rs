//! Counting votes.

use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_runtime::{IoBuffer, IoErrorKind};

/// What each child answered, in the children's order.
pub(super) type Answers<T> = Vec<(&'static str, Result<T, BlockError>)>;

/// The bytes that most children have, and how many that are: of versions with as many votes, that of the first child.
/// None if all failed.
pub(super) fn winner(answers: &Answers<IoBuffer>) -> Option<(&IoBuffer, usize)> {
    let mut versions: Vec<(&IoBuffer, usize)> = Vec::new();
    for data in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
        match versions.iter_mut().find(|(version, _)| version[..] == data[..]) {
            Some((_, votes)) => *votes += 1,
            None => versions.push((data, 1)),
        }
    }
    first_of_most(versions)
}

/// The error that most of those met that failed; the medium's, if none is the world's.
pub(super) fn error<T>(answers: &Answers<T>) -> IoErrorKind {
    let mut kinds: Vec<(IoErrorKind, usize)> = Vec::new();
    for error in answers.iter().filter_map(|(_, answer)| answer.as_ref().err()) {
        let kind = error.io_kind().unwrap_or(IoErrorKind::Io);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, votes)) => *votes += 1,
            None => kinds.push((kind, 1)),
        }
    }
    first_of_most(kinds).map_or(IoErrorKind::Io, |(kind, _)| kind)
}

/// How many succeeded.
pub(super) fn succeeded<T>(answers: &Answers<T>) -> usize {
    answers.iter().filter(|(_, answer)| answer.is_ok()).count()
}

fn first_of_most<T>(counted: Vec<(T, usize)>) -> Option<(T, usize)> {
    // The last of the largest is taken, and the first is meant.
    counted.into_iter().rev().max_by_key(|(_, votes)| *votes)
}
