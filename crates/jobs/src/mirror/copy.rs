//! Copying one run of chunks.

use alloc::sync::Arc;

use blockyard_block::{BlockError, Io, LONGEST, Node, ReadFlags, Write, WriteFlags};
use blockyard_sync::{note, sometimes};
use blockyard_units::{ByteRange, CopyMode, Mutant, NodeId};

use super::Tracking;
use super::filter::{FILE, TARGET};
use crate::flight::Failed;

/// What a copy needs, wherever it runs.
#[derive(Clone)]
pub(super) struct Copier {
    pub tracking: Arc<Tracking>,
    /// The two edges, on the job's behalf.
    pub io: Io,
    pub filter: Option<Arc<Node>>,
    /// What no layer above this one holds is not copied, if there is one.
    pub bottom: Option<NodeId>,
}

impl Copier {
    /// Copies `range`, which counts as clean and is listed: passive, a write that ends from now on marks it again.
    /// What fails is dirty again.
    pub async fn copy(self, range: ByteRange) {
        note!("copies {range}");
        let kept = match (self.tracking.mode(), &self.filter) {
            (CopyMode::Active, Some(filter)) => {
                // Nobody writes there meanwhile.
                Some((filter, filter.begin_serialising(self.kept(range)).await))
            }
            _ => None,
        };
        let copied = self.copy_extents(range).await;
        if copied.is_err() {
            self.tracking.dirty.mark(range);
        }
        if let Some((filter, serialised)) = kept {
            filter.end_serialising(serialised);
        }
        self.tracking.flight.end(range, copied);
    }

    fn kept(&self, range: ByteRange) -> ByteRange {
        if self.io.layer().design().is_mutant(Mutant::MirrorActiveWriteStarvesBackground) {
            return ByteRange::new(0, LONGEST);
        }
        range
    }

    async fn copy_extents(&self, range: ByteRange) -> Result<(), Failed> {
        let mut rest = range;
        while !rest.is_empty() {
            let asked = self.io.status_above(FILE, self.bottom, rest).await;
            let above = asked.map_err(|error| Failed { reads: true, error })?;
            let extent = above.extent;
            let part = ByteRange::new(rest.start(), extent.len.0.min(rest.len().0));
            if self.bottom.is_some() && above.depth == 0 {
                sometimes!(true, "a commit left alone what the base holds");
            } else if extent.zero {
                self.zero(part).await?;
            } else {
                self.read_and_write(part).await?;
            }
            rest = ByteRange::between(part.end(), range.end());
        }
        Ok(())
    }

    async fn read_and_write(&self, range: ByteRange) -> Result<(), Failed> {
        let failed = |reads| move |error: BlockError| Failed { reads, error };
        let data = self.io.read(FILE, range, ReadFlags::default()).await.map_err(failed(true))?;
        let write = Write::data(range.start(), data);
        self.io.write(TARGET, write).await.map_err(failed(false))
    }

    /// What reads as zeroes there already is left as it is.
    async fn zero(&self, range: ByteRange) -> Result<(), Failed> {
        let failed = |error| Failed { reads: false, error };
        let there = self.io.status_above(TARGET, None, range).await.map_err(failed)?.extent;
        if there.zero && there.len >= range.len() {
            sometimes!(true, "zeroes were there already");
            return Ok(());
        }
        let flags = WriteFlags { may_unmap: true, ..WriteFlags::default() };
        self.io.write(TARGET, Write { flags, ..Write::zeroes(range) }).await.map_err(failed)
    }
}
