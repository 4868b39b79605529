//! What a scenario needs of a world.

use std::sync::Arc;

use blockyard_models::Violation;
use blockyard_qmp::Files;
use blockyard_runtime::Runtime;
use blockyard_units::ByteLen;

/// What two disks hold, at one moment.
pub type Contents<'a> = (&'a [u8], &'a [u8]);

/// A world to play a scenario in.
pub trait World: Send + Sync {
    /// Tasks and time.
    fn runtime(&self) -> Runtime;

    /// Disks, by the names that the scenario gives them.
    fn files(&self) -> Arc<dyn Files>;

    /// A property is broken. A simulated world ends the run after the step.
    fn report(&self, property: &str, message: String);

    /// Shows what two disks hold now, if the world can; a simulated world reads them through the door.
    fn compare(
        &self,
        disks: (&str, &str),
        len: ByteLen,
        judge: &dyn Fn(Contents<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation>;
}
