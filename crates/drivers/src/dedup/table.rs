//! The table in memory, and what follows from it: who refers to which data cluster, and what is free.
//!
//! It takes 32 bytes and a little more for each guest cluster, and some 150 for each data cluster in use.
//!
//! A data cluster is in one of these states:
//!
//! | state | entered | left |
//! |---|---|---|
//! | free | when opened; released and discarded; given back | taken |
//! | taken | for content that nobody has | settled, or given back |
//! | used | its content is written, and it has references | its last reference goes |
//! | unneeded | it has none any more, but an entry on disk may refer to it | referred to anew, or released |
//! | leaving | the disk does not refer to it, nobody reads it; it is being discarded | free |

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::format::{Digest, Entry, PER_SECTOR, Reference, put_entry};

/// A data cluster whose content is known.
#[derive(Clone, Copy, Debug)]
struct Used {
    digest: Digest,
    references: u64,
    /// Reads on their way to it.
    readers: u64,
}

/// Clusters that lie one behind the other, here and there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first guest cluster.
    pub guest: u64,
    /// The first data cluster.
    pub at: u64,
    /// How many.
    pub count: u64,
}

/// What a write has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Done,
    /// Write these, which are taken for it.
    Store(Run),
    /// Wait for space, if there will be any.
    Full,
}

/// Sectors of the table as they were at one moment.
#[derive(Default)]
pub struct Copied {
    /// By their index.
    pub sectors: BTreeMap<u64, Vec<u8>>,
    /// What no entry referred to then.
    pub unneeded: Vec<u64>,
}

/// See the file head.
#[derive(Default)]
pub struct Table {
    entries: Vec<Entry>,
    used: BTreeMap<u64, Used>,
    known: BTreeMap<Digest, u64>,
    unneeded: BTreeSet<u64>,
    free: BTreeSet<u64>,
    /// Behind it all clusters are free.
    end: u64,
    leaving: u64,
    /// Sectors that the disk does not have as they are here.
    dirty: BTreeSet<u64>,
}

impl Table {
    /// With these entries, as the disk has them.
    ///
    /// # Errors
    /// The index of an entry whose data cluster is said to hold something else by another.
    pub fn new(entries: Vec<Entry>) -> Result<Self, u64> {
        let mut table = Self { entries, ..Self::default() };
        for (index, entry) in (0..).zip(&table.entries) {
            let Some(Reference { at, digest }) = *entry else { continue };
            let new = Used { digest, references: 0, readers: 0 };
            let used = table.used.entry(at).or_insert(new);
            if used.digest != digest {
                return Err(index);
            }
            used.references += 1;
            table.known.entry(digest).or_insert(at);
        }
        let mut end = 0;
        for at in table.used.keys() {
            table.free.extend(end..*at);
            end = at + 1;
        }
        table.end = end;
        Ok(table)
    }

    fn entry(&mut self, guest: u64) -> &mut Entry {
        let index = usize::try_from(guest).expect("the-table-is-in-memory");
        &mut self.entries[index]
    }

    /// The beginning of `count` guest clusters, as far as they lie one behind the other; the data cluster of the
    /// first, or none for zeroes.
    pub fn look(&self, guest: u64, count: u64) -> (Option<u64>, u64) {
        let at = |index: u64| {
            let index = usize::try_from(guest + index).expect("the-table-is-in-memory");
            self.entries[index].map(|reference| reference.at)
        };
        let first = at(0);
        let goes_on = |index: &u64| at(*index) == first.map(|first| first + index);
        (first, 1 + (1..count).take_while(goes_on).count() as u64)
    }

    /// The same for all of them, each pinned: none is released before it is unpinned.
    pub fn pin(&mut self, guest: u64, count: u64) -> Vec<(Option<u64>, u64)> {
        let (mut runs, mut done) = (Vec::new(), 0);
        while done < count {
            let (at, len) = self.look(guest + done, count - done);
            for at in at.into_iter().flat_map(|at| at..at + len) {
                self.of_used(at).readers += 1;
            }
            runs.push((at, len));
            done += len;
        }
        runs
    }

