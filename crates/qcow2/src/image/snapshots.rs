//! Internal snapshots: taking, applying, deleting and listing them.
//!
//! Invariant `shared-is-not-copied`: a COPIED flag is durably gone before the count of what it stands beside goes above
//! one, and comes back only when the count is durably one again.
//!
//! Nobody else uses the image meanwhile: the caller has drained the node.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use blockyard_units::{ByteRange, Mutant};

use super::Image;
use crate::check::Tally;
use crate::entry::L1Entry;
use crate::error::ImageError;
use crate::file::Files;
use crate::header::L1_MAX;
use crate::meta::{Looked, Table, Which, entry_in, table_bytes};
use crate::snapshot::{self, Parsed, Snapshot};

/// Clusters whose references are counted at once: 16 MiB of memory, for a file of 256 GiB.
const WINDOW: u64 = 4 << 20;

/// What people say of a snapshot that is to be taken.
#[derive(Clone, Debug, Default)]
pub struct NewSnapshot {
    /// What it is called.
    pub name: String,
    /// Seconds since 1970, and nanoseconds.
    pub date: (u32, u32),
    /// Nanoseconds that the guest had run.
    pub vm_clock_ns: u64,
}

/// Which way counts go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Up,
    Down,
}

impl Image {
    /// The snapshots, the oldest first.
    ///
    /// # Errors
    /// The file failed, or the table is wrong.
    ///
    /// # Yields
    /// As the file does.
    pub async fn snapshots(&self, files: &Files<'_>) -> Result<Vec<Snapshot>, ImageError> {
        Ok(self.read_snapshots(files).await?.0)
    }

    /// The same, and the bytes that the table takes.
    async fn read_snapshots(&self, files: &Files<'_>) -> Result<(Vec<Snapshot>, u64), ImageError> {
        let header = self.header();
        if header.snapshots == 0 {
            return Ok((Vec::new(), 0));
        }
        let mut len = 64 << 10;
        loop {
            let bytes = files.image.read(ByteRange::new(header.snapshots_offset, len)).await?;
            match snapshot::parse(&bytes, header.snapshots_offset, header.snapshots, header.size)? {
                Parsed::Whole(snapshots, used) => return Ok((snapshots, used as u64)),
                Parsed::More => len *= 4,
            }
        }
    }

    /// Keeps the guest's disk as it is now; returns the snapshot's id.
    ///
    /// # Errors
    /// There is one of that name, refcounts are too narrow, or the file failed: there is none then.
    ///
    /// # Yields
    /// As the file does.
    pub async fn create_snapshot(
        &self,
        files: &Files<'_>,
        new: NewSnapshot,
    ) -> Result<String, ImageError> {
        let turn = self.turn.lock().await;
        let result = self.create_in_turn(files, new).await;
        turn.unlock();
        result
    }

    async fn create_in_turn(
        &self,
        files: &Files<'_>,
        new: NewSnapshot,
    ) -> Result<String, ImageError> {
        if self.geometry.external {
            return unsupported("an image with an external data file has no internal snapshots");
        }
        let (snapshots, _) = self.read_snapshots(files).await?;
        if snapshots.iter().any(|snapshot| snapshot.name == new.name) {
            return unsupported(&format!("there is a snapshot '{}' already", new.name));
        }
        if new.name.is_empty() || new.name.len() > 255 {
            return unsupported("the name of a snapshot has 1 to 255 bytes");
        }
        self.flush_in_turn(files).await?;
        let l1 = self.meta.read(|meta| meta.l1.entries.clone());
        self.check_room(files, &l1).await?;
        let result = self.take(files, new, snapshots, &l1).await;
        if result.is_err() {
            // What is shared with nobody is to be known as that again.
            self.set_copied(files, true).await?;
        }
        result
    }

    async fn take(
        &self,
        files: &Files<'_>,
        new: NewSnapshot,
        mut snapshots: Vec<Snapshot>,
        l1: &[u64],
    ) -> Result<String, ImageError> {
        self.set_copied(files, false).await?;
        if !self.design.is_mutant(Mutant::Qcow2SharesCopied) {
            self.flush_in_turn(files).await?;
        }
        self.count_all(files, l1, By::Up).await?;
        let (header, shared) =
            self.meta.read(|meta| (meta.header.clone(), meta.l1.entries.clone()));
        let ids = snapshots.iter().filter_map(|snapshot| snapshot.id.parse::<u64>().ok());
        let id = (ids.max().unwrap_or(0) + 1).to_string();
        snapshots.push(Snapshot {
            id: id.clone(),
            name: new.name,
            date: new.date,
            vm_clock_ns: new.vm_clock_ns,
            vm_state_size: 0,
            disk_size: header.size,
            icount: u64::MAX,
            additional: Vec::new(),
            l1_offset: self.store(files, &table_bytes(&shared)).await?.unwrap_or(0),
            l1_entries: header.l1_entries,
        });
        self.replace_snapshots(files, &snapshots).await?;
        Ok(id)
    }

