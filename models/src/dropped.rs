//! What the end of a job leaves without a device stays so: no other job's end brings it back. Commands may.

use crate::{Property, Violation};
use alloc::collections::BTreeSet;
use alloc::format;

#[cfg(test)]
mod tests;

/// Sees which nodes devices reach; begins without any.
#[derive(Default)]
pub struct DroppedStaysAway {
    dropped: BTreeSet<u64>,
    reached: BTreeSet<u64>,
}

impl DroppedStaysAway {
    /// Nothing is reached.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on devices reach these nodes; a job made it so at its end, or else a command.
    ///
    /// # Errors
    /// A job has brought back what another had dropped.
    pub fn observe(&mut self, reached: BTreeSet<u64>, job_ends: bool) -> Result<(), Violation> {
        let back = reached.iter().find(|node| self.dropped.contains(node));
        if let (Some(node), true) = (back, job_ends) {
            let message =
                format!("the end of a job brings back node {node}, which another had dropped");
            return Err(Property::GraphValidity.broken(message));
        }
        self.dropped.retain(|node| !reached.contains(node));
        let last = core::mem::replace(&mut self.reached, reached);
        if job_ends {
            self.dropped.extend(last.difference(&self.reached));
        }
        Ok(())
    }
}
