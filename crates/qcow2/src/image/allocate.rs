//! Refcounts, and finding free clusters by them. All for who has the turn.

use alloc::vec::Vec;
use core::ops::Range;

use blockyard_units::{ByteRange, Mutant};

use super::Image;
use crate::error::ImageError;
use crate::file::Files;
use crate::header::REFTABLE_MAX;
use crate::meta::{Looked, Meta, Table, Which, set_count_in, table_bytes};

/// How far the search for free clusters in a row has come.
struct Search {
    /// The first of those in a row that are free.
    start: u64,
    /// The next one to be looked at.
    next: u64,
}

enum Next {
    Done,
    /// There is no refcount block for this part of the file.
    Block(u64),
}

impl Image {
    pub(super) async fn count(&self, files: &Files<'_>, cluster: u64) -> Result<u64, ImageError> {
        self.find(files, Which::Counts, |meta| meta.count(cluster, &self.geometry)).await
    }

    pub(super) async fn set_count(
        &self,
        files: &Files<'_>,
        cluster: u64,
        count: u64,
    ) -> Result<(), ImageError> {
        // Brings its slice in.
        self.count(files, cluster).await?;
        self.meta.write(|meta| meta.set_count(cluster, count, &self.geometry))
    }

    /// Sets the refcounts of clusters, slice by slice.
    async fn set_counts(
        &self,
        files: &Files<'_>,
        clusters: Range<u64>,
        count: u64,
    ) -> Result<(), ImageError> {
        let per_slice = self.geometry.slice_counts();
        let mut at = clusters.start;
        while at < clusters.end {
            let end = clusters.end.min((at / per_slice + 1) * per_slice);
            self.count(files, at).await?;
            let mut slice = at..end;
            let set =
                |cluster| self.meta.write(|meta| meta.set_count(cluster, count, &self.geometry));
            slice.try_for_each(set)?;
            at = end;
        }
        Ok(())
    }

    /// Takes up to `count` free clusters in a row, or exactly so many; returns where they are, and how many.
    ///
    /// # Errors
    /// The file failed; clusters may have leaked.
    pub(super) async fn allocate(
        &self,
        files: &Files<'_>,
        count: u64,
        exactly: bool,
    ) -> Result<(u64, u64), ImageError> {
        // The first cluster of a part of the file without counts becomes their block.
        if exactly && count >= self.geometry.block_counts() {
            return Ok((self.allocate_long(files, count).await?, count));
        }
        let hint = self.meta.read(|meta| meta.hint);
        let mut search = Search { start: hint, next: hint };
        loop {
            let find = |meta: &mut Meta| self.search(meta, &mut search, count, exactly);
            match self.find(files, Which::Counts, find).await? {
                Next::Done => break,
                // Those before it are taken as they are, if that will do.
                Next::Block(_) if search.next > search.start && !exactly => break,
                Next::Block(index) => self.new_block(files, index).await?,
            }
        }
        let found = search.next - search.start;
        self.set_counts(files, search.start..search.next, 1).await?;
        let first = search.start;
        self.meta.write(|meta| {
            // Of those before it none is free; but a search for several passes over fewer.
            if first == hint || !exactly || count == 1 {
                meta.hint = first + found;
            }
        });
        Ok((first * self.geometry.cluster(), found))
    }

    /// Takes clusters in a row that one refcount block cannot count, where nothing was counted yet: first their blocks,
    /// then they.
    async fn allocate_long(&self, files: &Files<'_>, count: u64) -> Result<u64, ImageError> {
        let counts = self.geometry.block_counts();
        let blocks = count.div_ceil(counts - 1);
        let first = loop {
            let (used, entries) = self.meta.read(|meta| {
                let last = meta.reftable.entries.iter().rposition(|entry| *entry != 0);
                (last.map_or(0, |last| last as u64 + 1), meta.reftable.entries.len() as u64)
            });
            if used + blocks <= entries {
                break used;
            }
            self.grow_reftable(files).await?;
        };
        let start = first * counts;
        let hosts = self.write_blocks(files, start, blocks, blocks + count).await?;
        self.meta.write(|meta| {
            for (index, host) in (first..).zip(hosts) {
                meta.reftable.set(index, host);
            }
        });
        Ok((start + blocks) * self.geometry.cluster())
    }

    /// Writes refcount blocks into the clusters from `first` on, which they are the first to count, and has them count
    /// `used` clusters.
    async fn write_blocks(
        &self,
        files: &Files<'_>,
        first: u64,
        blocks: u64,
        used: u64,
    ) -> Result<Vec<u64>, ImageError> {
        let (cluster, counts) = (self.geometry.cluster(), self.geometry.block_counts());
        let mut hosts = Vec::new();
        for index in 0..blocks {
            let mut block = alloc::vec![0; usize::try_from(cluster).expect("clusters-are-small")];
            for count in 0..used.saturating_sub(index * counts).min(counts) {
                set_count_in(&mut block, count, 1, self.geometry.refcount_order);
            }
            let host = (first + index) * cluster;
            self.put(files, None, host, block.into()).await?;
            hosts.push(host);
        }
        Ok(hosts)
    }

