//! What tables refer to: counted, and flagged as the disk's own or as shared, a slice of counts or entries at a time.
//!
//! For who has the turn, and nobody else uses the image: the tables in the file are those in memory.

use alloc::format;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::Image;
use super::snapshots::unsupported;
use crate::check::Tally;
use crate::entry::L1Entry;
use crate::error::ImageError;
use crate::file::Files;
use crate::meta::{By, entry_in};

/// Clusters whose references are counted at once: 16 MiB of memory, for a file of 256 GiB.
const WINDOW: u64 = 4 << 20;
impl Image {
    /// Whether every count covers the references from `l1`, and has room for as many more. They are counted for a
    /// window of the file's clusters at a time: a table that is referred to twice refers to everything twice.
    pub(super) async fn check_room(&self, files: &Files<'_>, l1: &[u64]) -> Result<(), ImageError> {
        let clusters = self.geometry.clusters_for(files.image.len()?);
        let mut start = 0;
        loop {
            let window = clusters.saturating_sub(start).min(WINDOW);
            let mut tally = Tally::new(start, usize::try_from(window).expect("windows-are-small"));
            for entry in l1 {
                for cluster in self.references(files, L1Entry(*entry)).await? {
                    tally.add(cluster, cluster + 1, 0, 1);
                }
            }
            self.check_window(files, &tally).await?;
            match tally.beyond {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }

    /// The same for what was counted of one window, slice by slice.
    async fn check_window(&self, files: &Files<'_>, tally: &Tally) -> Result<(), ImageError> {
        let per_slice = self.geometry.slice_counts();
        let mut first = tally.start;
        while first < tally.end() {
            let end = tally.end().min((first / per_slice + 1) * per_slice);
            let referred = || (first..end).filter(|cluster| tally.marks(*cluster) > 0);
            if referred().next().is_some() {
                // Brings in the slice that has all of them.
                self.count(files, first).await?;
                self.meta.write(|meta| {
                    let counts = meta.counts_here(first, &self.geometry)?;
                    referred().try_for_each(|cluster| {
                        self.check_count(cluster, counts.of(cluster), tally.marks(cluster).into())
                    })
                })?;
            }
            first = end;
        }
        Ok(())
    }

    /// Whether the refcount of `cluster` covers these references, and has room for as many more.
    fn check_count(&self, cluster: u64, count: u64, references: u64) -> Result<(), ImageError> {
        if count < references {
            return Err(ImageError::Corrupt {
                structure: "a refcount",
                offset: cluster * self.geometry.cluster(),
                found: count,
                expected: "one for each reference to its cluster",
            });
        }
        if self.geometry.refcount_max() - count < references {
            let bits = 1 << self.geometry.refcount_order;
            return unsupported(&format!(
                "refcounts of {bits} bits have no room for one more snapshot: cluster {cluster} has {count} already"
            ));
        }
        Ok(())
    }

    /// Changes the counts of all that `l1` refers to.
    pub(super) async fn count_all(
        &self,
        files: &Files<'_>,
        l1: &[u64],
        by: By,
    ) -> Result<(), ImageError> {
        for entry in l1 {
            let mut clusters = self.references(files, L1Entry(*entry)).await?;
            self.count_clusters(files, &mut clusters, by).await?;
        }
        Ok(())
    }

    /// The clusters that an L1 entry refers to, directly and through its table, which is as it stands in the file.
    async fn references(&self, files: &Files<'_>, entry: L1Entry) -> Result<Vec<u64>, ImageError> {
        let geometry = &self.geometry;
        let Some(table) = entry.table() else { return Ok(Vec::new()) };
        let all = geometry.clusters_for(files.image.len()?);
        let check = |structure, offset, found, host: u64, len: u64| {
            let aligned = len != geometry.cluster() || geometry.within(host) == 0;
            let is_there = aligned && geometry.clusters_for(host.saturating_add(len)) <= all;
            let expected = "a place inside the file, at a cluster";
            if is_there {
                Ok(())
            } else {
                Err(ImageError::Corrupt { structure, offset, found, expected })
            }
        };
        check("an L1 entry", table, entry.0, table, geometry.cluster())?;
        let bytes = files.image.read(ByteRange::new(table, geometry.cluster())).await?;
        let mut clusters = alloc::vec![table / geometry.cluster()];
        for index in 0..geometry.l2_entries() {
            let entry = entry_in(&bytes, index, geometry);
            let at = table + index * geometry.l2_entry();
            if let Some(host) = entry.host(geometry) {
                check("an L2 entry", at, entry.descriptor, host, geometry.cluster())?;
                clusters.push(host / geometry.cluster());
            } else if let Some(data) = entry.compressed(geometry) {
                check("an L2 entry", at, entry.descriptor, data.offset, data.len)?;
                let last = (data.offset + data.len - 1) / geometry.cluster();
                clusters.extend(data.offset / geometry.cluster()..=last);
            }
        }
        Ok(clusters)
    }

    /// Changes the counts of clusters, one each time that it is named.
    pub(super) async fn count_clusters(
        &self,
        files: &Files<'_>,
        clusters: &mut [u64],
        by: By,
    ) -> Result<(), ImageError> {
        let per_slice = self.geometry.slice_counts();
        clusters.sort_unstable();
        for slice in clusters.chunk_by(|a, b| a / per_slice == b / per_slice) {
            // Brings in the slice that has all of them.
            self.count(files, slice[0]).await?;
            self.meta.write(|meta| meta.count_each(slice, by, &self.geometry))?;
        }
        Ok(())
    }

    /// Sets the flags of all that the disk refers to and nobody else does, or takes all flags away.
    pub(super) async fn set_copied(&self, files: &Files<'_>, on: bool) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let entries = self.meta.read(|meta| meta.l1.entries.clone());
        for (index, entry) in (0_u64..).zip(entries).filter(|(_, entry)| *entry != 0) {
            let entry = L1Entry(entry);
            let Some(table) = entry.table() else { continue };
            if on && self.count(files, table / geometry.cluster()).await? != 1 {
                continue;
            }
            for cluster in (0..geometry.l2_entries()).step_by(geometry.slice_entries() as usize) {
                let at = index * geometry.l1_reach() + cluster * geometry.cluster();
                self.set_copied_in_slice(files, at, on).await?;
            }
            let new = if on { L1Entry::own(table) } else { entry.shared() };
            if new != entry {
                self.meta.write(|meta| meta.l1.set(index, new.0));
            }
        }
        Ok(())
    }

    /// The same for the slice of an L2 table that begins with the entry for guest offset `at`.
    async fn set_copied_in_slice(
        &self,
        files: &Files<'_>,
        at: u64,
        on: bool,
    ) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        self.entry(files, at).await?;
        let hosts = self.meta.write(|meta| meta.hosts(at, geometry))?;
        let mut own = Vec::with_capacity(hosts.len());
        let per_slice = geometry.slice_counts();
        for near in hosts.chunk_by(|a, b| a / per_slice == b / per_slice).filter(|_| on) {
            self.count(files, near[0]).await?;
            self.meta.write(|meta| {
                let counts = meta.counts_here(near[0], geometry)?;
                own.extend(near.iter().map(|cluster| counts.of(*cluster) == 1));
                Ok::<_, ImageError>(())
            })?;
        }
        own.resize(hosts.len(), false);
        // The counts may have needed room, but not that of the L2 tables.
        self.meta.write(|meta| meta.set_copied(at, &own, geometry))
    }
}
