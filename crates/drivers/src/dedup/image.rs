//! An open image: requests, and how what they change becomes durable.
//!
//! | written | only once this is durable | invariant |
//! |---|---|---|
//! | data, to clusters that are free | – | |
//! | entries, as they were at one moment | the data that there were then | `entries-refer-to-durable-data` |
//! | other data to clusters that no entry referred to at that moment | the entries | `disk-refers-to-nothing-reused` |
//!
//! So what power loss leaves needs no repair: each sector of the table is as it was at one flush or another, and
//! whatever it refers to is there.
//!
//! Entries are written by flushes alone, one at a time: whoever waited meanwhile finds everything told, or tells the
//! rest for all. A flush that fails leaves everything to the next, as if it had not begun.
//!
//! Invariant `readers-have-time`: a data cluster that a read is on its way to is released by no flush.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{BlockError, Io, LONGEST, ReadFlags, Write};
use blockyard_runtime::{IoBuffer, IoErrorKind};
use blockyard_sync::{Mutex, Shared, sometimes};
use blockyard_units::{ByteLen, ByteRange, Mutant};

use super::format::{Digest, Header, digest_of};
use super::place::{Place, read_metadata};
use super::table::{Copied, Run, Step, Table};
use super::{DATA, METADATA};
use crate::describe::may_write;

/// Bytes of the table that are written at once.
const AT_ONCE: usize = 1 << 20;

/// See the file head.
pub struct Image {
    pub header: Header,
    table: Shared<Table>,
    /// Of whoever flushes.
    turn: Mutex<()>,
}

/// Whether the design has this mistake.
fn mistaken(io: &Io, mutant: Mutant) -> bool {
    io.layer().design().is_mutant(mutant)
}

impl Image {
    /// As it is in the children of the node `node`, whose view `io` is. Writes nothing.
    ///
    /// # Errors
    /// It does not hold together; or a child failed.
    ///
    /// # Yields
    /// As the children do.
    pub async fn open(io: &Io, node: &str) -> Result<Self, BlockError> {
        let corrupt = |what: String| BlockError::Corrupt { node: node.into(), what };
        let read = read_metadata(Place::Child(io, METADATA)).await?.map_err(corrupt)?;
        if let Some(stray) = read.stray.first() {
            let said = "where zeroes are expected; 'blockyard check --repair all' puts them there";
            return Err(corrupt(alloc::format!("the metadata have something at {stray}, {said}")));
        }
        let there = io.len(DATA)?.0 / read.header.cluster;
        let beyond = |(_, entry): &(u64, &super::format::Entry)| {
            entry.is_some_and(|reference| reference.at >= there)
        };
        if let Some((index, Some(reference))) = (0..).zip(&read.entries).find(beyond) {
            let at = reference.at;
            return Err(corrupt(alloc::format!(
                "entry {index} refers to data cluster {at}, and there are {there}; is 'data' the image's own?"
            )));
        }
        let table = Table::new(read.entries).map_err(|index| {
            let said = "has another digest than one before it that refers to the same data cluster";
            corrupt(alloc::format!("entry {index} {said}"))
        })?;
        Ok(Self { header: read.header, table: Shared::new(table), turn: Mutex::new(()) })
    }

    /// The guest clusters of `range`: the first, and how many.
    fn clusters(&self, range: ByteRange) -> (u64, u64) {
        let first = range.start() / self.header.cluster;
        (first, range.end().div_ceil(self.header.cluster) - first)
    }

    /// Data clusters, as bytes.
    fn bytes_of(&self, at: u64, count: u64) -> ByteRange {
        ByteRange::new(at * self.header.cluster, count * self.header.cluster)
    }

    /// What the beginning of `range` is: where it lies in the data, or none for zeroes.
    pub fn look(&self, range: ByteRange) -> (Option<u64>, ByteRange) {
        let (guest, count) = self.clusters(range);
        let (at, count) = self.table.read(|table| table.look(guest, count));
        let end = range.end().min((guest + count) * self.header.cluster);
        (at.map(|at| at * self.header.cluster), ByteRange::between(range.start(), end))
    }

