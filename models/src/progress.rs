//! Progress: when faults and load have stopped and nothing is left to run, nothing is left over.

use crate::{Property, Violation};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What is left at the end.
#[derive(Clone, Debug, Default)]
pub struct EndState {
    /// Nodes with requests in flight, and how many.
    pub in_flight: Vec<(String, usize)>,
    /// Drained sections that did not end.
    pub sections: Vec<String>,
    /// Guest requests that still wait for the end of a drained section.
    pub parked: usize,
    /// Tasks and actors that can never run again.
    pub unfinished: Vec<String>,
    /// Jobs and their status.
    pub jobs: Vec<(String, String)>,
}

/// Stateless: looks once, at the end.
pub struct Progress;

impl Progress {
    /// Nothing may be left but jobs that have concluded.
    ///
    /// # Errors
    /// Everything that is.
    pub fn check(end: &EndState) -> Result<(), Violation> {
        let mut left = Vec::new();
        let busy = end.in_flight.iter().filter(|(_, count)| *count > 0);
        left.extend(busy.map(|(node, count)| format!("node {node} has {count} in flight")));
        left.extend(end.sections.iter().map(|section| format!("drained section {section} holds")));
        if end.parked > 0 {
            left.push(format!("{} guest requests are parked", end.parked));
        }
        left.extend(end.unfinished.iter().map(|task| format!("{task} can never run again")));
        let over = |status: &str| matches!(status, "concluded" | "null");
        let jobs = end.jobs.iter().filter(|(_, status)| !over(status));
        left.extend(jobs.map(|(job, status)| format!("job {job} is {status}")));
        if left.is_empty() {
            return Ok(());
        }
        Err(Property::Progress.broken(format!("at the end {}", left.join("; "))))
    }
}

#[cfg(test)]
mod tests;
