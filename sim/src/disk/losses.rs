//! What a power loss may leave, for judges who go by each atom on its own and need no recovery to be run.

use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::fate::{Claim, Cut, Fate};
use super::versions::Versions;
use super::{Medium, SimDisk};
use crate::world::World;

/// What a power loss at any moment of a run may leave: see [`World::power_losses`].
pub struct PowerLosses {
    fate: Fate,
    /// The first step that may not have happened.
    ready: usize,
    disks: Vec<Disk>,
}

struct Disk {
    name: alloc::string::String,
    versions: Versions,
    damaged: Vec<ByteRange>,
}

/// A range of a disk as a power loss may leave it.
#[derive(Clone, Debug)]
pub struct Left {
    /// Where.
    pub range: ByteRange,
    /// Its bytes.
    pub bytes: Vec<u8>,
    claim: Claim,
}

impl PowerLosses {
    /// All that may be left of the disk called `name`: of each atom each version, and what nobody wrote. Without ranges
    /// that faults have damaged.
    pub fn left(&self, name: &str) -> Vec<Left> {
        let Some(disk) = self.disks.iter().find(|disk| disk.name == name) else {
            return Vec::new();
        };
        let whole = |(range, bytes, claim)| Left { range, bytes, claim };
        let mut left: Vec<Left> = disk.versions.left(&self.fate).map(whole).collect();
        left.extend(disk.versions.unwritten().map(|range| {
            let (bytes, claim) = (disk.versions.read(range), Claim::default());
            Left { range, bytes, claim }
        }));
        left.retain(|left| !disk.damaged.iter().any(|damaged| damaged.overlaps(&left.range)));
        left.retain(|left| left.claim.never.iter().next().is_none_or(|step| step >= self.ready));
        left
    }

    /// Whether none of the losses comes before the end of this step.
    pub fn are_behind(&self, step: u32) -> bool {
        (step as usize) < self.ready
    }

    /// Whether this is of the time when nothing was lost, and says nothing about what may be found elsewhere.
    pub fn is_settled(&self, left: &Left) -> bool {
        let Claim { happened, never, kept, lost } = &left.claim;
        let undecided = [never, kept, lost].into_iter().any(|steps| steps.iter().next().is_some());
        !undecided && happened.iter().all(|step| step < self.ready)
    }

    /// What had happened before the power loss, if one may have left all of these: see [`Cut`].
    pub fn cut(&self, left: &[&Left]) -> Option<Cut> {
        let mut all = Claim::default();
        for left in left {
            if !all.permits(&left.claim) {
                return None;
            }
            all.join(&left.claim);
        }
        Some(self.fate.cut_of(&all))
    }
}

impl World {
    /// What a power loss at some moment of the run so far may have left, with none of it being decided: since no
    /// requests were spared any more. The run must have a budget of power losses, and none of it spent.
    pub fn power_losses(&self) -> PowerLosses {
        let ready = self.handle.mailbox.with(|mailbox| mailbox.ready) as usize;
        let mut fate = self.fate.clone();
        fate.lose_power();
        let disk = |disk: &SimDisk| {
            disk.medium.with(|Medium { versions, overlays, .. }| {
                let (mut versions, damaged) = (versions.clone(), overlays.damaged().to_vec());
                versions.end_era(&fate);
                Disk { name: (&*disk.name).into(), versions, damaged }
            })
        };
        let disks = self.disks.iter().map(disk).collect();
        PowerLosses { fate, ready, disks }
    }
}