    /// Reads whole clusters; the last may be cut by the end.
    ///
    /// # Errors
    /// A child failed.
    ///
    /// # Yields
    /// As the child does.
    pub async fn read(
        &self,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        let (guest, count) = self.clusters(range);
        let pins = !mistaken(io, Mutant::DedupReadNotPinned);
        let runs = self.table.write(|table| {
            let runs = table.pin(guest, count);
            if !pins {
                table.unpin(&runs);
            }
            runs
        });
        let read = self.read_runs(io, &runs, range, flags).await;
        if pins && runs.iter().any(|(at, _)| at.is_some()) {
            self.table.write(|table| table.unpin(&runs));
        }
        read
    }

    async fn read_runs(
        &self,
        io: &Io,
        runs: &[(Option<u64>, u64)],
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        let flags = ReadFlags { by_hook: flags.by_hook, ..ReadFlags::default() };
        let len = range.len().as_usize();
        let mut bytes = Vec::with_capacity(len);
        for (at, count) in runs {
            match at {
                Some(at) => {
                    let data = io.read(DATA, self.bytes_of(*at, *count), flags).await?;
                    if runs.len() == 1 && data.len() == len {
                        return Ok(data);
                    }
                    bytes.extend_from_slice(&data);
                }
                None => {
                    let zeroes = ByteLen(count * self.header.cluster).as_usize();
                    bytes.resize(bytes.len() + zeroes, 0);
                }
            }
        }
        bytes.truncate(len);
        Ok(bytes.into())
    }

    /// Makes whole clusters zeroes; the last may be cut by the end.
    pub fn clear(&self, io: &Io, range: ByteRange) {
        let (guest, count) = self.clusters(range);
        self.change(io, |table| table.clear(guest, count));
    }

    fn change<R>(&self, io: &Io, change: impl FnOnce(&mut Table) -> R) -> R {
        let hasty = mistaken(io, Mutant::DedupFreesBeforeFlush);
        self.table.write(|table| {
            let result = change(table);
            if hasty {
                let unneeded = table.unneeded();
                let left = table.release(&unneeded, false);
                table.free(&left);
            }
            result
        })
    }

    /// Writes whole clusters; the last may be cut by the end, and zeroes follow it then.
    ///
    /// # Errors
    /// A child failed, or there is no space: clusters up to some one are written, those behind it are as before.
    ///
    /// # Yields
    /// As the children do.
    pub async fn write(&self, io: &Io, offset: u64, data: IoBuffer) -> Result<(), BlockError> {
        let cluster = ByteLen(self.header.cluster).as_usize();
        let data = match data.len() % cluster {
            0 => data,
            _ => {
                let mut whole = data.to_vec();
                whole.resize(data.len().next_multiple_of(cluster), 0);
                whole.into()
            }
        };
        let contents: Vec<Option<Digest>> = data.chunks(cluster).map(digest_of).collect();
        let first = offset / self.header.cluster;
        let (mut done, mut longest) = (0, u64::MAX);
        loop {
            let from = usize::try_from(done).expect("a-request-is-short");
            let limit = (self.limit(io)?, longest);
            let (set, step) =
                self.change(io, |table| table.plan(first + done, &contents[from..], limit));
            done += set;
            match step {
                Step::Done => return Ok(()),
                Step::Full if self.reclaim(io).await? => {}
                Step::Full => {
                    sometimes!(true, "a dedup image had no space");
                    return Err(no_space(io, offset, &data));
                }
                Step::Store(run) => {
                    let from = usize::try_from(done).expect("a-request-is-short");
                    let bytes = ByteLen(run.count * self.header.cluster).as_usize();
                    let bytes = data.slice(from * cluster..from * cluster + bytes);
                    match self.store(io, run, bytes).await {
                        Ok(()) => {
                            self.change(io, |table| table.settle(run, &contents[from..]));
                            done += run.count;
                        }
                        Err(error) if !self.fits_later(io, run, &error).await? => {
                            return Err(error);
                        }
                        Err(_) => longest = 1,
                    }
                }
            }
        }
    }

    /// Data clusters that there may be.
    fn limit(&self, io: &Io) -> Result<u64, BlockError> {
        let bytes = if io.grows(DATA) { LONGEST } else { io.len(DATA)?.0 };
        Ok(bytes / self.header.cluster)
    }

    async fn store(&self, io: &Io, run: Run, data: IoBuffer) -> Result<(), BlockError> {
        let at = self.bytes_of(run.at, run.count).start();
        let stored = io.write(DATA, Write::data(at, data)).await;
        if stored.is_err() {
            self.table.write(|table| table.give_back(run.at, run.count));
        }
        stored
    }

