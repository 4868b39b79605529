//! The references of L2 tables, and the comparison of all references with the refcounts.

use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::pass::{Action, Pass, Uses};
use super::report::{Expected, Finding, Severity};
use super::tally::{MANY_MAX, Tally, mark};
use crate::entry::Entry;
use crate::error::ImageError;
use crate::meta::{count_in, entry_in, set_count_in};

/// Bits of a descriptor that mean nothing; with subclusters the lowest does neither.
const RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// Bytes: what a disk writes whole.
const SECTOR: usize = 512;

impl Pass<'_, '_> {
    /// Counts what the L2 table at `offset` refers to.
    pub(super) fn count_table(&mut self, tally: &mut Tally, offset: u64, uses: Uses, bytes: &[u8]) {
        let geometry = self.geometry;
        let reserved = RESERVED | u64::from(geometry.extended);
        let mut expected = None;
        // Clusters in a row are counted together: from `start` to the first of `run`, with the flag beside it.
        let (mut start, mut run) = (0, (0, 0));
        // The descriptor that would go on with it.
        let mut next = None;
        let is_counted = uses.is_active() && !self.quiet;
        for index in 0..geometry.l2_entries() {
            let entry = entry_in(bytes, index, &geometry);
            if entry == Entry::default() {
                continue;
            }
            // By far the most frequent: all that is looked at below was so of the entry before it.
            if let Some((descriptor, end)) = next
                && entry.descriptor == descriptor
                && end <= self.len
            {
                run.0 += 1;
                self.check.allocated_clusters += u64::from(is_counted);
                expected = Some(end);
                next = Some((descriptor + geometry.cluster(), end + geometry.cluster()));
                continue;
            }
            next = None;
            let place = offset + index * geometry.l2_entry();
            if entry.is_compressed() {
                expected = None;
                self.count_compressed(tally, place, uses, entry);
                continue;
            }
            if entry.descriptor & reserved != 0 {
                let said = Expected::Said("reserved bits that are 0");
                self.wrong("an L2 entry", place, entry.descriptor, said);
            }
            let host = entry.host(&geometry);
            if geometry.extended {
                self.judge_bitmap(place + 8, entry.bitmap, host.is_some());
            }
            let Some(host) = host else { continue };
            if is_counted {
                self.check.allocated_clusters += 1;
                let follows = expected.is_none_or(|expected| expected == host);
                self.check.fragmented_clusters += u64::from(!follows);
                expected = Some(host + geometry.cluster());
            }
            if geometry.external {
                let guest = uses.guest + index * geometry.cluster();
                self.judge_external(place, entry, host, (guest, uses.count));
                continue;
            }
            let cluster = geometry.cluster();
            if !self.follows("an L2 entry", place, entry.descriptor, host, cluster) {
                continue;
            }
            let flag = match (uses.is_active(), entry.is_own()) {
                (false, _) => 0,
                (true, true) => mark::OWN,
                (true, false) => mark::PLAIN,
            };
            let first = host >> geometry.cluster_bits;
            if run != (first, flag) {
                tally.add(start, run.0, mark::DATA | run.1, uses.count);
                start = first;
            }
            run = (first + 1, flag);
            let clean = entry.descriptor & reserved == 0 && !geometry.extended;
            let end = host + geometry.cluster();
            next = clean.then(|| (entry.descriptor + geometry.cluster(), end + geometry.cluster()));
        }
        tally.add(start, run.0, mark::DATA | run.1, uses.count);
    }

    /// "External data file bit": an entry of the data file's cluster at `host`.
    fn judge_external(&mut self, place: u64, entry: Entry, host: u64, (guest, uses): (u64, u32)) {
        let severity = Severity::Corruption;
        // Two entries of the L1 table cannot both be right.
        let (severity, said) = if host != guest || uses > 1 {
            (severity, "the guest's offset, as the data file is an external one")
        } else if self.data_len.is_some_and(|len| host >= len) {
            (severity, "inside the data file")
        } else if !entry.is_own() {
            (Severity::ClearFlag, "a COPIED flag, as no cluster of a data file is shared")
        } else {
            return;
        };
        let (structure, expected) = ("an L2 entry", Expected::Said(said));
        let found = entry.descriptor;
        self.tell(Finding { severity, structure, offset: place, found, expected });
    }

