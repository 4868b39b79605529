//! Saving chunks: by workers, or by the guests' writes themselves.

use alloc::boxed::Box;
use alloc::sync::Arc;

use blockyard_block::{BlockError, Io, ReadFlags, Write, WriteFlags, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind};
use blockyard_sync::{note, sometimes};
use blockyard_units::{BackupWay, ByteLen, ByteRange, Mutant};

use super::chunks::{Chunks, Waited};
use super::table::{Place, Work};
use crate::flight::Failed;
use crate::mirror::{FILE, TARGET};

/// What becomes of a guest's write whose old data cannot be saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCbwError {
    /// It fails.
    #[default]
    BreakGuestWrite,
    /// It goes on, and the backup fails.
    BreakSnapshot,
}

/// How chunks are saved; what job, filter and hook share.
pub(super) struct Saver {
    pub chunks: Chunks,
    pub way: BackupWay,
    /// Bytes that are copied at once at most.
    pub most: ByteLen,
    pub compress: bool,
    /// The source gives up what the target has.
    pub discards: bool,
    /// The target is there for those who look back, as long as they need it.
    pub is_temporary: bool,
    /// The target shows everything by itself.
    pub is_whole: bool,
    pub on_cbw_error: OnCbwError,
    /// How long a guest's write waits; 0 is without limit.
    pub limit_ns: u64,
    /// By its own node.
    pub node: alloc::string::String,
}

impl Saver {
    async fn read(&self, io: &Io, chunk: ByteRange) -> Result<IoBuffer, Failed> {
        let joins = io.layer().design().is_mutant(Mutant::CbwReadWaitsOnSerialising);
        // What the hook of a write reads must not wait for that write.
        let by_hook = self.way == BackupWay::Notifier && !joins;
        let flags = if by_hook { ReadFlags::BY_HOOK } else { ReadFlags::default() };
        io.read(FILE, chunk, flags).await.map_err(|error| Failed { reads: true, error })
    }

    async fn write(&self, io: &Io, chunk: ByteRange, data: IoBuffer) -> Result<(), Failed> {
        let failed = |error| Failed { reads: false, error };
        if data.iter().all(|byte| *byte == 0) {
            return self.zero(io, chunk).await.map_err(failed);
        }
        let mut write = Write::data(chunk.start(), data);
        if let (true, WriteKind::Data(data)) = (self.compress, &write.kind) {
            write.kind = WriteKind::Compressed(data.clone());
        }
        io.write(TARGET, write).await.map_err(failed)
    }

    /// What reads as zeroes there already is left as it is; where the target is to have something below it that it has
    /// not yet, only what is its own.
    pub async fn zero(&self, io: &Io, range: ByteRange) -> Result<(), BlockError> {
        let there = io.status_above(TARGET, None, range).await?.extent;
        let own = there.allocated || self.is_whole;
        if there.zero && own && there.len >= range.len() {
            return Ok(());
        }
        let flags = WriteFlags { may_unmap: true, ..WriteFlags::default() };
        io.write(TARGET, Write { flags, ..Write::zeroes(range) }).await
    }

    /// A worker: saves what is to be saved, and what has failed once that is to be tried again.
    pub async fn work(self: Arc<Self>, io: Io) {
        while let Some(Work { chunk, mut data }) = self.chunks.wait_for_work(self.most).await {
            sometimes!(data.is_some(), "a write was tried again without another read");
            if io.layer().design().is_mutant(Mutant::BackupReadsAgain) {
                data = None;
            }
            match self.go_on(&io, chunk, &mut data).await {
                Ok(()) => self.chunks.is_saved(chunk),
                Err(failed) => self.fail(chunk, data, failed),
            }
        }
        self.chunks.worker_ends();
    }

    /// A chunk that was not taken for one guest alone is not saved; `data`: what is read of it.
    pub fn fail(&self, chunk: ByteRange, data: Option<IoBuffer>, failed: Failed) {
        note!("{chunk} is not saved: {}", failed.error);
        let breaks_guests = self.on_cbw_error == OnCbwError::BreakGuestWrite;
        self.chunks.fail(chunk, data, failed, breaks_guests);
    }

