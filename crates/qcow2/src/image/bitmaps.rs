//! Persistent bitmaps: loading, disowning and storing them.
//!
//! Invariant `vouched-is-unchanged`: while the directory vouches for a bitmap (its autoclear bit is set, and it is not
//! in use) nothing that the guest wrote since it was stored is in the file. So whoever writes first has the directory
//! say, durably, that its bitmaps are in use.
//!
//! Bitmaps are never changed where they are: new ones come beside the old, which are given back once the header durably
//! refers to the new directory.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::StoredBitmap;
use blockyard_units::{ByteLen, ByteRange, Mutant};

use super::Image;
use crate::bitmap::{self, Cluster, DirectoryEntry, Extension, flag};
use crate::error::ImageError;
use crate::file::Files;
use crate::meta::{Table, table_bytes};
use crate::overlap::Structure;

/// Bytes that are read at once.
const AT_ONCE: u64 = 4 << 20;

/// Whether the file vouches for bitmaps as they are in memory.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Vouches {
    #[default]
    No,
    /// It was to, or to do so no more, and that failed.
    Perhaps,
    Yes,
}

impl Image {
    /// Why the image can store no bitmaps, if it cannot; `others`: how many it is to store beside one of this name and
    /// granularity, of a disk of `len` bytes.
    pub fn check_bitmap(
        &self,
        name: &str,
        len: ByteLen,
        granularity: ByteLen,
        others: usize,
    ) -> Result<(), String> {
        let mut header = self.header();
        if header.version < 3 {
            return Err("images of version 2 store no bitmaps".into());
        }
        header.set_bitmaps(Some(Extension { count: 1, len: 32, offset: 0 }));
        header.bytes().map_err(|error| alloc::format!("{error}"))?;
        bitmap::check(name, len.0, granularity, others)
    }

    /// Whether the image has bitmaps that it vouches for, or that are in use.
    pub fn has_bitmaps(&self) -> bool {
        matches!(self.header().bitmaps(), Ok(Some(_)))
    }

    /// All bitmaps that are stored.
    ///
    /// # Errors
    /// The file failed, or the directory or what it refers to is wrong.
    ///
    /// # Yields
    /// As the file does.
    pub async fn load_bitmaps(&self, files: &Files<'_>) -> Result<Vec<StoredBitmap>, ImageError> {
        let size = self.len();
        let mut loaded = Vec::new();
        for entry in self.directory(files).await? {
            let granularity = ByteLen(1 << entry.granularity_bits);
            let inconsistent = entry.is_inconsistent();
            let words = match inconsistent {
                true => Vec::new(),
                false => self.load_words(files, &entry).await?,
            };
            let bits = DirtyBitmap::from_words(size, granularity, words);
            let mut bits = bits.expect("granularities-are-checked");
            let always = self.design.is_mutant(Mutant::DisabledBitmapEnabledAfterReload);
            if inconsistent || !(always || entry.flags & flag::AUTO != 0) {
                bits.disable();
            }
            loaded.push(StoredBitmap { name: entry.name, bits, inconsistent });
        }
        Ok(loaded)
    }

    /// The directory as it stands in the file; nothing, if it is not to be believed.
    async fn directory(&self, files: &Files<'_>) -> Result<Vec<DirectoryEntry>, ImageError> {
        let header = self.header();
        let Some(Extension { count, len, offset }) = header.bitmaps()? else {
            return Ok(Vec::new());
        };
        self.check_inside(files, "bitmap_directory_offset", offset, len)?;
        let bytes = files.image.read(ByteRange::new(offset, len)).await?;
        bitmap::parse(&bytes, offset, count, header.size, &self.geometry)
    }

