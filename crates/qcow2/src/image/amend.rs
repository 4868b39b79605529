//! What becomes of an image's structures when it is amended; see the room of that name.
//!
//! An image of version 2 has no zero clusters: before it becomes one, each gets a cluster full of zeroes, or nothing
//! where nothing shows through. Entries are changed where they stand, by whoever refers to the table too: they all see
//! zeroes there, before and after.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use blockyard_block::BackingFile;
use blockyard_units::{ByteRange, Mutant};

use super::Image;
use crate::amend::AmendOptions;
use crate::entry::{COPIED, Entry, Kind, L1Entry};
use crate::error::ImageError;
use crate::file::Files;
use crate::header::{Header, extension};
use crate::meta::entry_in;
use crate::overlap::Structure;

impl Image {
    /// Changes the header. Nobody else uses the image.
    pub(crate) async fn amend_header(
        &self,
        files: &Files<'_>,
        change: impl FnOnce(&mut Header),
    ) -> Result<(), ImageError> {
        let turn = self.turn.lock().await;
        let mut after = self.header();
        change(&mut after);
        let changed = match after == self.header() {
            true => Ok(()),
            false => self.change_header(files, |header| *header = after).await,
        };
        turn.unlock();
        changed
    }

    /// Names another backing file.
    pub(crate) async fn set_backing_file(
        &self,
        files: &Files<'_>,
        file: &BackingFile,
    ) -> Result<(), ImageError> {
        let BackingFile { name, format } = file.clone();
        let backing_fmt = Some(format.unwrap_or_default());
        let options =
            AmendOptions { backing_file: Some(name), backing_fmt, ..AmendOptions::default() };
        self.amend_header(files, |header| options.put_into(header)).await
    }

    /// Makes it an image of version 3. It is to be opened anew then.
    pub(crate) async fn upgrade(&self, files: &Files<'_>) -> Result<(), ImageError> {
        let turn = self.turn.lock().await;
        let result = self.upgrade_in_turn(files).await;
        turn.unlock();
        result
    }

    async fn upgrade_in_turn(&self, files: &Files<'_>) -> Result<(), ImageError> {
        // "Snapshots": version 3 needs extra data, which are written always.
        let (snapshots, _) = self.read_snapshots(files.image).await?;
        if !snapshots.is_empty() {
            self.replace_snapshots(files, &snapshots).await?;
        }
        self.change_header(files, |header| header.version = 3).await
    }

    /// Whether it can become one of version 2, with a disk of `size` bytes.
    pub(crate) async fn check_downgrade(
        &self,
        files: &Files<'_>,
        size: u64,
    ) -> Result<(), ImageError> {
        let (snapshots, _) = self.read_snapshots(files.image).await?;
        let small = |state: u64| u32::try_from(state).is_ok();
        let fits = |of: &crate::Snapshot| of.disk_size == size && small(of.vm_state_size);
        match snapshots.iter().find(|snapshot| !fits(snapshot)) {
            Some(snapshot) => Err(ImageError::Unsupported(alloc::format!(
                "snapshot '{}' has a disk of another length or a large state, which compat=0.10 cannot say",
                snapshot.name
            ))),
            None => Ok(()),
        }
    }

    /// Makes it an image of version 2. It is to be closed then, and opened anew.
    pub(crate) async fn downgrade(&self, files: &Files<'_>) -> Result<(), ImageError> {
        let turn = self.turn.lock().await;
        let result = self.downgrade_in_turn(files).await;
        turn.unlock();
        result
    }

    async fn downgrade_in_turn(&self, files: &Files<'_>) -> Result<(), ImageError> {
        // Tables are changed on the disk below.
        self.write_back(files).await?;
        let mut tables = BTreeSet::new();
        let mut add = |l1: &[u64]| tables.extend(l1.iter().filter_map(|e| L1Entry(*e).table()));
        add(&self.meta.read(|meta| meta.l1.entries.clone()));
        for snapshot in &self.read_snapshots(files.image).await?.0 {
            add(&self.read_l1(files, snapshot).await?);
        }
        for table in tables {
            self.expand_table(files, table).await?;
        }
        self.change_header(files, |header| {
            header.version = 2;
            (header.incompatible, header.compatible, header.autoclear) = (0, 0, 0);
            header.additional.clear();
            header.extensions.retain(|found| found.kind != extension::FEATURE_NAMES);
        })
        .await
    }

    /// Makes the zero clusters of an L2 table something else that reads as zeroes.
    async fn expand_table(&self, files: &Files<'_>, table: u64) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let cluster = geometry.cluster();
        let place = ByteRange::new(table, cluster);
        let mut bytes = files.image.read(place).await?.to_vec();
        let uses = self.count(files, table / cluster).await?;
        let shows = self.meta.read(|meta| meta.header.backing.is_some());
        let (mut changed, mut freed) = (false, Vec::new());
        for index in 0..geometry.l2_entries() {
            let old = entry_in(&bytes, index, geometry);
            let at = index * geometry.l2_entry();
            let Kind::Zero(host) = old.kind(0, geometry, table + at)? else { continue };
            let new = if shows { self.zero_cluster(files, uses).await? } else { Entry::default() };
            freed.extend(host.map(|host| host / cluster));
            let at = usize::try_from(at).expect("tables-are-in-memory");
            bytes[at..at + 8].copy_from_slice(&new.descriptor.to_be_bytes());
            changed = true;
        }
        if !changed {
            return Ok(());
        }
        // What the entries refer to now is durable before they are, and what they do not is given back after.
        if !self.design.is_mutant(Mutant::Qcow2AmendsOverDirty) {
            self.flush_in_turn(files).await?;
        }
        let is_active = self.meta.read(|meta| meta.l1.clusters.touch(place, cluster));
        let own = if is_active { Structure::ActiveL2 } else { Structure::InactiveL2 };
        self.put(files, Some(own), table, bytes.into()).await?;
        self.meta.write(|meta| meta.l2.forget(table, table + cluster));
        files.image.flush().await?;
        for host in freed {
            let count = self.count(files, host).await?;
            self.set_count(files, host, count.saturating_sub(uses)).await?;
        }
        Ok(())
    }

    /// A new cluster full of zeroes, with so many references.
    async fn zero_cluster(&self, files: &Files<'_>, uses: u64) -> Result<Entry, ImageError> {
        if self.is_encrypted() {
            return Err(ImageError::Unsupported(
                "compat=0.10 has no zero clusters, and those of an encrypted image with a backing file cannot be \
                 written without its passphrase"
                    .into(),
            ));
        }
        let (host, _) = self.allocate(files, 1, true).await?;
        self.set_count(files, host / self.geometry.cluster(), uses).await?;
        self.put_zeroes(files, ByteRange::new(host, self.geometry.cluster())).await?;
        let own = if uses == 1 { COPIED } else { 0 };
        Ok(Entry { descriptor: host | own, bitmap: 0 })
    }
}
