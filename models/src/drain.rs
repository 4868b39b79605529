//! Drained means quiet: from the moment a drained section is reached until it ends, nobody but its owner has a request
//! in a node that it covers. Where sections of two owners overlap, nobody has.

use crate::{Property, Violation};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// Sees requests and drained sections; begins without any.
#[derive(Default)]
pub struct DrainedMeansQuiet {
    /// How many requests, by node and requester; none of them 0.
    in_flight: BTreeMap<(u64, u64), usize>,
    sections: BTreeMap<u64, Section>,
}

struct Section {
    owner: u64,
    nodes: Vec<u64>,
}

impl DrainedMeansQuiet {
    /// Nothing in flight, nothing drained.
    pub fn new() -> Self {
        Self::default()
    }

    /// The drained section of `owner` over `nodes` reports that they are quiet.
    ///
    /// # Errors
    /// Somebody else still has a request there.
    pub fn begin(&mut self, section: u64, owner: u64, nodes: &[u64]) -> Result<(), Violation> {
        for ((node, requester), count) in &self.in_flight {
            if *requester != owner && nodes.contains(node) {
                return Err(Property::DrainedMeansQuiet.broken(format!(
                    "drained section {section} of {owner} began with {count} requests of {requester} in node {node}"
                )));
            }
        }
        let new = Section { owner, nodes: nodes.into() };
        assert!(self.sections.insert(section, new).is_none(), "section-ids-are-unique: {section}");
        Ok(())
    }

    /// The section ends; it need not have been reached.
    pub fn end(&mut self, section: u64) {
        self.sections.remove(&section);
    }

    /// `requester` has a request more in `node`.
    ///
    /// # Errors
    /// Somebody else's drained section covers the node.
    pub fn request_begins(&mut self, node: u64, requester: u64) -> Result<(), Violation> {
        *self.in_flight.entry((node, requester)).or_default() += 1;
        let holds = |section: &Section| section.owner != requester && section.nodes.contains(&node);
        match self.sections.iter().find(|(_, section)| holds(section)) {
            Some((section, Section { owner, .. })) => {
                Err(Property::DrainedMeansQuiet.broken(format!(
                    "a request of {requester} began in node {node}, which drained section {section} of {owner} holds"
                )))
            }
            None => Ok(()),
        }
    }

    /// `requester` has a request less in `node`.
    ///
    /// # Panics
    /// If it had none.
    pub fn request_ends(&mut self, node: u64, requester: u64) {
        let count = self.in_flight.get_mut(&(node, requester)).expect("a-request-that-ends-began");
        *count -= 1;
        if *count == 0 {
            self.in_flight.remove(&(node, requester));
        }
    }
}

#[cfg(test)]
mod tests;
