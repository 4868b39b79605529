//! Zeroes and discards: what changes the structures alone, where it can.
//!
//! Invariant `zeroes-are-the-image-s-own`: where there is a backing child, what a guest has zeroed or discarded does
//! not depend on where that ends: a job may put another in its place, which is longer. So zeroes are never left to its
//! end, and no cluster that the image had goes back to it.

use blockyard_block::BlockError;
use blockyard_runtime::{IoBuffer, IoErrorKind};
use blockyard_units::{ByteRange, Mutant};

use super::Image;
use crate::entry::{Entry, Kind};
use crate::error::ImageError;
use crate::file::Files;
use crate::meta::Looked;

/// How zeroes are to be made.
#[derive(Clone, Copy, Debug)]
pub struct Zeroes {
    /// Their space may be given back.
    pub may_unmap: bool,
    /// They must not be written as data.
    pub no_fallback: bool,
}

/// What the whole clusters of a range become.
#[derive(Clone, Copy)]
enum Become {
    /// Zeroes, in the space that they have.
    ZeroKept,
    /// Zeroes, without any.
    Zero,
    /// Nothing that the guest needs.
    Discarded,
}

impl Image {
    /// Makes `range` read as zeroes.
    ///
    /// # Errors
    /// A file failed, or the image is wrong there; or it takes data, and those are not wanted.
    ///
    /// # Yields
    /// As the files do, and while others allocate the same clusters.
    pub async fn write_zeroes(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        how: Zeroes,
    ) -> Result<(), ImageError> {
        self.disown_bitmaps(files).await?;
        let mut at = range.start();
        while at < range.end() {
            let run = self.look(files, at, range.end()).await?;
            let is_zero = run.kind.reads_as_zeroes(at, || files.may_show());
            let widens = run.kind == Kind::Unallocated
                && self.design.is_mutant(Mutant::Qcow2ZeroesWiden)
                && files.backing_len() <= at;
            at += if let (Kind::Data(_), true) = (run.kind, self.raw) {
                let rest = ByteRange::new(at, run.len);
                self.as_user(rest, self.zero_in_place(files, rest, how)).await?
            } else if widens {
                let whole = self.geometry.clusters_around(ByteRange::new(at, run.len));
                self.change_clusters(files, whole, Become::Zero).await?;
                run.len
            } else if is_zero {
                run.len
            } else {
                self.zero_run(files, ByteRange::new(at, run.len), run.kind, how).await?
            };
        }
        Ok(())
    }

    /// Makes the beginning of `range` zeroes where its data are, if it has any; returns how many bytes.
    async fn zero_in_place(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        how: Zeroes,
    ) -> Result<u64, ImageError> {
        let run = self.look(files, range.start(), range.end()).await?;
        let Kind::Data(host) = run.kind else { return Ok(0) };
        files.data.write_zeroes_for(ByteRange::new(host, run.len), how).await?;
        Ok(run.len)
    }

    /// Makes the beginning of `range`, all of which is of one kind, read as zeroes; returns how many bytes.
    async fn zero_run(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        kind: Kind,
        how: Zeroes,
    ) -> Result<u64, ImageError> {
        let compressed = matches!(kind, Kind::Compressed(_));
        let unit = if compressed { self.geometry.cluster() } else { self.geometry.subcluster() };
        let (start, end) = (range.start(), range.end());
        // What lies behind the end of the disk is nobody's.
        let whole_to = if end == self.len().0 { end } else { end - end % unit };
        if start % unit == 0 && whole_to > start && self.zeroes_need_no_data(files, kind, how) {
            let to = if how.may_unmap { Become::Zero } else { Become::ZeroKept };
            if self.geometry.external && how.may_unmap {
                self.unmap_external(files, ByteRange::between(start, whole_to)).await?;
            }
            return self.change_clusters(files, ByteRange::between(start, whole_to), to).await;
        }
        let to = (start / unit + 1) * unit;
        self.zeroes_as_data(files, ByteRange::between(start, end.min(to)), how).await
    }

