//! Whether what guests were promised to last is found after a power loss, at whatever moment it comes.
//!
//! Nothing is run after the loss: a raw disk needs no recovery, and whoever looks for a guest's data looks on the disk
//! that its device leads to, as of the last switch that was acknowledged; until the next is, that one's disk or a later
//! one may have them. So a loss is a violation if on each of these disks something is found that is too old.

use blockyard_models::{Durability, Violation};
use blockyard_units::ByteRange;

/// The power losses that may have come during a run.
pub trait PowerLosses {
    /// A range of a disk as one of them may leave it.
    type Left;

    /// All that may be left of a disk.
    fn left(&self, disk: &str) -> Vec<Self::Left>;

    /// Where that is, and its bytes.
    fn bytes<'a>(&self, left: &'a Self::Left) -> (ByteRange, &'a [u8]);

    /// The latest loss that leaves all of these, if one does.
    fn latest(&self, left: &[&Self::Left]) -> Option<PowerLoss>;
}

/// A power loss.
pub struct PowerLoss {
    /// Whether a step had happened before.
    pub happened: Box<dyn Fn(u32) -> bool>,
    /// When it was, for people.
    pub when: String,
}

/// The disks that a device has led to, in order; each with the step that acknowledged it.
pub(crate) type Roots = Vec<(String, Option<u32>)>;

/// Judges all power losses, for one device.
///
/// # Errors
/// One that leaves none of the disks with what the guest was promised.
pub(crate) fn judge<P: PowerLosses>(
    losses: &P,
    roots: &Roots,
    promised: &Durability,
) -> Result<(), Violation> {
    // Of each disk, what breaks a promise unless the loss came earlier.
    let broken: Vec<Vec<P::Left>> = roots
        .iter()
        .map(|(disk, _)| {
            let mut left = losses.left(disk);
            left.retain(|left| check(losses, promised, &[left], left).is_some());
            left
        })
        .collect();
    (0..roots.len()).try_for_each(|first| {
        let search = Search { losses, promised, broken: &broken, roots: &roots[first..] };
        search.all_broken(first, &mut Vec::new())
    })
}

fn check<P: PowerLosses>(
    losses: &P,
    promised: &Durability,
    all: &[&P::Left],
    one: &P::Left,
) -> Option<(PowerLoss, Violation)> {
    let loss = losses.latest(all)?;
    let (range, bytes) = losses.bytes(one);
    let violation = promised.check(range, bytes, &loss.happened).err()?;
    Some((loss, violation))
}

struct Search<'a, P: PowerLosses> {
    losses: &'a P,
    promised: &'a Durability,
    broken: &'a [Vec<P::Left>],
    /// The disks that are looked at.
    roots: &'a [(String, Option<u32>)],
}

impl<'a, P: PowerLosses> Search<'a, P> {
    /// Looks for something on each disk from `disk` on that breaks a promise, together with what is `picked`.
    fn all_broken(&self, disk: usize, picked: &mut Vec<&'a P::Left>) -> Result<(), Violation> {
        let Some(left) = self.broken.get(disk) else { return self.report(picked) };
        for left in left {
            picked.push(left);
            if self.losses.latest(picked).is_some() {
                self.all_broken(disk + 1, picked)?;
            }
            picked.pop();
        }
        Ok(())
    }

    fn report(&self, picked: &[&P::Left]) -> Result<(), Violation> {
        let Some(loss) = self.losses.latest(picked) else { return Ok(()) };
        if !self.roots[0].1.is_some_and(|step| (loss.happened)(step)) {
            return Ok(());
        }
        let mut message = loss.when;
        let mut found = None;
        for ((disk, _), left) in self.roots.iter().zip(picked) {
            // Together they may say that it came earlier, and that less was promised.
            let Some((_, violation)) = check(self.losses, self.promised, picked, left) else {
                return Ok(());
            };
            message = format!("{message}; {disk}: {}", violation.message);
            found = Some(violation);
        }
        found.map_or(Ok(()), |violation| Err(Violation { message, ..violation }))
    }
}
