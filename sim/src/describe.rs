//! Events in words, and as numbers for the run's hash. Both go by labels, which mean the same in every world.

use alloc::format;
use alloc::string::String;
use core::fmt;

use blockyard_runtime::Storage;
use blockyard_sync::door::Access;

use crate::event::{Action, Event, Kept};
use crate::footprint;
use crate::handle::Operation;
use crate::hash::Rolling;
use crate::process::State;
use crate::world::World;

impl World {
    /// Feeds the run's hash with the event and its footprint, by labels.
    pub(crate) fn hash(&mut self, event: Event, accesses: &[Access]) {
        let mut hash = Rolling::EMPTY;
        hash.feed(self.event_hash(event));
        accesses.iter().for_each(|access| hash.feed(self.access_hash(access)));
        self.step_hash = hash;
        self.rolling.feed(hash.0);
    }

    fn event_hash(&self, event: Event) -> u64 {
        let action = match event.action {
            Action::Poll => 1,
            Action::Effect => 2,
            Action::Complete => 4,
            Action::Fire => 5,
            Action::Fault(fault) => fault.number(),
            Action::Calm => 1 << 62,
            Action::End => 7,
            Action::Crash => 8,
            Action::Choose(alternative) => 1 << 32 | u64::from(alternative),
            Action::Keep(Kept { atom, version, over }) => {
                let mut hash = Rolling::EMPTY;
                hash.feed(atom);
                hash.feed(u64::from(version));
                hash.feed(over.map_or(0, |over| u64::from(over) + 1));
                hash.0
            }
        };
        self.paths.hash(event.path) ^ action
    }

    fn access_hash(&self, access: &Access) -> u64 {
        let mut hash = Rolling::EMPTY;
        match footprint::names_a_path(access.object) {
            Some(path) => hash.feed(self.paths.hash(path)),
            None => hash.feed(u64::from(access.object.creator)),
        }
        hash.feed(u64::from(access.object.index) << 8 | access.kind as u64);
        hash.feed(access.from);
        hash.feed(access.to);
        hash.0
    }

    /// The event in words; a tape's line.
    pub fn describe(&self, event: Event) -> String {
        let label = self.paths.label(event.path);
        match (&self.processes[event.process as usize].state, event.action) {
            (_, Action::End) => "end".into(),
            (_, Action::Crash) => "crash".into(),
            (State::Request { disk, operation, .. }, Action::Keep(kept)) => {
                let undecided = self.undecided(*disk, operation);
                let newest = undecided.expect("a-keep-decides-something").newest;
                let disk = self.disks[*disk as usize].name();
                format!("keep {label} {disk} {kept} of {newest}")
            }
            (State::Request { disk, operation, .. }, action) => {
                let (verb, how) = match action {
                    Action::Effect => ("effect", String::new()),
                    Action::Fault(fault) => fault.words(),
                    _ => ("complete", String::new()),
                };
                let disk = self.disks[*disk as usize].name();
                format!("{verb} {label} {disk} {}{how}", describe_operation(operation))
            }
            (_, Action::Fire) => format!("fire {label}"),
            (_, Action::Choose(alternative)) => format!("choose {label} {alternative}"),
            (_, Action::Calm) => "calm".into(),
            _ => format!("poll {label}"),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.atom, self.version)?;
        self.over.map_or(Ok(()), |over| write!(f, " over {over}"))
    }
}

fn describe_operation(operation: &Operation) -> String {
    match operation {
        Operation::Read(range) => format!("read {range}"),
        Operation::Write { offset, data, fua } => {
            format!("write {offset}+{}{}", data.len(), if *fua { " fua" } else { "" })
        }
        Operation::Flush { .. } => "flush".into(),
        Operation::Truncate { from, len, .. } if *from == len.0 => format!("truncate {len}"),
        Operation::Truncate { from, len, .. } => format!("zeroes from {from} up to {len}"),
    }
}
