//! What is dirty at the start: all, nothing, what the top image holds, or what a bitmap says.
//!
//! The filter, or the source, records already when this is looked up: whatever is written meanwhile is marked.

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_block::{BlockError, Node};
use blockyard_sync::sometimes;
use blockyard_units::{ByteLen, ByteRange, Mutant};

use super::filter::FILE;
use super::{Mirror, SyncMode};
use crate::job::Job;

/// Whether what is to be copied at the start can be known; and, for a mutant, as much of it as is known before anything
/// is recorded.
pub(super) fn check_first(
    sync: &SyncMode,
    source: &Node,
    early: Option<&mut DirtyBitmap>,
) -> Result<(), BlockError> {
    let SyncMode::Incremental { bitmap } = sync else { return Ok(()) };
    source.bitmaps().look_at(bitmap, |bitmap| {
        let bits = bitmap.all_since()?;
        early.into_iter().for_each(|dirty| dirty.merge_from(bits));
        Ok(())
    })
}

/// Marks what a bitmap says; all, if it cannot be relied on any more.
pub(super) fn mark_by_bitmap(sync: &SyncMode, source: &Node, dirty: &SharedBitmap) {
    let SyncMode::Incremental { bitmap } = sync else { return };
    let merged = source.bitmaps().look_at(bitmap, |bitmap| {
        dirty.merge_from(bitmap.all_since()?);
        Ok(())
    });
    if merged.is_err() {
        sometimes!(true, "a mirror's bitmap went while it began");
        dirty.mark_all();
    }
}

impl Mirror {
    /// Marks what the source itself holds, and not its backing files, if that is what is to be copied.
    pub(super) async fn mark_top(&self, job: &Job) -> Result<(), BlockError> {
        let forgets = job.layer().design().is_mutant(Mutant::MirrorTopCopiesNothing);
        if self.sync != SyncMode::Top || forgets {
            return Ok(());
        }
        let (io, len) = (&self.copier.io, self.copier.io.len(FILE)?);
        let mut at = 0;
        while at < len.0 {
            job.pause_point().await?;
            let first = job.layer().design().is_mutant(Mutant::CommitStatusOfTopOnly);
            let below = self.copier.bottom.filter(|_| !first);
            let base = below.or_else(|| job.layer().backing_of(self.source));
            let above = match io.status_above(FILE, base, ByteRange::between(at, len.0)).await {
                Ok(above) => above,
                Err(error) => {
                    job.met(error, self.policies.source, true)?;
                    job.pace().await?;
                    continue;
                }
            };
            let found = ByteRange::new(at, above.extent.len.max(ByteLen(1)).0);
            if above.depth > 0 {
                sometimes!(true, "a mirror found data in the top image");
                self.dirty().mark(found);
            }
            at = found.end();
        }
        Ok(())
    }
}