    /// Their reader is done.
    pub fn unpin(&mut self, runs: &[(Option<u64>, u64)]) {
        for (at, len) in runs {
            for at in at.iter().flat_map(|at| *at..at + len) {
                self.of_used(at).readers -= 1;
            }
        }
    }

    fn of_used(&mut self, at: u64) -> &mut Used {
        self.used.get_mut(&at).expect("an-entry-refers-to-what-is-used")
    }

    /// Makes `guest` be what is in no cluster (zeroes) or in a used one.
    fn set(&mut self, guest: u64, entry: Entry) {
        let old = *self.entry(guest);
        if old == entry {
            return;
        }
        if let Some(Reference { at, .. }) = entry {
            self.of_used(at).references += 1;
            self.unneeded.remove(&at);
        }
        if let Some(Reference { at, .. }) = old {
            let used = self.of_used(at);
            used.references -= 1;
            if used.references == 0 {
                self.unneeded.insert(at);
            }
        }
        *self.entry(guest) = entry;
        self.dirty.insert(guest / PER_SECTOR);
    }

    /// Makes these guest clusters zeroes.
    pub fn clear(&mut self, guest: u64, count: u64) {
        for guest in guest..guest + count {
            self.set(guest, None);
        }
    }

    /// Sets what can be set without writing data of guest clusters from `guest` on, up to the first that cannot; for
    /// that, and those behind it as far as they lie together, takes clusters below `limit`, `longest` at most. Says how
    /// many were set as well.
    pub fn plan(
        &mut self,
        guest: u64,
        contents: &[Option<Digest>],
        (limit, longest): (u64, u64),
    ) -> (u64, Step) {
        let mut set = 0;
        for (guest, content) in (guest..).zip(contents) {
            let reference = match content {
                None => None,
                Some(digest) => match self.known.get(digest) {
                    Some(at) => Some(Reference { at: *at, digest: *digest }),
                    None => break,
                },
            };
            self.set(guest, reference);
            set += 1;
        }
        let new = contents.iter().skip(usize::try_from(set).expect("a-request-is-short"));
        let mut taken = BTreeSet::new();
        let mut run = Run { guest: guest + set, at: 0, count: 0 };
        for content in new {
            let Some(digest) = content else { break };
            if run.count == longest || self.known.contains_key(digest) || taken.contains(digest) {
                break;
            }
            let wanted = (run.count > 0).then_some(run.at + run.count);
            let Some(at) = self.take(wanted, limit) else { break };
            if run.count == 0 {
                run.at = at;
            }
            run.count += 1;
            taken.insert(*digest);
        }
        let step = match run.count {
            _ if set == contents.len() as u64 => Step::Done,
            0 => Step::Full,
            _ => Step::Store(run),
        };
        (set, step)
    }

    /// A free cluster below `limit`, this one if it has to be.
    fn take(&mut self, wanted: Option<u64>, limit: u64) -> Option<u64> {
        let lowest = || self.free.first().copied().filter(|at| *at < limit).unwrap_or(self.end);
        let at = wanted.unwrap_or_else(lowest);
        if at >= limit || !(self.free.remove(&at) || at == self.end) {
            return None;
        }
        self.end = self.end.max(at + 1);
        Some(at)
    }

    /// What was taken is written: `run`'s guest clusters have this content now. What somebody else has written
    /// meanwhile is not kept twice.
    pub fn settle(&mut self, run: Run, contents: &[Option<Digest>]) {
        for (index, digest) in (0..run.count).zip(contents.iter().flatten()) {
            let mut at = run.at + index;
            match self.known.get(digest) {
                Some(known) => {
                    self.free.insert(at);
                    at = *known;
                }
                None => {
                    self.known.insert(*digest, at);
                    self.used.insert(at, Used { digest: *digest, references: 0, readers: 0 });
                    // Until it is set.
                    self.unneeded.insert(at);
                }
            }
            self.set(run.guest + index, Some(Reference { at, digest: *digest }));
        }
    }