    /// Forgets a snapshot.
    ///
    /// # Errors
    /// There is none, or the file failed: it may be gone, with leaks.
    ///
    /// # Yields
    /// As the file does.
    pub async fn delete_snapshot(&self, files: &Files<'_>, which: &str) -> Result<(), ImageError> {
        let turn = self.turn.lock().await;
        let result = self.delete_in_turn(files, which).await;
        turn.unlock();
        result
    }

    async fn delete_in_turn(&self, files: &Files<'_>, which: &str) -> Result<(), ImageError> {
        let (mut snapshots, _) = self.read_snapshots(files).await?;
        let gone = snapshots.remove(position(&snapshots, which)?);
        self.flush_in_turn(files).await?;
        let l1 = self.read_l1(files, &gone).await?;
        // Only what is durably not listed any more loses its counts.
        let frees_first = self.design.is_mutant(Mutant::Qcow2SnapshotFreesFirst);
        if frees_first {
            self.count_all(files, &l1, By::Down).await?;
        }
        self.replace_snapshots(files, &snapshots).await?;
        if !frees_first {
            self.count_all(files, &l1, By::Down).await?;
        }
        self.release_range(files, gone.l1_offset, u64::from(gone.l1_entries) * 8).await?;
        self.take_for_own(files).await
    }

    /// Makes the guest's disk what it was when a snapshot was taken.
    ///
    /// # Errors
    /// There is none, or the file failed: the disk is as before, or as it was then; there may be leaks.
    ///
    /// # Yields
    /// As the file does.
    pub async fn apply_snapshot(&self, files: &Files<'_>, which: &str) -> Result<(), ImageError> {
        let turn = self.turn.lock().await;
        let result = self.apply_in_turn(files, which).await;
        turn.unlock();
        result
    }

    async fn apply_in_turn(&self, files: &Files<'_>, which: &str) -> Result<(), ImageError> {
        let (snapshots, _) = self.read_snapshots(files).await?;
        let snapshot = &snapshots[position(&snapshots, which)?];
        self.flush_in_turn(files).await?;
        let mut new = self.read_l1(files, snapshot).await?;
        let (header, old) = self.meta.read(|meta| (meta.header.clone(), meta.l1.entries.clone()));
        let needed = self.geometry.l1_needed(snapshot.disk_size);
        if needed * 8 > L1_MAX {
            return unsupported("the disk was longer than clusters of this size can map");
        }
        self.check_room(files, &new).await?;
        self.count_all(files, &new, By::Up).await?;
        // None of its tables is the disk's own.
        new.iter_mut().for_each(|entry| *entry = L1Entry(*entry).shared().0);
        new.resize(usize::try_from(needed.max(new.len() as u64)).expect("tables-are-in-memory"), 0);
        let offset = self.store(files, &table_bytes(&new)).await?.unwrap_or(0);
        if !self.design.is_mutant(Mutant::Qcow2SnapshotOverDirty) {
            self.write_back(files).await?;
        }
        let (size, entries) = (snapshot.disk_size, new.len());
        self.change_header(files, |header| {
            header.size = size;
            header.l1_offset = offset;
            header.l1_entries = u32::try_from(entries).expect("tables-are-in-memory");
        })
        .await?;
        self.meta.write(|meta| meta.l1 = Table::of(new));
        self.count_all(files, &old, By::Down).await?;
        self.release_range(files, header.l1_offset, u64::from(header.l1_entries) * 8).await?;
        self.take_for_own(files).await
    }

    /// What nobody else refers to any more is known as the disk's own. Needs no flush between the two: an entry is
    /// written only once all counts are durable.
    async fn take_for_own(&self, files: &Files<'_>) -> Result<(), ImageError> {
        self.set_copied(files, true).await?;
        self.flush_in_turn(files).await
    }

    /// The L1 table of a snapshot.
    async fn read_l1(&self, files: &Files<'_>, of: &Snapshot) -> Result<Vec<u64>, ImageError> {
        let len = u64::from(of.l1_entries) * 8;
        let fits = len <= L1_MAX && self.geometry.within(of.l1_offset) == 0;
        if !fits {
            let (structure, expected) = ("a snapshot's L1 table", "at most 32 MiB, at a cluster");
            return Err(ImageError::Corrupt {
                structure,
                offset: of.l1_offset,
                found: len,
                expected,
            });
        }
        Ok(Table::parse(&files.image.read(ByteRange::new(of.l1_offset, len)).await?).entries)
    }

    /// Writes a new table of snapshots and has the header refer to it; then the old one is given back.
    async fn replace_snapshots(
        &self,
        files: &Files<'_>,
        snapshots: &[Snapshot],
    ) -> Result<(), ImageError> {
        let (_, old_len) = self.read_snapshots(files).await?;
        let old = self.header().snapshots_offset;
        let offset = self.store(files, &snapshot::bytes(snapshots)).await?;
        if !self.design.is_mutant(Mutant::Qcow2SnapshotOverDirty) {
            self.write_back(files).await?;
        }
        self.change_header(files, |header| {
            header.snapshots = u32::try_from(snapshots.len()).expect("snapshots-are-few");
            header.snapshots_offset = offset.unwrap_or(0);
        })
        .await?;
        self.release_range(files, old, old_len).await
    }