    /// "Extended L2 Entries".
    fn judge_bitmap(&mut self, place: u64, bitmap: u64, has_host: bool) {
        let (data, zero) = (bitmap & u64::from(u32::MAX), bitmap >> 32);
        if data & zero != 0 {
            let said = Expected::Said("data or zeroes, not both");
            self.wrong("a subcluster allocation bitmap", place, bitmap, said);
        } else if data != 0 && !has_host {
            let said = Expected::Said("no data without a cluster");
            self.wrong("a subcluster allocation bitmap", place, bitmap, said);
        }
    }

    fn count_compressed(&mut self, tally: &mut Tally, place: u64, uses: Uses, entry: Entry) {
        let geometry = self.geometry;
        if uses.is_active() && !self.quiet {
            self.check.allocated_clusters += 1;
            self.check.fragmented_clusters += 1;
            self.check.compressed_clusters += 1;
        }
        let structure = "a compressed cluster's L2 entry";
        if entry.is_own() {
            let said = Expected::Said("no COPIED flag");
            self.wrong(structure, place, entry.descriptor, said);
            self.needs.clear = true;
        }
        if entry.bitmap != 0 {
            let said = Expected::Said("0 for a compressed cluster");
            self.wrong("a subcluster allocation bitmap", place + 8, entry.bitmap, said);
        }
        if geometry.external {
            let said = Expected::Said("none where data are in a file of their own");
            return self.wrong(structure, place, entry.descriptor, said);
        }
        let data = entry.compressed(&geometry).expect("it-is-compressed");
        let inside =
            data.offset < self.len && data.offset + data.len < self.len + geometry.cluster();
        if !inside {
            return self.cannot_follow(structure, place, entry.descriptor, "inside the file");
        }
        let first = data.offset >> geometry.cluster_bits;
        let end = geometry.clusters_for(data.offset + data.len);
        tally.add(first, end, mark::DATA, uses.count);
    }

    /// Compares the references in a window with the refcounts, changes those if that is what the pass is for, and
    /// marks what repairs are needed. Returns the first cluster behind the window that is counted.
    pub(super) async fn compare(&mut self, tally: &mut Tally) -> Result<Option<u64>, ImageError> {
        let counts = self.geometry.block_counts();
        let first = tally.start / counts;
        let end = tally.end().div_ceil(counts);
        for index in first..end {
            let at = usize::try_from(index).ok();
            let block = at.and_then(|at| self.structures.blocks.get(at)).copied();
            self.compare_block(tally, index * counts, block.filter(|block| *block > 0)).await?;
        }
        let behind = usize::try_from(end).unwrap_or(usize::MAX);
        let next = self.structures.blocks.iter().skip(behind).position(|block| *block > 0);
        Ok(next.map(|skipped| (end + skipped as u64) * counts))
    }

    async fn compare_block(
        &mut self,
        tally: &mut Tally,
        first: u64,
        block: Option<u64>,
    ) -> Result<(), ImageError> {
        let cluster = self.geometry.cluster();
        let old = match block {
            Some(block) => self.file.read(ByteRange::new(block, cluster)).await?,
            None => blockyard_runtime::IoBuffer::default(),
        };
        self.told(first.saturating_mul(cluster).min(self.len))?;
        let order = self.geometry.refcount_order;
        let mut new: Option<Vec<u8>> = None;
        let mut last = None;
        for index in 0..self.geometry.block_counts() {
            let number = first + index;
            let stored = if block.is_some() { count_in(&old, index, order) } else { 0 };
            let marks = tally.marks(number);
            if stored == 0 && marks == 0 {
                continue;
            }
            last = Some(number);
            self.judge(tally, number, stored, marks);
            self.needs.rebuild |= block.is_none();
            if let Some(count) = self.changed(stored, u64::from(marks & MANY_MAX)) {
                let new = new.get_or_insert_with(|| old.to_vec());
                set_count_in(new, index, count, order);
            }
        }
        let end = last.map_or(0, |last| (last + 1).saturating_mul(cluster));
        self.check.image_end_offset = self.check.image_end_offset.max(end);
        match (block, new) {
            (Some(block), Some(new)) => self.write_changed(block, &old, &new).await,
            _ => Ok(()),
        }
    }

