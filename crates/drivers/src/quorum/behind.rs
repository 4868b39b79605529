//! Which children have missed writes, and where: who reads what one child says must not ask them there.
//!
//! Not for: votes. There a child that missed a write is outvoted by those that did it.

use alloc::vec::Vec;

use blockyard_sync::Shared;
use blockyard_units::ByteRange;

use super::votes::Answers;

/// By child; it fills only where children fail.
#[derive(Default)]
pub(super) struct Behind(Shared<Vec<(&'static str, ByteRange)>>);

impl Behind {
    /// A write of `range` has ended so.
    pub fn note_write(&self, range: ByteRange, answers: &Answers<()>) {
        let all_did = answers.iter().all(|(_, answer)| answer.is_ok());
        if all_did && self.0.read(Vec::is_empty) {
            return;
        }
        self.0.write(|behind| {
            let whole = core::mem::take(behind);
            for (child, missed) in whole {
                let before = ByteRange::between(missed.start(), missed.end().min(range.start()));
                let after = ByteRange::between(missed.start().max(range.end()), missed.end());
                let left = [before, after].into_iter().filter(|part| !part.is_empty());
                behind.extend(left.map(|part| (child, part)));
            }
            let failed = answers.iter().filter(|(_, answer)| answer.is_err());
            behind.extend(failed.map(|(child, _)| (*child, range)));
        });
    }

    /// Whether the child has missed a write to some of `range`.
    pub fn is(&self, child: &str, range: ByteRange) -> bool {
        let missed =
            |(other, missed): &(&str, ByteRange)| *other == child && missed.overlaps(&range);
        self.0.read(|behind| behind.iter().any(missed))
    }

    /// Other children may have the names of those that were there.
    pub fn forget_all_but(&self, children: &[&'static str]) {
        self.0.write(|behind| behind.retain(|(child, _)| children.contains(child)));
    }
}
