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

use super::{Caches, Image};
use crate::entry::L1Entry;
use crate::error::ImageError;
use crate::file::{Files, ImageFile};
use crate::header::L1_MAX;
use crate::meta::{By, Table, table_bytes};
use crate::snapshot::{self, Parsed, Snapshot};

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

/// What is done to an image's snapshots while it is in use.
#[derive(Clone, Debug)]
pub enum SnapshotChange {
    /// One is taken.
    Take(NewSnapshot),
    /// The first one is deleted that has this id and this name, as far as they are given.
    Delete {
        /// Its id.
        id: Option<String>,
        /// Its name.
        name: Option<String>,
    },
}

impl Image {
    /// Changes the list of snapshots; returns the one that is new, or gone.
    ///
    /// # Errors
    /// As those of [`create_snapshot`](Self::create_snapshot) and [`delete_snapshot`](Self::delete_snapshot).
    ///
    /// # Yields
    /// As the file does.
    pub async fn change_snapshots(
        &self,
        files: &Files<'_>,
        change: &SnapshotChange,
    ) -> Result<Snapshot, ImageError> {
        let turn = self.turn.lock().await;
        let result = self.change_list_in_turn(files, change).await;
        turn.unlock();
        result
    }

    async fn change_list_in_turn(
        &self,
        files: &Files<'_>,
        change: &SnapshotChange,
    ) -> Result<Snapshot, ImageError> {
        match change {
            SnapshotChange::Take(new) => {
                let id = self.create_in_turn(files, new.clone()).await?;
                let mut all = self.snapshots(files).await?;
                Ok(all.remove(position(&all, &id)?))
            }
            SnapshotChange::Delete { id, name } => {
                let is_meant = |snapshot: &Snapshot| {
                    id.as_ref().is_none_or(|id| *id == snapshot.id)
                        && name.as_ref().is_none_or(|name| *name == snapshot.name)
                };
                let found = self.snapshots(files).await?.into_iter().find(is_meant);
                let missing = || {
                    let said = id.iter().chain(name).map(String::as_str).collect::<Vec<_>>();
                    ImageError::Unsupported(format!("there is no snapshot '{}'", said.join("' '")))
                };
                let found = found.ok_or_else(missing)?;
                self.delete_in_turn(files, &found.id).await?;
                Ok(found)
            }
        }
    }

    /// The snapshots, the oldest first.
    ///
    /// # Errors
    /// The file failed, or the table is wrong.
    ///
    /// # Yields
    /// As the file does.
    pub async fn snapshots(&self, files: &Files<'_>) -> Result<Vec<Snapshot>, ImageError> {
        Ok(self.read_snapshots(files.image).await?.0)
    }