    fn search(
        &self,
        meta: &mut Meta,
        search: &mut Search,
        count: u64,
        exactly: bool,
    ) -> Result<Looked<Next>, ImageError> {
        while search.next - search.start < count {
            if meta.count_slice(search.next, &self.geometry)?.is_none() {
                let block = search.next / self.geometry.block_counts();
                return Ok(Looked::Found(Next::Block(block)));
            }
            match meta.count(search.next, &self.geometry)? {
                Looked::Bring(slice) => return Ok(Looked::Bring(slice)),
                Looked::Found(0) if search.next == 0 => {
                    let expected = "1, as the header is there";
                    let structure = "a refcount";
                    return Err(ImageError::Corrupt { structure, offset: 0, found: 0, expected });
                }
                Looked::Found(0) => search.next += 1,
                Looked::Found(_) if search.next > search.start && !exactly => break,
                Looked::Found(_) => {
                    search.next += 1;
                    search.start = search.next;
                }
            }
        }
        Ok(Looked::Found(Next::Done))
    }

    /// Gives clusters back that nothing ever referred to.
    pub(super) async fn unallocate(&self, files: &Files<'_>, host: u64, count: u64) {
        let first = host / self.geometry.cluster();
        for cluster in first..first + count {
            // If that fails it has leaked.
            let _leaked = self.set_count(files, cluster, 0).await;
        }
    }

    /// Copies the cluster at `host` to a free one, which counts `uses` references, and returns where that is. Durable.
    pub(crate) async fn copy_cluster(
        &self,
        files: &Files<'_>,
        host: u64,
        uses: u64,
    ) -> Result<u64, ImageError> {
        let cluster = self.geometry.cluster();
        let (copy, _) = self.allocate(files, 1, true).await?;
        self.set_count(files, copy / cluster, uses.min(self.geometry.refcount_max())).await?;
        let bytes = files.image.read(ByteRange::new(host, cluster)).await?;
        self.put(files, None, copy, bytes).await?;
        self.flush_in_turn(files).await?;
        Ok(copy)
    }

    /// Makes a refcount block for a part of the file that has none: its first cluster, as all of them are free.
    async fn new_block(&self, files: &Files<'_>, index: u64) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let first = index * geometry.block_counts();
        let host = first * geometry.cluster();
        if index == 0 {
            let offset = self.meta.read(|meta| meta.header.reftable_offset);
            let expected = "the offset of the block that counts the header";
            let structure = "a refcount table entry";
            return Err(ImageError::Corrupt { structure, offset, found: 0, expected });
        }
        if index >= self.meta.read(|meta| meta.reftable.entries.len() as u64) {
            return self.grow_reftable(files).await;
        }
        self.put_zeroes(files, ByteRange::new(host, geometry.cluster())).await?;
        self.bring(files, Which::Counts, host).await?;
        let own = u64::from(!self.design.is_mutant(Mutant::Qcow2BlockOverData));
        self.meta.write(|meta| {
            meta.reftable.set(index, host);
            meta.set_count(first, own, geometry)
        })
    }

    /// Moves the refcount table to where its next entries begin to count, half as large again or more: first the
    /// blocks that count them, then the table. A step of its own, durable before anything else goes on.
    async fn grow_reftable(&self, files: &Files<'_>) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let (cluster, counts) = (geometry.cluster(), geometry.block_counts());
        let (old, old_at) =
            self.meta.read(|meta| (meta.reftable.entries.clone(), meta.header.reftable_offset));
        let old_entries = old.len() as u64;
        let mut blocks = 1;
        let table_clusters = loop {
            let clusters = ((old_entries + blocks) * 8).max(old_entries * 12).div_ceil(cluster);
            if blocks * counts >= blocks + clusters {
                break clusters;
            }
            blocks += 1;
        };
        if table_clusters * cluster > REFTABLE_MAX {
            return Err(ImageError::Unsupported(
                "the refcount table cannot grow any further".into(),
            ));
        }
        // All that the new table refers to is there before it is.
        if !self.design.is_mutant(Mutant::Qcow2ReftableGrowsOverDirty) {
            self.write_back(files).await?;
        }
        let first = old_entries * counts;
        let used = blocks + table_clusters;
        let mut entries = old.clone();
        entries.extend(self.write_blocks(files, first, blocks, used).await?);
        entries.resize(
            usize::try_from(table_clusters * cluster / 8).expect("tables-are-in-memory"),
            0,
        );
        let at = (first + blocks) * cluster;
        self.put(files, None, at, table_bytes(&entries).into()).await?;
        self.change_header(files, |header| {
            header.reftable_offset = at;
            header.reftable_clusters = u32::try_from(table_clusters).expect("tables-are-in-memory");
        })
        .await?;
        self.meta.write(|meta| meta.reftable = Table::of(entries));
        let first_old = old_at / cluster;
        let clusters = geometry.clusters_for(old_entries * 8);
        self.set_counts(files, first_old..first_old + clusters, 0).await
    }

    /// Changes the header, on the disk and then in memory, between two flushes.
    pub(super) async fn change_header(
        &self,
        files: &Files<'_>,
        change: impl FnOnce(&mut crate::header::Header),
    ) -> Result<(), ImageError> {
        let mut header = self.header();
        change(&mut header);
        let bytes = header.bytes()?;
        self.barrier(files, Mutant::Qcow2HeaderBeforeReferred).await?;
        self.put_header(files, bytes).await?;
        self.barrier(files, Mutant::Qcow2HeaderNotFlushed).await?;
        self.meta.write(|meta| (meta.header, meta.header_is_unknown) = (header, false));
        Ok(())
    }

    /// Writes the header as it is meant, durably, if another one may be there: what is flushed from here on is to be
    /// found by this one.
    pub(super) async fn settle_header(&self, files: &Files<'_>) -> Result<(), ImageError> {
        let forgets = self.design.is_mutant(Mutant::Qcow2HeaderForgotten);
        if self.meta.read(|meta| meta.header_is_unknown) && !forgets {
            self.change_header(files, |_| ()).await?;
        }
        Ok(())
    }
}
