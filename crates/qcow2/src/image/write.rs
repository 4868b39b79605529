//! Writing data: where they are if they may be, or in new clusters, with what is not written copied from what was there
//! before, in one request.
//!
//! Invariant `one-allocates-a-cluster`: guest ranges that are being allocated do not overlap; who would wait does so
//! without the turn and without a hold on any table. So what a cluster was before it is linked stays as it was, and
//! may be read for the copy.
//!
//! Invariant `written-when-unused`: space that was the cluster's before, as zeroes keep it and as an external data file
//! has it in any case, is written when nobody is on the way there any more who found data in it.

use alloc::vec::Vec;

use blockyard_block::ReadFlags;
use blockyard_runtime::IoBuffer;
use blockyard_units::{ByteRange, Mutant};

use super::Image;
use crate::entry::{Entry, Kind, L1Entry};
use crate::error::ImageError;
use crate::file::Files;
use crate::meta::{Freed, Which};

/// Clusters that are being allocated.
struct Allocation {
    /// Guest offsets; whole clusters.
    guest: ByteRange,
    /// Where the first one's data will be.
    host: u64,
    /// Nothing refers to the clusters yet. Otherwise they are the guest's already, without data.
    fresh: bool,
    /// Of the guest's disk, what is to be written: all that is asked for, and what is copied around it.
    written: ByteRange,
}

/// How a write goes on.
enum Step {
    /// In place, after all.
    InPlace,
    /// When nobody allocates in this guest range any more.
    Wait(ByteRange),
    Allocate(Allocation),
}

impl Image {
    /// Writes `data` at `offset` of the guest's disk.
    ///
    /// # Errors
    /// A file failed, or the image is wrong there: of the range anything may have been written.
    ///
    /// # Yields
    /// As the files do, and while others allocate the same clusters.
    pub async fn write(
        &self,
        files: &Files<'_>,
        offset: u64,
        data: IoBuffer,
    ) -> Result<(), ImageError> {
        self.disown_bitmaps(files).await?;
        let range = ByteRange::new(offset, data.len() as u64);
        self.write_range(files, range, &data).await
    }

    /// The same, once the image's bitmaps are disowned.
    pub(super) async fn write_range(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        data: &IoBuffer,
    ) -> Result<(), ImageError> {
        let mut at = range.start();
        while at < range.end() {
            let rest = ByteRange::between(at, range.end());
            at += match self.as_user(rest, self.write_in_place(files, rest, range, data)).await? {
                Some(written) => written,
                None => self.write_new(files, rest, range, data).await?,
            };
        }
        Ok(())
    }

    /// Writes the beginning of `range`, which is a part of `whole`, where its data are, if they may be written there;
    /// returns how many bytes of it.
    async fn write_in_place(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        whole: ByteRange,
        data: &IoBuffer,
    ) -> Result<Option<u64>, ImageError> {
        let run = self.look(files, range.start(), range.end()).await?;
        let (Kind::Data(host), true) = (run.kind, run.in_place) else { return Ok(None) };
        let piece = part(data, whole, ByteRange::new(range.start(), run.len));
        self.write_data(files, host, piece).await?;
        Ok(Some(run.len))
    }

    /// Writes the beginning of `range`, which is a part of `whole`, into new clusters; returns how many bytes of it.
    async fn write_new(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        whole: ByteRange,
        data: &IoBuffer,
    ) -> Result<u64, ImageError> {
        let turn = self.turn.lock().await;
        let step = self.next_step(files, range).await;
        if let (Ok(Step::Wait(busy)), true) =
            (&step, self.design.is_mutant(Mutant::Qcow2WaitsWithTurn))
        {
            self.wait_for_allocations(*busy).await;
        }
        turn.unlock();
        let allocation = match step? {
            Step::InPlace => return Ok(0),
            Step::Wait(busy) => {
                self.wait_for_allocations(busy).await;
                return Ok(0);
            }
            Step::Allocate(allocation) => allocation,
        };
        let in_use = !allocation.fresh || self.geometry.external;
        if in_use && !self.design.is_mutant(Mutant::Qcow2WritesKeptInUse) {
            self.users.wait_for_those_over(allocation.written).await;
        }
        let written = range.intersection(&allocation.guest);
        let copied =
            self.write_allocated(files, &allocation, written, part(data, whole, written)).await;
        let turn = self.turn.lock().await;
        let result = match copied {
            Ok(()) => self.link(files, &allocation).await,
            failed => failed,
        };
        let fresh = allocation.fresh || self.design.is_mutant(Mutant::Qcow2AbortFreesReused);
        if result.is_err() && fresh && !self.geometry.external {
            let clusters = allocation.guest.len().0 / self.geometry.cluster();
            self.unallocate(files, allocation.host, clusters).await;
        }
        self.meta.write(|meta| meta.allocating.retain(|guest| *guest != allocation.guest));
        turn.unlock();
        result.map(|()| written.len().0)
    }