    /// The same, and the bytes that the table takes.
    pub(super) async fn read_snapshots(
        &self,
        file: ImageFile<'_>,
    ) -> Result<(Vec<Snapshot>, u64), ImageError> {
        let header = self.header();
        if header.snapshots == 0 {
            return Ok((Vec::new(), 0));
        }
        // Most have short names.
        let mut len = u64::from(header.snapshots) * 128;
        loop {
            let bytes = file.read(ByteRange::new(header.snapshots_offset, len)).await?;
            match snapshot::parse(&bytes, header.snapshots_offset, header.snapshots, header.size)? {
                Parsed::Whole(snapshots, used) => return Ok((snapshots, used as u64)),
                Parsed::More => len = (len * 4).min(snapshot::TABLE_MAX as u64),
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
        let (snapshots, _) = self.read_snapshots(files.image).await?;
        if snapshots.iter().any(|snapshot| snapshot.name == new.name) {
            return unsupported(&format!("there is a snapshot '{}' already", new.name));
        }
        if new.name.is_empty() || new.name.len() > 255 {
            return unsupported("the name of a snapshot has 1 to 255 bytes");
        }
        let l1 = self.meta.read(|meta| meta.l1.entries.clone());
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
        // Only now all that the tables refer to stands in the file.
        self.check_room(files, l1).await?;
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
            l1_offset: self.store(files, &table_bytes(&shared)).await?.start(),
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
        let (mut snapshots, _) = self.read_snapshots(files.image).await?;
        let gone = snapshots.remove(position(&snapshots, which)?);
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
        // Needs no flush before: an entry is written only once all counts are durable.
        self.set_copied(files, true).await
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
        if self.has_bitmaps() {
            return unsupported(
                "the image has bitmaps, which would not say what going back changed: remove them first",
            );
        }
        let (snapshots, _) = self.read_snapshots(files.image).await?;
        let snapshot = &snapshots[position(&snapshots, which)?];
        let mut new = self.disk_of(files, snapshot).await?;
        let (header, old) = self.meta.read(|meta| (meta.header.clone(), meta.l1.entries.clone()));
        self.check_room(files, &new).await?;
        self.count_all(files, &new, By::Up).await?;
        // None of its tables is the disk's own.
        new.iter_mut().for_each(|entry| *entry = L1Entry(*entry).shared().0);
        let offset = self.store(files, &table_bytes(&new)).await?.start();
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
        // Needs no flush before: an entry is written only once all counts are durable.
        self.set_copied(files, true).await
    }

    /// Opens the image in `file` read-only, with the guest's disk as it was when a snapshot was taken.
    ///
    /// # Errors
    /// As [`open`](Self::open); or there is no such snapshot.
    ///
    /// # Yields
    /// As the file does.
    pub async fn open_snapshot(
        node: &str,
        file: ImageFile<'_>,
        caches: Caches,
        which: &str,
    ) -> Result<Self, ImageError> {
        let image = Self::open(node, file, caches, true).await?;
        let files = Files { image: file, data: file, backing: None };
        let (snapshots, _) = image.read_snapshots(file).await?;
        let snapshot = &snapshots[position(&snapshots, which)?];
        let l1 = image.disk_of(&files, snapshot).await?;
        image.meta.write(|meta| {
            meta.header.size = snapshot.disk_size;
            meta.l1 = Table::of(l1);
        });
        Ok(image)
    }

    /// The L1 table of a snapshot, as long as its disk needs it.
    async fn disk_of(&self, files: &Files<'_>, of: &Snapshot) -> Result<Vec<u64>, ImageError> {
        let mut l1 = self.read_l1(files, of).await?;
        let needed = self.geometry.l1_needed(of.disk_size);
        if needed * 8 > L1_MAX {
            return unsupported("the disk was longer than clusters of this size can map");
        }
        l1.resize(usize::try_from(needed.max(l1.len() as u64)).expect("tables-are-in-memory"), 0);
        Ok(l1)
    }

    /// The L1 table of a snapshot.
    pub(super) async fn read_l1(
        &self,
        files: &Files<'_>,
        of: &Snapshot,
    ) -> Result<Vec<u64>, ImageError> {
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
    pub(super) async fn replace_snapshots(
        &self,
        files: &Files<'_>,
        snapshots: &[Snapshot],
    ) -> Result<(), ImageError> {
        let (_, old_len) = self.read_snapshots(files.image).await?;
        let old = self.header().snapshots_offset;
        let bytes = snapshot::bytes(snapshots);
        let offset = self.store(files, &bytes).await?.start();
        let table = ByteRange::new(offset, bytes.len() as u64);
        let kept = self.kept(files.image, snapshots, table).await?;
        if !self.design.is_mutant(Mutant::Qcow2SnapshotOverDirty) {
            self.write_back(files).await?;
        }
        self.change_header(files, |header| {
            header.snapshots = u32::try_from(snapshots.len()).expect("snapshots-are-few");
            header.snapshots_offset = offset;
        })
        .await?;
        self.meta.write(|meta| meta.kept = kept);
        self.release_range(files, old, old_len).await
    }

    /// Writes bytes to clusters of their own; returns where these are, which is nowhere if there are no bytes.
    pub(super) async fn store(
        &self,
        files: &Files<'_>,
        bytes: &[u8],
    ) -> Result<ByteRange, ImageError> {
        if bytes.is_empty() {
            return Ok(ByteRange::new(0, 0));
        }
        let cluster = self.geometry.cluster();
        let clusters = self.geometry.clusters_for(bytes.len() as u64);
        let (host, _) = self.allocate(files, clusters, true).await?;
        let taken = ByteRange::new(host, clusters * cluster);
        let mut whole = bytes.to_vec();
        whole.resize(taken.len().as_usize(), 0);
        let written = self.put(files, None, host, whole.into()).await;
        if written.is_err() {
            self.unallocate(files, host, clusters).await;
        }
        written.map(|()| taken)
    }

    pub(super) async fn release_range(
        &self,
        files: &Files<'_>,
        offset: u64,
        len: u64,
    ) -> Result<(), ImageError> {
        let first = offset / self.geometry.cluster();
        let mut clusters: Vec<u64> = (first..first + self.geometry.clusters_for(len)).collect();
        self.count_clusters(files, &mut clusters, By::Down).await
    }
}

pub(super) fn unsupported<T>(message: &str) -> Result<T, ImageError> {
    Err(ImageError::Unsupported(message.into()))
}

/// By id, or else by name.
fn position(snapshots: &[Snapshot], which: &str) -> Result<usize, ImageError> {
    let by_id = snapshots.iter().position(|snapshot| snapshot.id == which);
    let found = by_id.or_else(|| snapshots.iter().position(|snapshot| snapshot.name == which));
    found.ok_or_else(|| ImageError::Unsupported(format!("there is no snapshot '{which}'")))
}
