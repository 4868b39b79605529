//! The options of `quorum`.

use alloc::format;
use alloc::vec::Vec;

use blockyard_drivers::{Quorum, QuorumOptions, ReadPattern};
use serde::Deserialize;
use serde::de::Error as _;

use super::{Child, General, Kind};
use crate::value::Reference;
use crate::visitor::{Mode, VisitError};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct QuorumWords {
    children: Vec<Reference>,
    vote_threshold: u64,
    blkverify: Option<bool>,
    rewrite_corrupted: Option<bool>,
    read_pattern: Option<ReadPatternWord>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadPatternWord {
    Quorum,
    Fifo,
}

/// Checks them.
pub(super) fn parse(words: QuorumWords, general: General, mode: Mode) -> Result<Kind, VisitError> {
    let count = words.children.len();
    let refused = |key: &'static str, said: &str| Err(VisitError::custom(said).within(key));
    let most = Quorum::CHILDREN.len();
    if count == 0 || count > most {
        return refused("children", &format!("there must be between 1 and {most}, not {count}"));
    }
    let threshold = usize::try_from(words.vote_threshold).ok();
    let threshold = threshold.filter(|votes| (1..=count).contains(votes));
    let Some(vote_threshold) = threshold else {
        let given = words.vote_threshold;
        let said = format!("must be between 1 and the number of children, {count}, not {given}");
        return refused("vote-threshold", &said);
    };
    let (blkverify, rewrite) = (words.blkverify, words.rewrite_corrupted);
    let (blkverify, rewrite) = (blkverify.unwrap_or(false), rewrite.unwrap_or(false));
    let fifo = matches!(words.read_pattern, Some(ReadPatternWord::Fifo));
    if blkverify && (count != 2 || vote_threshold != 2) {
        return refused("blkverify", "needs exactly two children and a vote-threshold of two");
    }
    if blkverify && rewrite {
        return refused("rewrite-corrupted", "is not possible with blkverify");
    }
    if fifo && (blkverify || rewrite) {
        return refused(
            "read-pattern",
            "fifo compares nothing: no blkverify, no rewrite-corrupted",
        );
    }
    let named = Quorum::CHILDREN.iter().zip(words.children);
    let children = named
        .map(|(key, reference)| Child::parse(key, Some(reference), general, mode))
        .collect::<Result<_, _>>()?;
    let read_pattern = if fifo { ReadPattern::Fifo } else { ReadPattern::Quorum };
    let options = QuorumOptions { vote_threshold, rewrite_corrupted: rewrite, read_pattern };
    Ok(Kind::Quorum { children, options })
}