    /// What is read is there, a cluster at the end in part at least.
    fn check_inside(
        &self,
        files: &Files<'_>,
        structure: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<(), ImageError> {
        let end = files.image.len()? + self.geometry.cluster();
        if offset.checked_add(len).is_some_and(|last| last < end) {
            return Ok(());
        }
        Err(ImageError::Corrupt { structure, offset, found: len, expected: "inside the file" })
    }

    async fn table(
        &self,
        files: &Files<'_>,
        entry: &DirectoryEntry,
    ) -> Result<Vec<Cluster>, ImageError> {
        let len = u64::from(entry.entries) * 8;
        self.check_inside(files, "a bitmap table", entry.table, len)?;
        let table = Table::parse(&files.image.read(ByteRange::new(entry.table, len)).await?);
        let place = |index: usize| entry.table + 8 * index as u64;
        let cluster =
            |(index, word): (usize, &u64)| Cluster::parse(*word, place(index), &self.geometry);
        table.entries.iter().enumerate().map(cluster).collect()
    }

    async fn load_words(
        &self,
        files: &Files<'_>,
        entry: &DirectoryEntry,
    ) -> Result<Vec<u64>, ImageError> {
        let cluster = self.geometry.cluster();
        let words_each = usize::try_from(cluster / 8).expect("clusters-are-small");
        let most = usize::try_from((AT_ONCE / cluster).max(1)).expect("clusters-are-counted");
        let table = self.table(files, entry).await?;
        let mut words = Vec::with_capacity(table.len() * words_each);
        let follows = |a: &Cluster, b: &Cluster| match (a, b) {
            (Cluster::At(a), Cluster::At(b)) => a + cluster == *b,
            _ => a == b,
        };
        for run in table.chunk_by(follows).flat_map(|run| run.chunks(most)) {
            match run[0] {
                Cluster::Clear => words.resize(words.len() + run.len() * words_each, 0),
                Cluster::Set => words.resize(words.len() + run.len() * words_each, u64::MAX),
                Cluster::At(host) => {
                    let len = run.len() as u64 * cluster;
                    self.check_inside(files, "a bitmap table entry", host, len)?;
                    let bytes = files.image.read(ByteRange::new(host, len)).await?;
                    let word =
                        |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight-bytes"));
                    words.extend(bytes.chunks_exact(8).map(word));
                }
            }
        }
        Ok(words)
    }

    /// The directory says, durably, that its bitmaps are in use, unless it does or there is none. Before anything that
    /// the guest sees, or one of the bitmaps, changes.
    ///
    /// # Errors
    /// The file failed: it may not say so.
    ///
    /// # Yields
    /// Only if there is something to do; as the file does.
    pub async fn disown_bitmaps(&self, files: &Files<'_>) -> Result<(), ImageError> {
        if self.vouches.read(|vouches| *vouches == Vouches::No) {
            return Ok(());
        }
        let turn = self.turn.lock().await;
        let result = self.disown_in_turn(files).await;
        turn.unlock();
        result
    }

    async fn disown_in_turn(&self, files: &Files<'_>) -> Result<(), ImageError> {
        // Somebody else may have.
        if self.vouches.read(|vouches| *vouches == Vouches::No) {
            return Ok(());
        }
        self.vouches.write(|vouches| *vouches = Vouches::Perhaps);
        // Another one, which was not written well, may vouch for others.
        self.settle_header(files).await?;
        let mut entries = self.directory(files).await?;
        if let Some(Extension { offset, .. }) = self.header().bitmaps()? {
            // Whatever was read: a write that failed may be seen, and be lost all the same.
            entries.iter_mut().for_each(|entry| entry.flags |= flag::IN_USE);
            let (own, bytes) = (Some(Structure::BitmapDirectory), bitmap::bytes(&entries));
            self.put(files, own, offset, bytes.into()).await?;
        }
        self.barrier(files, Mutant::Qcow2BitmapsDisownedLate).await?;
        self.vouches.write(|vouches| *vouches = Vouches::No);
        Ok(())
    }

    /// Stores these bitmaps, and no others: inconsistent ones stay as they are, or come in use and clean; the others
    /// are vouched for from here on. If none was disowned since they were stored the last time, nothing is done. Nobody
    /// else uses the image meanwhile.
    ///
    /// # Errors
    /// The file failed, or has no room: the old ones are there, in use, or the new ones; there may be leaks.
    ///
    /// # Yields
    /// As the file does.
    pub async fn store_bitmaps(
        &self,
        files: &Files<'_>,
        bitmaps: &[StoredBitmap],
    ) -> Result<(), ImageError> {
        if self.is_corrupt() {
            // Nothing is written to it any more.
            return Ok(());
        }
        let turn = self.turn.lock().await;
        let result = self.store_in_turn(files, bitmaps).await;
        turn.unlock();
        result
    }

    async fn store_in_turn(
        &self,
        files: &Files<'_>,
        bitmaps: &[StoredBitmap],
    ) -> Result<(), ImageError> {
        let old = self.header().bitmaps()?;
        let nothing = old.is_none() && bitmaps.is_empty();
        if nothing || self.vouches.read(|vouches| *vouches == Vouches::Yes) {
            return Ok(());
        }
        let before = self.directory(files).await?;
        let stays = |entry: &DirectoryEntry| {
            let same = |bitmap: &StoredBitmap| bitmap.inconsistent && bitmap.name == entry.name;
            bitmaps.iter().any(same)
        };
        // Of each that goes, what it takes; before that changes.
        let mut gone = Vec::new();
        if let Some(Extension { len, offset, .. }) = old {
            gone.push(ByteRange::new(offset, len));
        }
        for entry in before.iter().filter(|entry| !stays(entry)) {
            gone.push(ByteRange::new(entry.table, u64::from(entry.entries) * 8));
            let table = match self.table(files, entry).await {
                // What cannot be followed has leaked.
                Err(ImageError::Corrupt { .. }) => continue,
                table => table?,
            };
            let hosts = table.into_iter().filter_map(Cluster::host);
            gone.extend(hosts.map(|host| ByteRange::new(host, self.geometry.cluster())));
        }
        let mut taken = Vec::new();
        let result = self.replace(files, bitmaps, &before, &mut taken, &gone).await;
        if result.is_err() && !self.meta.read(|meta| meta.header_is_unknown) {
            let clusters = |range: &ByteRange| self.geometry.clusters_for(range.len().0);
            for range in taken {
                self.unallocate(files, range.start(), clusters(&range)).await;
            }
            return result;
        }
        result?;
        if !self.design.is_mutant(Mutant::Qcow2BitmapsFreedFirst) {
            self.give_back(files, &gone).await?;
        }
        Ok(())
    }

    async fn give_back(&self, files: &Files<'_>, gone: &[ByteRange]) -> Result<(), ImageError> {
        for range in gone {
            self.release_range(files, range.start(), range.len().0).await?;
        }
        Ok(())
    }

    /// Writes the bitmaps and a directory of them, and has the header refer to it. `taken`: the clusters for that.
    async fn replace(
        &self,
        files: &Files<'_>,
        bitmaps: &[StoredBitmap],
        before: &[DirectoryEntry],
        taken: &mut Vec<ByteRange>,
        gone: &[ByteRange],
    ) -> Result<(), ImageError> {
        let mut entries = Vec::new();
        for stored in bitmaps {
            let old = before.iter().find(|entry| entry.name == stored.name);
            match old {
                Some(old) if stored.inconsistent => entries.push(old.clone()),
                _ => entries.push(self.write_bitmap(files, stored, old, taken).await?),
            }
        }
        let vouches = match bitmaps.iter().all(|stored| stored.inconsistent) {
            true => Vouches::No,
            false => Vouches::Yes,
        };
        let directory = bitmap::bytes(&entries);
        let len = directory.len() as u64;
        if len > bitmap::DIRECTORY_MAX {
            let message = "the names and extra data of the bitmaps are too long for a directory";
            return Err(ImageError::Unsupported(message.into()));
        }
        let stored = self.store(files, &directory).await?;
        taken.push(stored);
        let offset = stored.start();
        let count = u32::try_from(entries.len()).expect("bitmaps-are-few");
        let extension = (count > 0).then_some(Extension { count, len, offset });
        if self.design.is_mutant(Mutant::Qcow2BitmapsFreedFirst) {
            self.give_back(files, gone).await?;
        }
        if !self.design.is_mutant(Mutant::Qcow2BitmapsOverDirty) {
            self.write_back(files).await?;
        }
        self.vouches.write(|vouches| *vouches = Vouches::Perhaps);
        self.change_header(files, |header| header.set_bitmaps(extension)).await?;
        self.vouches.write(|now| *now = vouches);
        Ok(())
    }

    /// Writes the bits and the table of one; `old`: what was stored of it before.
    async fn write_bitmap(
        &self,
        files: &Files<'_>,
        StoredBitmap { name, bits, inconsistent }: &StoredBitmap,
        old: Option<&DirectoryEntry>,
        taken: &mut Vec<ByteRange>,
    ) -> Result<DirectoryEntry, ImageError> {
        let words_each = usize::try_from(self.geometry.cluster() / 8).expect("clusters-are-small");
        let (mut data, mut table) = (Vec::new(), Vec::new());
        for words in bits.words().chunks(words_each) {
            let is = |all: u64| words.iter().all(|word| *word == all);
            table.push(match is(0) {
                true => Cluster::Clear,
                false if words.len() == words_each && is(u64::MAX) => Cluster::Set,
                false => {
                    let at = data.len() as u64;
                    data.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                    data.resize(data.len().next_multiple_of(words_each * 8), 0);
                    Cluster::At(at)
                }
            });
        }
        let stored = self.store(files, &data).await?;
        taken.push(stored);
        let entries: Vec<u64> = table
            .into_iter()
            .map(|cluster| match cluster {
                Cluster::Clear => 0,
                Cluster::Set => 1,
                Cluster::At(at) => stored.start() + at,
            })
            .collect();
        let written = self.store(files, &table_bytes(&entries)).await;
        if written.is_err() && self.design.is_mutant(Mutant::BitmapStoreErrorFreesWrongClusters) {
            // Their bytes in the other order.
            for entry in entries.iter().filter(|entry| **entry > 1) {
                self.unallocate(files, entry.swap_bytes() % (1 << 20), 1).await;
            }
        }
        let table = written?;
        taken.push(table);
        let compatible = old.map_or(0, |old| old.flags & flag::EXTRA_COMPATIBLE);
        let auto = if bits.is_enabled() { flag::AUTO } else { 0 };
        let vouched = !inconsistent || self.design.is_mutant(Mutant::FollowNewVouched);
        let in_use = if vouched { 0 } else { flag::IN_USE };
        Ok(DirectoryEntry {
            table: table.start(),
            entries: u32::try_from(entries.len()).expect("bitmaps-are-in-memory"),
            flags: auto | in_use | compatible,
            granularity_bits: bits.granularity().0.trailing_zeros() as u8,
            extra: old.map_or_else(Vec::new, |old| old.extra.clone()),
            name: name.clone(),
        })
    }
}