    /// What a refcount is to become.
    fn changed(&self, stored: u64, references: u64) -> Option<u64> {
        let raise = self.action == Action::Raise && stored < references;
        let lower = self.action == Action::Lower && stored > references;
        let count = references.min(self.geometry.refcount_max());
        ((raise || lower) && count != stored).then_some(count)
    }

    fn judge(&mut self, tally: &mut Tally, cluster: u64, stored: u64, marks: u32) {
        let references = u64::from(marks & MANY_MAX);
        let has = |mark: u32| marks & mark != 0;
        if stored == 1 && references == 1 && !has(mark::PLAIN) {
            return tally.mark(cluster, mark::SINGLE);
        }
        let offset = cluster << self.geometry.cluster_bits;
        let mut find = |severity, structure, expected| {
            self.tell(Finding { severity, structure, offset, found: stored, expected });
        };
        if marks & MANY_MAX == MANY_MAX {
            find(
                Severity::Corruption,
                "a refcount",
                Expected::Said("fewer references to its cluster"),
            );
        } else if stored < references {
            find(Severity::Corruption, "a refcount", Expected::Count(references));
        } else if stored > references {
            find(Severity::Leak, "a refcount", Expected::Count(references));
        }
        let shared = stored > 1 || references > 1;
        if has(mark::OWN) && shared {
            let said = Expected::Said("no COPIED flag where it is not 1");
            find(Severity::Corruption, "a refcount", said);
        }
        if has(mark::PLAIN) && stored == 1 && references == 1 {
            let said = Expected::Said("a COPIED flag where it is 1");
            find(Severity::ClearFlag, "a refcount", said);
        }
        let alone = has(mark::ALONE) && references > 1;
        let mixed = has(mark::TABLE) && has(mark::DATA);
        if alone || mixed {
            let said = Expected::Said("one structure in its cluster");
            find(Severity::Corruption, "a refcount", said);
        }
        self.check.check_errors += u64::from(marks & MANY_MAX == MANY_MAX);
        self.needs.unfollowed |= marks & MANY_MAX == MANY_MAX;
        // A table that is in another structure changes with it.
        self.needs.unfollowed |= alone && has(mark::TABLE);
        self.needs.raise |= stored < references;
        self.needs.clear |= has(mark::OWN) && shared;
        self.needs.rebuild |= alone && has(mark::REFCOUNTS);
        let copy = has(mark::DATA) && (alone || mixed || references > self.geometry.refcount_max());
        self.needs.copy |= copy;
        let single = stored == 1 && references == 1;
        tally.mark(cluster, if single { mark::SINGLE } else { mark::SHARED });
        if copy {
            tally.mark(cluster, mark::COPY);
        }
    }

    /// Writes the sectors in which `new`, which belongs at `offset`, differs from `old`.
    pub(super) async fn write_changed(
        &self,
        offset: u64,
        old: &[u8],
        new: &[u8],
    ) -> Result<(), ImageError> {
        for (index, (old, new)) in old.chunks(SECTOR).zip(new.chunks(SECTOR)).enumerate() {
            if old != new {
                let at = offset + (index * SECTOR) as u64;
                self.file.write(at, new.to_vec().into()).await?;
            }
        }
        Ok(())
    }
}