    /// What was taken is not needed: nothing refers to it, here or on disk.
    pub fn give_back(&mut self, at: u64, count: u64) {
        self.free.extend(at..at + count);
    }

    /// Whether there is something free below this cluster.
    pub fn has_free_below(&self, at: u64) -> bool {
        self.free.first().is_some_and(|free| *free < at)
    }

    /// Whether something is free once it is flushed.
    pub fn waits_for_flush(&self) -> bool {
        self.leaving > 0 || !self.unneeded.is_empty()
    }

    /// Whether a flush now makes something free.
    pub fn flush_releases(&self) -> bool {
        self.leaving > 0 || self.unneeded.iter().any(|at| self.used[at].readers == 0)
    }

    /// What nobody refers to any more, and an entry on disk may.
    pub fn unneeded(&self) -> Vec<u64> {
        self.unneeded.iter().copied().collect()
    }

    /// Copies what the disk has to be told, and takes it for told.
    pub fn copy(&mut self) -> Copied {
        let dirty = core::mem::take(&mut self.dirty);
        let copy = |sector: u64| (sector, self.sector(sector));
        let sectors = dirty.into_iter().map(copy).collect();
        Copied { sectors, unneeded: self.unneeded() }
    }

    fn sector(&self, sector: u64) -> Vec<u8> {
        let first = usize::try_from(sector * PER_SECTOR).expect("the-table-is-in-memory");
        let mut bytes = Vec::new();
        for entry in self.entries[first..].iter().take(PER_SECTOR as usize) {
            put_entry(*entry, &mut bytes);
        }
        bytes.resize(super::format::SECTOR as usize, 0);
        bytes
    }

    /// The disk was not told, or not for certain.
    pub fn keep_dirty(&mut self, copied: &Copied) {
        self.dirty.extend(copied.sectors.keys());
    }

    /// The disk refers to none of these any more. Says which leave: nobody refers to them here or reads them. `hasty`,
    /// for a mutant: references that came meanwhile are not seen.
    pub fn release(&mut self, unneeded: &[u64], hasty: bool) -> Vec<u64> {
        let mut leaving = Vec::new();
        for at in unneeded {
            let Some(used) = self.used.get(at).copied() else { continue };
            if (used.references > 0 && !hasty) || used.readers > 0 {
                continue;
            }
            self.used.remove(at);
            self.unneeded.remove(at);
            // The disk it was opened with may have had the content twice.
            if self.known.get(&used.digest) == Some(at) {
                self.known.remove(&used.digest);
            }
            leaving.push(*at);
        }
        self.leaving += leaving.len() as u64;
        leaving
    }

    /// They have left.
    pub fn free(&mut self, left: &[u64]) {
        self.leaving -= left.len() as u64;
        self.free.extend(left);
    }

    /// What holds at each moment, counted anew.
    ///
    /// # Panics
    /// With the name of what does not hold.
    #[cfg(test)]
    pub fn check_invariants(&self) {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for Reference { at, digest } in self.entries.iter().flatten() {
            *counts.entry(*at).or_default() += 1;
            assert_eq!(self.used[at].digest, *digest, "digests-agree");
        }
        for (at, used) in &self.used {
            assert_eq!(counts.get(at).copied().unwrap_or(0), used.references, "counts-agree: {at}");
            assert_eq!(used.references == 0, self.unneeded.contains(at), "unneeded: {at}");
            assert!(*at < self.end && !self.free.contains(at), "used-is-not-free: {at}");
        }
        assert!(self.free.iter().all(|at| *at < self.end), "free-has-an-end");
    }
}