    /// Saves a chunk from where it was left: what is read is not read again.
    async fn go_on(
        &self,
        io: &Io,
        chunk: ByteRange,
        data: &mut Option<IoBuffer>,
    ) -> Result<(), Failed> {
        let read = match data {
            Some(read) => read.clone(),
            None => {
                note!("reads {chunk}");
                let early = io.layer().design().is_mutant(Mutant::BackupLetsGoBeforeRead);
                if early {
                    self.chunks.is_read(chunk);
                }
                let read = self.read(io, chunk).await?;
                if !early {
                    self.chunks.is_read(chunk);
                }
                data.insert(read).clone()
            }
        };
        self.write(io, chunk, read).await?;
        if self.discards && self.chunks.begin_discard(chunk).await {
            // If that fails the source keeps what nobody needs, and nothing else is lost.
            let discarded = io.write(FILE, Write::discard(chunk)).await;
            sometimes!(discarded.is_ok(), "a backup's source gave up what was saved");
        }
        Ok(())
    }

    /// Before a guest's write to `range`: has what it overwrites saved.
    ///
    /// # Errors
    /// That is impossible, and it is the guest's write that fails.
    ///
    /// # Yields
    /// Unless it is saved already.
    pub async fn before_write(&self, io: &Io, range: ByteRange) -> Result<(), BlockError> {
        let saved = match self.way {
            BackupWay::Workers => Ok(()),
            BackupWay::Filter => self.save_now(io, range, self.most).await,
            BackupWay::Notifier => {
                let number = self.chunks.begin_apart(range).await;
                let saved = self.save_now(io, range, ByteLen(0)).await;
                self.chunks.end_apart(number);
                saved
            }
        };
        let waited = match saved {
            Ok(()) => self.wait_saved(io, range).await,
            failed => failed,
        };
        if let Err(error) = waited {
            if self.on_cbw_error == OnCbwError::BreakGuestWrite {
                return Err(error);
            }
            sometimes!(true, "a backup was broken for a guest's write");
            self.chunks.breaks(error);
        }
        // A discard that a broken backup has begun must not come after the write.
        self.chunks.wait_discarded(range).await;
        Ok(())
    }

    async fn wait_saved(&self, io: &Io, range: ByteRange) -> Result<(), BlockError> {
        let limit = async {
            match self.limit_ns {
                0 => core::future::pending().await,
                ns => io.layer().runtime().sleep(ns).await,
            }
        };
        match self.chunks.wait_saved(range, limit).await? {
            Waited::Free => Ok(()),
            Waited::TooLong => {
                sometimes!(true, "a guest's write waited too long for a backup");
                let node = self.node.clone();
                Err(BlockError::Io { kind: IoErrorKind::TimedOut, node, range })
            }
        }
    }

    /// Saves what a guest's write overwrites in the guest's place.
    async fn save_now(&self, io: &Io, range: ByteRange, most: ByteLen) -> Result<(), BlockError> {
        while let Some(chunk) = self.chunks.claim(range, most).await? {
            let mut data = None;
            match self.go_on(io, chunk, &mut data).await {
                Ok(()) => self.chunks.is_saved(chunk),
                Err(failed) => {
                    self.chunks.put_back(chunk);
                    return Err(failed.error);
                }
            }
        }
        Ok(())
    }

    /// Gives up whole chunks of `range` as they were: they are read and saved no more.
    ///
    /// # Errors
    /// The target is to stay, or could not discard: it keeps what nobody can read any more.
    ///
    /// # Yields
    /// Always.
    pub async fn discard_snapshot(&self, io: &Io, range: ByteRange) -> Result<(), BlockError> {
        if !self.is_temporary {
            return Err(io.unsupported(range));
        }
        let given_up = self.chunks.give_up(range).await?;
        if given_up.is_empty() {
            return Ok(());
        }
        io.write(TARGET, Write::discard(given_up)).await
    }

    /// What `range` was when the backup began.
    pub fn read_snapshot<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let mut data = alloc::vec::Vec::with_capacity(range.len().as_usize());
            let mut rest = range;
            while !rest.is_empty() {
                let (piece, place) = self.chunks.begin_look(rest).await?;
                if io.layer().design().is_mutant(Mutant::FleecingReadOvertakesCbw) {
                    self.chunks.end_look(place)?;
                }
                let edge = if matches!(place, Place::Target(_)) { TARGET } else { FILE };
                let read = io.read(edge, piece, ReadFlags::default()).await;
                self.chunks.end_look(place)?;
                data.extend_from_slice(&read?);
                rest = ByteRange::between(piece.end(), rest.end());
            }
            Ok(data.into())
        })
    }
}
