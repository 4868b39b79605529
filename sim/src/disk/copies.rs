//! Ranges that hold the same data: of each group one copy stays good.

use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::SimDisk;
use super::faults::Fault;
use super::versions::outside;
use crate::handle::Operation;

/// Groups of copies; a copy is a disk's number and a range, and those of a group have one length.
#[derive(Default)]
pub(crate) struct Copies(Vec<Vec<(u32, ByteRange)>>);

impl Copies {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn declare(&mut self, group: Vec<(u32, ByteRange)>) {
        self.0.push(group);
    }

    /// Whether each byte of each group stays good on one of its copies if this fault hits this request.
    pub fn permit(
        &self,
        disks: &[SimDisk],
        disk: u32,
        operation: &Operation,
        fault: Fault,
    ) -> bool {
        if self.0.is_empty() || !fault.damages(operation) {
            return true;
        }
        let hits = fault.hits(operation);
        let survives = |group: &Vec<(u32, ByteRange)>| {
            let touched = |(number, place): &(u32, ByteRange)| {
                *number == disk && hits.iter().any(|hit| hit.overlaps(place))
            };
            !group.iter().any(touched) || !all_bad(disks, group, (disk, &hits))
        };
        self.0.iter().all(survives)
    }
}

/// Whether some byte would be bad on every copy.
fn all_bad(
    disks: &[SimDisk],
    group: &[(u32, ByteRange)],
    (disk, hits): (u32, &[ByteRange]),
) -> bool {
    let mut bad: Option<Vec<ByteRange>> = None;
    for (number, place) in group {
        // Relative to the copy's beginning, so that copies compare.
        let mut good = Vec::from([ByteRange::new(0, place.len().0)]);
        let mut lose = |hit: &ByteRange| {
            let common = hit.intersection(place);
            if !common.is_empty() {
                let hole = ByteRange::new(common.start() - place.start(), common.len().0);
                good = good.drain(..).flat_map(|part| outside(part, hole)).collect();
            }
        };
        disks[*number as usize].damaged(|damaged| damaged.iter().for_each(&mut lose));
        if *number == disk {
            hits.iter().for_each(lose);
        }
        let mut here = bad.unwrap_or_else(|| Vec::from([ByteRange::new(0, place.len().0)]));
        for part in good {
            here = here.into_iter().flat_map(|range| outside(range, part)).collect();
        }
        bad = Some(here);
    }
    bad.is_some_and(|bad| !bad.is_empty())
}
