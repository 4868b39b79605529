//! Changes to entries of tables: COPIED flags as the counts have them, and clusters of their own for guest data that
//! are where they may not be.

use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::pass::{Action, Pass, Uses, runs};
use super::tally::{Tally, mark};
use crate::entry::{COPIED, Entry, L1Entry};
use crate::error::ImageError;
use crate::file::Files;
use crate::image::{Caches, Image};
use crate::meta::entry_in;

/// Bytes of an L1 table that are read at once.
const AT_ONCE: u64 = 1 << 20;
/// Entries that are changed in one pass.
const MOVED_MAX: usize = 4096;

impl Pass<'_, '_> {
    /// The descriptor with the flag that its cluster, which has these marks, should have.
    fn flagged(&self, descriptor: u64, marks: u32) -> u64 {
        match self.action {
            Action::Clear if marks & mark::SHARED != 0 => descriptor & !COPIED,
            Action::Set if marks & mark::SINGLE != 0 => descriptor | COPIED,
            _ => descriptor,
        }
    }

    /// Clears or sets the COPIED flags of all that is in the window, in the active tables.
    pub(super) async fn fix_flags(&mut self, tally: &Tally) -> Result<(), ImageError> {
        let geometry = self.geometry;
        let of_table = |table: u64| tally.marks(table >> geometry.cluster_bits);
        let active = self.structures.l1.iter().find(|table| table.active).copied();
        let mut at = active.map_or(0, |l1| l1.offset);
        let end = active.map_or(0, |l1| l1.range().end());
        while at < end {
            let range = ByteRange::between(at, end.min(at + AT_ONCE));
            let old = self.file.read(range).await?;
            let mut new = old.to_vec();
            for entry in new.chunks_exact_mut(8) {
                let old = u64::from_be_bytes((&*entry).try_into().expect("eight-bytes"));
                if let Some(table) = L1Entry(old).table() {
                    entry.copy_from_slice(&self.flagged(old, of_table(table)).to_be_bytes());
                }
            }
            self.write_changed(at, &old, &new).await?;
            at = range.end();
        }
        let mut from = Some(0);
        while let Some(at) = from {
            let (batch, next) = self.quiet_tables(at).await?;
            for run in runs(&batch, geometry.cluster()) {
                let range = ByteRange::new(run[0].0, run.len() as u64 * geometry.cluster());
                let bytes = self.file.read(range).await?;
                let tables = bytes.chunks_exact(bytes.len() / run.len());
                for ((offset, uses), old) in run.iter().zip(tables) {
                    if uses.is_active() {
                        self.told(*offset)?;
                        let new = self.flagged_table(tally, old);
                        self.write_changed(*offset, old, &new).await?;
                    }
                }
            }
            from = next;
        }
        Ok(())
    }

    fn flagged_table(&self, tally: &Tally, old: &[u8]) -> Vec<u8> {
        let geometry = self.geometry;
        let mut new = old.to_vec();
        for index in 0..geometry.l2_entries() {
            let entry = entry_in(old, index, &geometry);
            let descriptor = match entry.host(&geometry) {
                None if entry.is_compressed() => self.flagged(entry.descriptor, mark::SHARED),
                Some(_) if geometry.external => self.flagged(entry.descriptor, mark::SINGLE),
                Some(host) => {
                    self.flagged(entry.descriptor, tally.marks(host >> geometry.cluster_bits))
                }
                None => continue,
            };
            put(&mut new, index * geometry.l2_entry(), descriptor);
        }
        new
    }

    async fn quiet_tables(
        &mut self,
        from: u64,
    ) -> Result<(Vec<(u64, Uses)>, Option<u64>), ImageError> {
        let quiet = core::mem::replace(&mut self.quiet, true);
        let tables = self.tables_from(from).await;
        self.quiet = quiet;
        tables
    }

    /// Copies guest data that are in a structure's cluster, or in one with more references than can be counted, to
    /// clusters of their own. The counts cover all references, so those that are free are. All are copied before any
    /// entry changes: what they are copied from may be a table.
    pub(super) async fn copy_shared(&mut self, tally: &Tally) -> Result<(), ImageError> {
        let geometry = self.geometry;
        let image = Image::of_header("check", self.file, self.header.clone(), Caches::default());
        let image = image.await?;
        let files = Files { image: self.file, data: self.file, backing: None };
        let mut changed = self.entries_to_move(tally).await?;
        for (_, entry, uses) in &mut changed {
            self.told(0)?;
            let host = entry.host(&geometry).expect("moved-entries-have-a-cluster");
            let copy = image.copy_cluster(&files, host, u64::from(*uses)).await?;
            let own = if *uses == 1 { COPIED } else { 0 };
            entry.descriptor = entry.descriptor & !COPIED & !host | copy | own;
        }
        for (at, entry, _) in changed {
            self.file.write(at, entry.descriptor.to_be_bytes().to_vec().into()).await?;
        }
        Ok(())
    }

    /// Where entries stand whose data are to be moved, with how many refer to their tables; some, if there are many.
    async fn entries_to_move(
        &mut self,
        tally: &Tally,
    ) -> Result<Vec<(u64, Entry, u32)>, ImageError> {
        let geometry = self.geometry;
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let (batch, next) = self.quiet_tables(at).await?;
            for (table, uses) in batch {
                let bytes = self.file.read(ByteRange::new(table, geometry.cluster())).await?;
                for index in 0..geometry.l2_entries() {
                    let entry = entry_in(&bytes, index, &geometry);
                    let host = entry.host(&geometry).filter(|_| !geometry.external);
                    let marks = host.map_or(0, |host| tally.marks(host >> geometry.cluster_bits));
                    let moves = marks & mark::COPY != 0
                        && host.is_some_and(|host| geometry.within(host) == 0);
                    if moves && found.len() < MOVED_MAX {
                        found.push((table + index * geometry.l2_entry(), entry, uses.count));
                    }
                }
            }
            from = next;
        }
        Ok(found)
    }
}

fn put(bytes: &mut [u8], at: u64, number: u64) {
    let at = usize::try_from(at).expect("tables-are-in-memory");
    bytes[at..at + 8].copy_from_slice(&number.to_be_bytes());
}
