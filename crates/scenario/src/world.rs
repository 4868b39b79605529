//! What a scenario needs of a world.

use std::sync::Arc;

use blockyard_models::Violation;
use blockyard_qmp::Files;
use blockyard_runtime::Runtime;
use blockyard_units::ByteLen;

/// What two disks hold, at one moment.
pub type Contents<'a> = (&'a [u8], &'a [u8]);

/// A point in a run that worlds may want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// A job's status changed; the first time, it was created.
    JobBegins,
    /// A job is in sync.
    JobReady,
    /// A mirror's pivot was published; its drained section still holds.
    Pivot,
    /// A job has completed or was cancelled.
    JobEnds,
}

/// A world to play a scenario in.
pub trait World: Send + Sync {
    /// Tasks and time.
    fn runtime(&self) -> Runtime;

    /// Disks, by the names that the scenario gives them.
    fn files(&self) -> Arc<dyn Files>;

    /// A property is broken. A simulated world ends the run after the step.
    fn report(&self, property: &str, message: String);

    /// Whether requests are spared from faults from now on: those of the setup, while nobody else is there.
    fn spare_requests(&self, _on: bool) {}

    /// The run came to a moment; told in the step in which it did.
    fn reached(&self, _moment: Moment) {}

    /// Virtual time, for measuring and without a footprint, where requests take some.
    fn observed_ns(&self) -> Option<u64> {
        None
    }

    /// The guest load has completed a write.
    fn load_wrote(&self) {}

    /// Whether guest I/O ends inside the drained section of a pivot, so that source and target stay as they are there.
    /// Exact only where one step ends before the next begins: on one thread.
    fn holds_at_pivot(&self) -> bool {
        false
    }

    /// Whether power may be lost; then [`Stage::judge_power_losses`](crate::Stage::judge_power_losses) is asked about
    /// it.
    fn may_lose_power(&self) -> bool {
        false
    }

    /// Whether faults have changed what a disk holds, and nobody was told: what is read there is then nobody's fault.
    fn damaged(&self) -> bool {
        false
    }

    /// The number of the running step, which says whether it came before a power loss.
    fn step(&self) -> u32 {
        0
    }

    /// Shows what two disks hold now, up to `len` or their ends, if the world can; a simulated world reads them through
    /// the door.
    fn compare(
        &self,
        disks: (&str, &str),
        len: ByteLen,
        judge: &dyn Fn(Contents<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation>;
}
