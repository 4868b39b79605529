//! Says in words why a read returned what it may not. Judges nothing.

use super::{Data, GuestRegister, Kind, Op};
use crate::Violation;
use crate::data::writer;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl GuestRegister {
    /// `read` found the data `piece` at `at`, where only what is `permitted` may be.
    pub(super) fn not_permitted(
        &self,
        read: &Op,
        at: u64,
        piece: &[u8],
        permitted: &BTreeSet<Data>,
    ) -> Violation {
        let past = self.past.iter().map(|(op, _)| op);
        let writes = past.chain(&self.pending).filter(|op| op.kind != Kind::Read);
        let here = writes.clone().filter(|op| op.covers(at));
        let mut found = here.clone().map(|op| Data::of(op.tag));
        let found = found.rfind(|data| data.tag > 0 && data.matching_len(at, piece) > 0);
        let zeroes = Some(Data::of(0)).filter(|data| data.matching_len(at, piece) > 0);
        let what = if let Some(data) = found.or(zeroes) {
            format!("{} at offset {at}, {}", self.data_of(data), self.why_not(read, at, data.tag))
        } else if let Some((tag, from)) = piece.first_chunk().map(|word| writer(*word))
            && writes.clone().any(|op| op.tag == tag && op.covers(from))
        {
            format!("at offset {at} {} for offset {from}", self.data_of(Data::of(tag)))
        } else {
            format!("at offset {at} bytes that nobody wrote there")
        };
        let permitted: Vec<_> = permitted.iter().map(|data| self.data_of(*data)).collect();
        self.property.broken(format!(
            "read {} of {} at {} returned {what}; permitted there: {}",
            read.op,
            self.name,
            read.range,
            permitted.join(", ")
        ))
    }

    /// Why `read` may not find the data of `tag` at `at`.
    fn why_not(&self, read: &Op, at: u64, tag: u64) -> String {
        let here = self.past.iter().filter(|(op, _)| op.covers(at));
        let written = here.clone().rfind(|(op, _)| op.tag == tag);
        let written = written.map_or(0, |(_, outcome)| outcome.responded);
        let replaced = here.clone().find(|(op, outcome)| {
            outcome.certain && op.invoked > written && outcome.responded < read.invoked
        });
        match replaced {
            Some((by, _)) => format!("which {} had replaced before the read began", by.name()),
            None => "which no order of the operations permits after what earlier reads saw".into(),
        }
    }

    fn data_of(&self, data: Data) -> String {
        let mut ops = self.past.iter().map(|(op, _)| op).chain(&self.pending);
        let what = match ops.rfind(|op| op.kind != Kind::Read && op.tag == data.tag) {
            Some(write) if data.tag != 0 => format!("the data of {}", write.name()),
            _ => "zeroes".into(),
        };
        if data.shift == 0 { what } else { format!("{what}, copied by {:+}", data.shift) }
    }
}

impl Op {
    fn name(&self) -> String {
        match self.kind {
            Kind::Read => format!("read {}", self.op),
            Kind::Write => format!("write {}", self.op),
            Kind::WriteZeroes => format!("write zeroes {}", self.op),
            Kind::Discard => format!("discard {}", self.op),
            Kind::Copy { .. } => format!("copy {}", self.op),
            Kind::ByHand => format!("fill {}", self.tag),
        }
    }
}