    /// Whether a run that met this error fits elsewhere: in part, or where something has become free.
    async fn fits_later(&self, io: &Io, run: Run, error: &BlockError) -> Result<bool, BlockError> {
        if error.io_kind() != Some(IoErrorKind::NoSpace) {
            return Ok(false);
        }
        let shorter = run.count > 1;
        Ok(shorter
            || (self.reclaim(io).await? && self.table.read(|table| table.has_free_below(run.at))))
    }

    /// Has what waits for a flush made free; whether anything did.
    async fn reclaim(&self, io: &Io) -> Result<bool, BlockError> {
        let look = |table: &Table| (table.waits_for_flush(), table.flush_releases());
        let (waits, releases) = self.table.read(look);
        if !waits {
            return Ok(false);
        }
        sometimes!(!releases, "a write waited until a data cluster was read");
        // Somebody may still read all of it.
        self.table.wait_until(|table| table.flush_releases() || !table.waits_for_flush()).await;
        self.flush(io).await?;
        Ok(true)
    }

    /// Makes everything that was written durable, and what nobody refers to any more free.
    ///
    /// # Errors
    /// A child failed: nothing is known to be durable, and nothing has become free.
    ///
    /// # Yields
    /// Always.
    pub async fn flush(&self, io: &Io) -> Result<(), BlockError> {
        let turn = self.turn.lock().await;
        let result = self.flush_in_turn(io).await;
        turn.unlock();
        result
    }

    async fn flush_in_turn(&self, io: &Io) -> Result<(), BlockError> {
        let mut copied = self.table.write(Table::copy);
        if !copied.sectors.is_empty()
            && let Err(error) = self.write_back(io, &mut copied).await
        {
            if !mistaken(io, Mutant::DedupFailedFlushForgets) {
                self.table.write(|table| table.keep_dirty(&copied));
            }
            return Err(error);
        }
        if copied.unneeded.is_empty() {
            return Ok(());
        }
        let hasty = mistaken(io, Mutant::DedupReleasesReferred);
        let leaving = self.table.write(|table| table.release(&copied.unneeded, hasty));
        let kept = leaving.len() < copied.unneeded.len();
        sometimes!(kept, "a data cluster was needed again during a flush");
        // Where nobody above writes any more the edge does not either.
        let discards = if may_write(io, DATA) { runs(&leaving) } else { Vec::new() };
        for (at, count) in discards {
            // What is left undone is only space.
            let _ = io.write(DATA, Write::discard(self.bytes_of(at, count))).await;
        }
        self.table.write(|table| table.free(&leaving));
        Ok(())
    }

    /// Has `copied` durable, and before it the data that it refers to.
    async fn write_back(&self, io: &Io, copied: &mut Copied) -> Result<(), BlockError> {
        if !mistaken(io, Mutant::DedupEntryBeforeData) {
            io.flush(DATA).await?;
        }
        if mistaken(io, Mutant::DedupCopiesLate) {
            self.table.write(|table| {
                table.keep_dirty(copied);
                *copied = table.copy();
            });
        }
        let mut sectors = copied.sectors.iter().peekable();
        while let Some((first, bytes)) = sectors.next() {
            let (mut next, mut piece) = (first + 1, bytes.clone());
            while let Some((_, bytes)) =
                sectors.next_if(|(sector, _)| **sector == next && piece.len() < AT_ONCE)
            {
                piece.extend_from_slice(bytes);
                next += 1;
            }
            let write = Write::data(self.header.sector_at(*first), piece.into());
            io.write(METADATA, write).await?;
        }
        io.flush(METADATA).await
    }
}

/// Clusters in order, as runs.
fn runs(clusters: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for at in clusters {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == *at => *count += 1,
            _ => runs.push((*at, 1)),
        }
    }
    runs
}

fn no_space(io: &Io, offset: u64, data: &IoBuffer) -> BlockError {
    let node = io.layer().node_by_id(io.node_id());
    BlockError::Io {
        kind: IoErrorKind::NoSpace,
        node: node.map_or_else(String::new, |node| node.name().into()),
        range: ByteRange::new(offset, data.len() as u64),
    }
}
