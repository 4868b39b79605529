//! The bitmaps that an image vouches for after a power loss, where they follow the data: whichever image it is, they
//! have what the guest was told is written.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use blockyard_models::qcow2::{Qcow2, Stopped};
use blockyard_models::{Durability, Violation};

use super::{Found, Judge, LeftOf, PowerLosses, Roots, Stop};

/// A bitmap: its name, bytes a granule, and the dirty granules.
pub(super) type Vouched = (String, u64, BTreeSet<u64>);

/// Judges all power losses, for one device and its bitmaps of these `names`: each has recorded all that was written.
/// Says how many states it looked at.
///
/// # Errors
/// One after which an image vouches for a bitmap that lacks a write.
pub(crate) fn judge_bitmaps<P: PowerLosses>(
    losses: &P,
    roots: &Roots,
    promised: &Durability,
    names: &BTreeSet<String>,
) -> Result<u64, Violation> {
    let mut disks = BTreeSet::new();
    roots.iter().for_each(|led| led.root.disks(&mut disks));
    let left: BTreeMap<&str, LeftOf<P::Left>> =
        disks.into_iter().map(|disk| (disk, LeftOf::disk(losses, disk))).collect();
    let judge = Judge { losses, promised, left: &left, states: Cell::new(0) };
    for disk in left.keys() {
        let mut breaches = Vec::new();
        judge.decide(&mut Vec::new(), &mut breaches, &|picked| {
            let mut bytes = |range| judge.read(disk, range, picked).ok();
            let mut vouched = || {
                let image = Qcow2::of(&mut bytes)?;
                let mut vouched = Vec::new();
                for bitmap in image.bitmaps(&mut bytes)? {
                    if !bitmap.in_use && bitmap.auto && names.contains(&bitmap.name) {
                        let dirty = image.dirty(&mut bytes, &bitmap)?;
                        vouched.push((bitmap.name, bitmap.granularity, dirty));
                    }
                }
                Ok(vouched)
            };
            match vouched() {
                Ok(vouched) => Ok(Some(Found::Vouched(vouched))),
                Err(Stopped::Unread(range)) => Err(Stop::Undecided(disk, range)),
                // It is no image, or wrong for whoever looks at its structures.
                Err(Stopped::Broken(_)) => Ok(None),
            }
        });
        if let Some(breach) = breaches.first()
            && let Some((loss, violation)) = judge.check(&breach.left, &breach.found)
        {
            let message = format!("{}; {disk}: {}", loss.when, violation.message);
            return Err(Violation { message, ..violation });
        }
    }
    Ok(judge.states.get())
}