    /// Version 2 has no zero clusters: there only what nothing shows through can be without data.
    fn zeroes_need_no_data(&self, files: &Files<'_>, kind: Kind, how: Zeroes) -> bool {
        let gives_back = how.may_unmap && files.may_show() == 0;
        self.geometry.has_zero
            || (gives_back && matches!(kind, Kind::Data(_) | Kind::Compressed(_)))
    }

    async fn zeroes_as_data(
        &self,
        files: &Files<'_>,
        piece: ByteRange,
        how: Zeroes,
    ) -> Result<u64, ImageError> {
        /// Bytes that are written at once.
        const AT_ONCE: u64 = 1 << 20;
        let piece = ByteRange::new(piece.start(), piece.len().0.min(AT_ONCE));
        if how.no_fallback {
            let (kind, node) = (IoErrorKind::Unsupported, self.node().into());
            return Err(BlockError::Io { kind, node, range: piece }.into());
        }
        self.write_range(files, piece, &IoBuffer::zeroes(piece.len().as_usize())).await?;
        Ok(piece.len().0)
    }

    /// Gives the space of the whole clusters in `range` back: they read as zeroes from then on. What does not fill a
    /// cluster is left as it is, and so is what could only be done by letting the backing child show.
    ///
    /// # Errors
    /// A file failed, or the image is wrong there.
    ///
    /// # Yields
    /// As the files do, and while others allocate the same clusters.
    pub async fn discard(&self, files: &Files<'_>, range: ByteRange) -> Result<(), ImageError> {
        if !self.geometry.has_zero && files.may_show() > 0 {
            return Ok(());
        }
        self.abandon(files, range).await
    }

    /// The same of what is nobody's: there what is below may show.
    pub(super) async fn abandon(
        &self,
        files: &Files<'_>,
        range: ByteRange,
    ) -> Result<(), ImageError> {
        self.disown_bitmaps(files).await?;
        let cluster = self.geometry.cluster();
        let end = if range.end() == self.len().0 {
            range.end()
        } else {
            range.end() - range.end() % cluster
        };
        let start = range.start().next_multiple_of(cluster);
        if start >= end {
            return Ok(());
        }
        let inner = ByteRange::between(start, end);
        if self.geometry.external {
            self.unmap_external(files, inner).await?;
        }
        let mut at = if self.raw { end } else { start };
        while at < end {
            let rest = ByteRange::between(at, end);
            at += self.change_clusters(files, rest, Become::Discarded).await?;
        }
        Ok(())
    }

    /// Gives the space of `range` in the external data file back, as far as it can be had to read as zeroes then: a
    /// crash may leave structures that still refer to it.
    async fn unmap_external(&self, files: &Files<'_>, range: ByteRange) -> Result<(), ImageError> {
        if self.is_encrypted() {
            // Zeroes there would be noise.
            return Ok(());
        }
        let how = Zeroes { may_unmap: true, no_fallback: true };
        let mut at = range.start();
        while at < range.end() {
            let rest = ByteRange::between(at, range.end());
            at += self.as_user(rest, self.unmap_run(files, rest, how)).await?;
        }
        Ok(())
    }

    /// The same of the beginning of `range`; returns how many bytes.
    async fn unmap_run(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        how: Zeroes,
    ) -> Result<u64, ImageError> {
        let run = self.look(files, range.start(), range.end()).await?;
        if let Kind::Data(host) = run.kind {
            // What is left undone is only space.
            let _left = files.data.write_zeroes_for(ByteRange::new(host, run.len), how).await;
        }
        Ok(run.len)
    }