    /// Waits until nobody allocates in `busy`. Not for who has the turn.
    pub(super) async fn wait_for_allocations(&self, busy: ByteRange) {
        let free = move |meta: &crate::meta::Meta| {
            !meta.allocating.iter().any(|guest| guest.overlaps(&busy))
        };
        self.meta.wait_until(free).await;
    }

    /// Who allocates in `range`, if anybody does.
    pub(super) fn allocating(&self, range: ByteRange) -> Option<ByteRange> {
        self.meta.read(|meta| meta.allocating.iter().find(|guest| guest.overlaps(&range)).copied())
    }

    /// Decides how the beginning of `range` is written. For who has the turn.
    async fn next_step(&self, files: &Files<'_>, range: ByteRange) -> Result<Step, ImageError> {
        let geometry = &self.geometry;
        let run = self.look_in_turn(files, range.start(), range.end()).await?;
        if run.in_place {
            return Ok(Step::InPlace);
        }
        let first = range.start() - geometry.within(range.start());
        if let Some(busy) = self.allocating(ByteRange::new(first, geometry.cluster())) {
            return Ok(Step::Wait(busy));
        }
        self.ensure_table(files, first).await?;
        let entry = self.entry(files, first).await?;
        let kept = entry.host(geometry).filter(|_| entry.is_own());
        let clusters = match kept {
            Some(_) => 1,
            None => self.count_new(files, ByteRange::between(first, range.end())).await?,
        };
        let (host, clusters) = match kept {
            Some(host) => (host, 1),
            None if geometry.external => (first, clusters),
            None => self.allocate(files, clusters, false).await?,
        };
        let guest = ByteRange::new(first, clusters * geometry.cluster());
        let written = self.around(files, range.intersection(&guest)).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                if kept.is_none() && !geometry.external {
                    self.unallocate(files, host, clusters).await;
                }
                return Err(error);
            }
        };
        self.meta.write(|meta| meta.allocating.push(guest));
        Ok(Step::Allocate(Allocation { guest, host, fresh: kept.is_none(), written }))
    }

    /// How many clusters from the start of `range` on need new space, and are in the same slice.
    pub(super) async fn count_new(
        &self,
        files: &Files<'_>,
        range: ByteRange,
    ) -> Result<u64, ImageError> {
        let geometry = &self.geometry;
        let reach = geometry.slice_entries() * geometry.cluster();
        let end = range.end().min((range.start() / reach + 1) * reach);
        let mut at = range.start() + geometry.cluster();
        while at < end {
            let entry = self.entry(files, at).await?;
            let kept = entry.is_own() && entry.host(geometry).is_some();
            if kept || self.allocating(ByteRange::new(at, geometry.cluster())).is_some() {
                break;
            }
            at += geometry.cluster();
        }
        Ok((at - range.start()) / geometry.cluster())
    }

    pub(super) async fn entry(&self, files: &Files<'_>, at: u64) -> Result<Entry, ImageError> {
        self.find(files, Which::L2, |meta| meta.entry(at, &self.geometry)).await
    }

    /// What has to be written so that `range` can be: whole clusters, or whole subclusters where those beside them
    /// stay as they are, but no more than is asked for of a subcluster at the end that has data already: others write
    /// there in place. For who has the turn.
    async fn around(&self, files: &Files<'_>, range: ByteRange) -> Result<ByteRange, ImageError> {
        let geometry = &self.geometry;
        let unit_at = |entry: Entry| {
            let moves =
                entry.is_compressed() || (entry.host(geometry).is_some() && !entry.is_own());
            if moves { geometry.cluster() } else { geometry.subcluster() }
        };
        let (start, end) = (range.start(), range.end());
        let unit = unit_at(self.entry(files, start).await?);
        let start = start - start % unit;
        let copies = self.design.is_mutant(Mutant::Qcow2CopiesWhatIsWritten);
        if self.look_in_turn(files, end - 1, end).await?.in_place && !copies {
            return Ok(ByteRange::between(start, end));
        }
        let unit = unit_at(self.entry(files, end - 1).await?);
        Ok(ByteRange::between(start, end.next_multiple_of(unit)))
    }

    /// Makes sure that there is an L2 table for guest offset `at` that nobody else refers to, and that its slice is in
    /// memory.
    pub(super) async fn ensure_table(&self, files: &Files<'_>, at: u64) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let old = self.meta.read(|meta| meta.l1_entry(at, geometry))?;
        if old.table().is_some() && old.is_own() {
            return Ok(());
        }
        let frees_first = self.design.is_mutant(Mutant::Qcow2L2CowFreesFirst);
        if let (Some(old), true) = (old.table(), frees_first) {
            self.release_cluster(files, old / geometry.cluster(), false).await?;
        }
        let (host, _) = self.allocate(files, 1, true).await?;
        if let Err(error) = self.fill_table(files, old, host).await {
            self.unallocate(files, host, 1).await;
            return Err(error);
        }
        let index = at / geometry.l1_reach();
        self.meta.write(|meta| {
            // What was here before the cluster was this table is none of it.
            meta.l2.forget(host, host + geometry.cluster());
            meta.l1.set(index, L1Entry::own(host).0);
            if let Some(old) = old.table().filter(|_| !frees_first) {
                let host = ByteRange::new(old, geometry.cluster());
                let guest = ByteRange::new(index * geometry.l1_reach(), geometry.l1_reach());
                meta.freed.push(Freed { host, guest, discard: false });
            }
        });
        Ok(())
    }

    async fn fill_table(
        &self,
        files: &Files<'_>,
        old: L1Entry,
        host: u64,
    ) -> Result<(), ImageError> {
        let table = ByteRange::new(host, self.geometry.cluster());
        let Some(old) = old.table() else { return self.put_zeroes(files, table).await };
        // A table that others refer to does not change, so what is in the file is what is in memory.
        let bytes = files.image.read(ByteRange::new(old, self.geometry.cluster())).await?;
        self.put(files, None, host, bytes).await
    }

    /// Writes `data`, which belong at `range`, and around them what was there before.
    async fn write_allocated(
        &self,
        files: &Files<'_>,
        allocation: &Allocation,
        range: ByteRange,
        data: IoBuffer,
    ) -> Result<(), ImageError> {
        let Allocation { guest, host, written, fresh } = *allocation;
        let head = ByteRange::between(written.start(), range.start());
        let tail = ByteRange::between(range.end(), written.end());
        let at = |offset: u64| host + (offset - guest.start());
        let is_virgin = fresh && !self.is_encrypted() && files.data.len()? <= host;
        if is_virgin && self.is_zero(files, head).await? && self.is_zero(files, tail).await? {
            // What lies behind the end of the file reads as zeroes already.
            return self.write_data(files, at(range.start()), data).await;
        }
        if head.is_empty() && tail.is_empty() {
            return self.write_data(files, at(range.start()), data).await;
        }
        let mut bytes = Vec::with_capacity(written.len().as_usize());
        bytes.extend_from_slice(&self.read_old(files, head).await?);
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(&self.read_old(files, tail).await?);
        self.write_data(files, at(written.start()), bytes.into()).await
    }

    async fn read_old(&self, files: &Files<'_>, range: ByteRange) -> Result<IoBuffer, ImageError> {
        self.read(files, range, ReadFlags::BY_HOOK).await
    }

    /// Whether `range` is known to read as zeroes.
    pub(super) async fn is_zero(
        &self,
        files: &Files<'_>,
        range: ByteRange,
    ) -> Result<bool, ImageError> {
        let mut at = range.start();
        while at < range.end() {
            let run = self.look(files, at, range.end()).await?;
            if !run.kind.reads_as_zeroes(at, || files.backing_len()) {
                return Ok(false);
            }
            at += run.len;
        }
        Ok(true)
    }

    /// Has the structures refer to what was written. For who has the turn.
    async fn link(&self, files: &Files<'_>, allocation: &Allocation) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let Allocation { guest, host, written, fresh } = *allocation;
        // All of them are in one slice, and that is brought in by this.
        self.entry(files, guest.start()).await?;
        self.meta.write(|meta| {
            let mut at = guest.start();
            while at < guest.end() {
                let old = match meta.entry(at, geometry)? {
                    crate::meta::Looked::Found(old) => old,
                    crate::meta::Looked::Bring(_) => unreachable!("an-allocation-is-in-one-slice"),
                };
                let cluster = ByteRange::new(at, geometry.cluster());
                let now = written.intersection(&cluster);
                let from = (now.start() - at) / geometry.subcluster();
                let to = (now.end() - at) / geometry.subcluster();
                let new = old.with_data(host + (at - guest.start()), from..to, geometry);
                meta.set_entry(at, new, geometry)?;
                if fresh {
                    meta.free_entry(old, at, false, geometry);
                }
                at = cluster.end();
            }
            Ok(())
        })
    }
}

/// The part of `data`, which belong at `whole`, that belongs at `range`.
pub(super) fn part(data: &IoBuffer, whole: ByteRange, range: ByteRange) -> IoBuffer {
    let from = usize::try_from(range.start() - whole.start()).expect("requests-are-in-memory");
    data.slice(from..from + range.len().as_usize())
}
