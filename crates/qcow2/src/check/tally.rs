//! How often the clusters of a part of the file are referred to, and by what: four bytes for each.

use alloc::vec;
use alloc::vec::Vec;

/// References that can be counted; more are as many.
pub const MANY_MAX: u32 = (1 << 23) - 1;

/// What is known of a cluster beside the number of its references.
pub mod mark {
    /// An entry of the active tables says that it is the only reference.
    pub const OWN: u32 = 1 << 31;
    /// Another one does not.
    pub const PLAIN: u32 = 1 << 30;
    /// A structure that is written in place: nothing else may be here.
    pub const ALONE: u32 = 1 << 29;
    /// Such a structure, with refcounts.
    pub const REFCOUNTS: u32 = 1 << 28;
    /// An L2 table.
    pub const TABLE: u32 = 1 << 27;
    /// Guest data.
    pub const DATA: u32 = 1 << 26;
    /// There is one reference, and the refcount is one.
    pub const SINGLE: u32 = 1 << 25;
    /// There are several, or the refcount says so.
    pub const SHARED: u32 = 1 << 24;
    /// Guest data that need a cluster of their own.
    pub const COPY: u32 = 1 << 23;
}

/// A window over the clusters of a file.
pub struct Tally {
    /// The first cluster in it.
    pub start: u64,
    marks: Vec<u32>,
    /// The first cluster behind it that something refers to.
    pub beyond: Option<u64>,
}

impl Tally {
    /// Over `count` clusters from `start` on.
    pub fn new(start: u64, count: usize) -> Self {
        Self { start, marks: vec![0; count], beyond: None }
    }

    /// One behind its last cluster.
    pub fn end(&self) -> u64 {
        self.start + self.marks.len() as u64
    }

    fn index(&self, cluster: u64) -> Option<usize> {
        let index = usize::try_from(cluster.checked_sub(self.start)?).ok()?;
        (index < self.marks.len()).then_some(index)
    }

    /// `uses` more references to each of the clusters from `first` up to `end`.
    pub fn add(&mut self, first: u64, end: u64, marks: u32, uses: u32) {
        if end > self.end() {
            let next = first.max(self.end());
            self.beyond = Some(self.beyond.map_or(next, |beyond| beyond.min(next)));
        }
        let (first, end) = (first.max(self.start), end.min(self.end()));
        if first >= end {
            return;
        }
        for known in &mut self.marks[(first - self.start) as usize..(end - self.start) as usize] {
            let count = (*known & MANY_MAX).saturating_add(uses).min(MANY_MAX);
            *known = *known & !MANY_MAX | marks | count;
        }
    }

    /// What is known of `cluster`; nothing outside of the window.
    pub fn marks(&self, cluster: u64) -> u32 {
        self.index(cluster).map_or(0, |at| self.marks[at])
    }

    /// More is.
    pub fn mark(&mut self, cluster: u64, marks: u32) {
        if let Some(at) = self.index(cluster) {
            self.marks[at] |= marks;
        }
    }
}