    /// Changes the beginning of `range`, which are whole clusters or subclusters; returns how many bytes.
    async fn change_clusters(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        to: Become,
    ) -> Result<u64, ImageError> {
        let turn = self.turn.lock().await;
        let busy = self.allocating(self.geometry.clusters_around(range));
        let result = match busy {
            Some(_) => Ok(0),
            None => self.change_in_turn(files, range, to).await,
        };
        turn.unlock();
        if let Some(busy) = busy {
            self.wait_for_allocations(busy).await;
        }
        result
    }

    async fn change_in_turn(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        to: Become,
    ) -> Result<u64, ImageError> {
        let geometry = &self.geometry;
        let reach = geometry.slice_entries() * geometry.cluster();
        let range = range.intersection(&ByteRange::new(range.start() / reach * reach, reach));
        // Drained sections keep it as it is while this is under way.
        let below = match self.design.is_mutant(Mutant::Qcow2DiscardLooksAtBackingLength) {
            true => files.backing_len(),
            false => files.may_show(),
        };
        let no_table =
            self.meta.read(|meta| meta.l1_entry(range.start(), geometry))?.table().is_none();
        if no_table && (matches!(to, Become::Discarded) || below <= range.start()) {
            return Ok(range.len().0);
        }
        self.ensure_table(files, range.start()).await?;
        // All of them are in one slice, and that is brought in by this.
        self.entry(files, range.start()).await?;
        let frees_first =
            matches!(to, Become::Zero) && self.design.is_mutant(Mutant::Qcow2ZeroFreesFirst);
        if frees_first {
            self.free_at_once(files, range).await?;
        }
        self.meta.write(|meta| {
            let mut at = range.start();
            while at < range.end() {
                let cluster = ByteRange::new(at - geometry.within(at), geometry.cluster());
                let piece = range.intersection(&cluster);
                let Looked::Found(old) = meta.entry(at, geometry)? else {
                    unreachable!("a-slice-is-brought-in-whole")
                };
                let to_end = piece.end() == cluster.end() || piece.end() == meta.header.size;
                let whole = !geometry.extended || (to_end && piece.start() == cluster.start());
                if !whole && old.is_compressed() {
                    // It was compressed meanwhile.
                    return Ok(at - range.start());
                }
                let new = self.changed(old, piece, whole, to, below);
                if new != old {
                    meta.set_entry(at, new, geometry)?;
                    let leaves = new.host(geometry) != old.host(geometry)
                        || old.is_compressed() != new.is_compressed();
                    if leaves && !frees_first {
                        meta.free_entry(old, cluster.start(), true, geometry);
                    }
                }
                at = piece.end();
            }
            Ok(range.len().0)
        })
    }

    /// A mutant's way to give back what `range` is in.
    async fn free_at_once(&self, files: &Files<'_>, range: ByteRange) -> Result<(), ImageError> {
        let mut at = range.start();
        while at < range.end() {
            if let Some(host) = self.entry(files, at).await?.host(&self.geometry) {
                self.set_count(files, host / self.geometry.cluster(), 0).await?;
            }
            at += self.geometry.cluster();
        }
        Ok(())
    }

    /// What becomes of an entry.
    fn changed(&self, old: Entry, piece: ByteRange, whole: bool, to: Become, below: u64) -> Entry {
        let geometry = &self.geometry;
        let exposes = matches!(to, Become::Discarded)
            && self.design.is_mutant(Mutant::Qcow2DiscardExposesBacking);
        let shows = below > piece.start() - geometry.within(piece.start()) && !exposes;
        if !whole {
            let from = geometry.within(piece.start()) / geometry.subcluster();
            let len = piece.len().0.div_ceil(geometry.subcluster());
            return old.with_zeroes(from..from + len);
        }
        match to {
            Become::ZeroKept => old.zeroed(true, geometry),
            Become::Discarded if old == Entry::default() => old,
            Become::Zero | Become::Discarded if geometry.has_zero && shows => {
                old.zeroed(false, geometry)
            }
            Become::Zero | Become::Discarded => Entry::default(),
        }
    }
}
