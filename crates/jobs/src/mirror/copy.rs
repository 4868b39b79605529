//! Copying one chunk.

use blockyard_block::{BlockError, Io, ReadFlags, Write};
use blockyard_sync::note;
use blockyard_units::{ByteLen, ByteRange, CopyMode};

use super::Mirror;
use super::filter::{FILE, TARGET};
use crate::job::Job;

/// A copy failed: its read from the source, or its write to the target.
struct Failed {
    reads: bool,
    error: BlockError,
}

impl Mirror {
    /// Copies the next dirty chunk, which stays dirty if that fails and is to be tried again; false if there is none.
    pub(super) async fn copy_next(&self, job: &Job) -> Result<bool, BlockError> {
        let io = self.io(job);
        let copied = match self.mode {
            CopyMode::Passive => match self.dirty.take_next() {
                // Clean before it is read: a write that ends from now on marks it again.
                Some(chunk) => self.copy(&io, chunk).await,
                None => return Ok(false),
            },
            CopyMode::Active => match self.dirty.first() {
                Some(chunk) => {
                    let serialised = self.filter.begin_serialising(chunk).await;
                    let copied = self.copy_if_dirty(&io, chunk).await;
                    self.filter.end_serialising(serialised);
                    copied
                }
                None => return Ok(false),
            },
        };
        match copied {
            Ok(done) => self.note_progress(job, done),
            Err(Failed { reads, error }) => {
                let policies = self.policies;
                let policy = if reads { policies.source } else { policies.target };
                job.met(error, policy, reads)?;
            }
        }
        Ok(true)
    }

    /// Nobody writes to the chunk while this runs; a guest may have done so before.
    async fn copy_if_dirty(&self, io: &Io, chunk: ByteRange) -> Result<ByteLen, Failed> {
        if !self.dirty.dirty_in(chunk) {
            return Ok(ByteLen(0));
        }
        self.dirty.reset_inward(chunk);
        self.copy(io, chunk).await
    }

    async fn copy(&self, io: &Io, chunk: ByteRange) -> Result<ByteLen, Failed> {
        note!("copies {chunk}");
        let copied = self.read_and_write(io, chunk).await;
        if copied.is_err() {
            self.dirty.mark(chunk);
        }
        copied.map(|()| chunk.len())
    }

    async fn read_and_write(&self, io: &Io, chunk: ByteRange) -> Result<(), Failed> {
        let failed = |reads| move |error| Failed { reads, error };
        let data = io.read(FILE, chunk, ReadFlags::default()).await.map_err(failed(true))?;
        io.write(TARGET, Write::data(chunk.start(), data)).await.map_err(failed(false))
    }
}