    /// Writes bytes to clusters of their own; nowhere if there are none.
    async fn store(&self, files: &Files<'_>, bytes: &[u8]) -> Result<Option<u64>, ImageError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let clusters = self.geometry.clusters_for(bytes.len() as u64);
        let (host, _) = self.allocate(files, clusters, true).await?;
        let mut whole = bytes.to_vec();
        let len = clusters * self.geometry.cluster();
        whole.resize(usize::try_from(len).expect("tables-are-in-memory"), 0);
        files.image.write(host, whole.into()).await?;
        Ok(Some(host))
    }

    async fn release_range(
        &self,
        files: &Files<'_>,
        offset: u64,
        len: u64,
    ) -> Result<(), ImageError> {
        let first = offset / self.geometry.cluster();
        let mut clusters: Vec<u64> = (first..first + self.geometry.clusters_for(len)).collect();
        self.count_clusters(files, &mut clusters, By::Down).await
    }

    /// Whether every count covers the references from `l1`, and has room for as many more. They are counted for a
    /// window of the file's clusters at a time: a table that is referred to twice refers to everything twice.
    async fn check_room(&self, files: &Files<'_>, l1: &[u64]) -> Result<(), ImageError> {
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
            for cluster in start..tally.end() {
                match u64::from(tally.marks(cluster)) {
                    0 => {}
                    references => self.check_count(files, cluster, references).await?,
                }
            }
            match tally.beyond {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }

    /// Whether the refcount of `cluster` covers these references, and has room for as many more.
    async fn check_count(
        &self,
        files: &Files<'_>,
        cluster: u64,
        references: u64,
    ) -> Result<(), ImageError> {
        let count = self.count(files, cluster).await?;
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
    async fn count_all(&self, files: &Files<'_>, l1: &[u64], by: By) -> Result<(), ImageError> {
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
    async fn count_clusters(
        &self,
        files: &Files<'_>,
        clusters: &mut [u64],
        by: By,
    ) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        clusters.sort_unstable();
        for slice in
            clusters.chunk_by(|a, b| a / geometry.slice_counts() == b / geometry.slice_counts())
        {
            // Brings in the slice that has all of them.
            self.count(files, slice[0]).await?;
            self.meta.write(|meta| {
                for cluster in slice {
                    let Looked::Found(count) = meta.count(*cluster, geometry)? else {
                        unreachable!("a-slice-is-brought-in-whole")
                    };
                    let new = match by {
                        By::Up => count + 1,
                        By::Down => count.saturating_sub(1),
                    };
                    meta.set_count(*cluster, new, geometry)?;
                }
                Ok::<_, ImageError>(())
            })?;
        }
        Ok(())
    }

    /// Sets the flags of all that the disk refers to and nobody else does, or takes all flags away.
    async fn set_copied(&self, files: &Files<'_>, on: bool) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let entries = self.meta.read(|meta| meta.l1.entries.clone());
        for (index, entry) in (0_u64..).zip(entries).filter(|(_, entry)| *entry != 0) {
            let entry = L1Entry(entry);
            let Some(table) = entry.table() else { continue };
            if on && self.count(files, table / geometry.cluster()).await? != 1 {
                continue;
            }
            for cluster in 0..geometry.l2_entries() {
                let at = index * geometry.l1_reach() + cluster * geometry.cluster();
                self.set_copied_at(files, at, on).await?;
            }
            let new = if on { L1Entry::own(table) } else { entry.shared() };
            if new != entry {
                self.meta.write(|meta| meta.l1.set(index, new.0));
            }
        }
        Ok(())
    }

    async fn set_copied_at(&self, files: &Files<'_>, at: u64, on: bool) -> Result<(), ImageError> {
        let old = self.find(files, Which::L2, |meta| meta.entry(at, &self.geometry)).await?;
        let Some(host) = old.host(&self.geometry) else { return Ok(()) };
        let is_own = on && self.count(files, host / self.geometry.cluster()).await? == 1;
        if is_own == old.is_own() {
            return Ok(());
        }
        // The counts may have needed room, but not that of the L2 tables.
        let new = if is_own { old.own() } else { old.shared() };
        self.meta.write(|meta| meta.set_entry(at, new, &self.geometry))
    }
}

fn unsupported<T>(message: &str) -> Result<T, ImageError> {
    Err(ImageError::Unsupported(message.into()))
}

/// By id, or else by name.
fn position(snapshots: &[Snapshot], which: &str) -> Result<usize, ImageError> {
    let by_id = snapshots.iter().position(|snapshot| snapshot.id == which);
    let found = by_id.or_else(|| snapshots.iter().position(|snapshot| snapshot.name == which));
    found.ok_or_else(|| ImageError::Unsupported(format!("there is no snapshot '{which}'")))
}
