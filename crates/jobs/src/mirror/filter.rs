//! The mirror's filter.
//!
//! An active write that fails on the target leaves its place marked, so that it is copied again, and the mirror not in
//! sync until it is. The guest's has succeeded then, or in the design `mirror-failure=guest` it has failed.

use alloc::boxed::Box;
use alloc::sync::Arc;

use blockyard_block::{BlockDriver, BlockError, Io, Write, WriteKind};
use blockyard_runtime::BoxFuture;
use blockyard_sync::sometimes;
use blockyard_units::{CopyMode, MirrorFailure, Mutant};

use super::Tracking;

/// The name of the edge to what is filtered.
pub(crate) const FILE: &str = "file";
/// The name of the edge to the copy.
pub(crate) const TARGET: &str = "target";

/// Passes requests on; in active mode writes go to the target too.
pub(crate) struct MirrorFilter(pub Arc<Tracking>);

impl MirrorFilter {
    async fn write_both(&self, io: &Io, write: Write) -> Result<(), BlockError> {
        let dirty = &self.0.dirty;
        // Read once: source and target get the same.
        let write = write.resolved().await?;
        let range = write.range;
        let written = io.write(FILE, write.clone()).await;
        if let Err(error) = written {
            // It may have changed the source, which the copy does not know.
            dirty.mark(range);
            return Err(error);
        }
        if matches!(write.kind, WriteKind::Discard) {
            // What it left undone depends on the device: the other one's would leave something else.
            dirty.mark(range);
            return Ok(());
        }
        match io.write(TARGET, plain(write)).await {
            Ok(()) if io.layer().design().is_mutant(Mutant::MirrorActiveClearsPartialChunk) => {
                let outward = range.align_outward(dirty.granularity());
                // Aligned, so it cannot be refused.
                let _ = dirty.reset(outward);
            }
            Ok(()) => dirty.reset_inward(range),
            Err(error) => {
                sometimes!(true, "an active write failed on the target");
                let design = io.layer().design();
                if design.mirror_failure == MirrorFailure::Guest {
                    if !design.is_mutant(Mutant::MirrorFailsGuestUnmarked) {
                        dirty.mark(range);
                    }
                    sometimes!(true, "a guest's write failed on a mirror's target alone");
                    return Err(error);
                }
                // Not in this order the job, once woken, might find nothing failed.
                self.0.flight.write_failed(error);
                dirty.mark(range);
            }
        }
        Ok(())
    }
}

/// A write that a target of any sort can do: how the source was to store it is not its business.
fn plain(mut write: Write) -> Write {
    if let WriteKind::Compressed(data) = write.kind {
        write.kind = WriteKind::Data(data);
    }
    write.flags.no_fallback = false;
    write
}

impl BlockDriver for MirrorFilter {
    fn main_child(&self) -> Option<&'static str> {
        Some(FILE)
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        match self.0.mode() {
            // As nothing makes it longer.
            _ if matches!(write.kind, WriteKind::Truncate(_)) => {
                Box::pin(async move { Err(io.unsupported(write.range)) })
            }
            CopyMode::Active => Box::pin(self.write_both(io, write)),
            CopyMode::Passive | CopyMode::SourceBitmap => Box::pin(io.write(FILE, write)),
        }
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        if io.layer().design().is_mutant(Mutant::MirrorFilterSwallowsFlush) {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(io.flush(FILE))
    }

    /// Source and target are of one length while the job runs.
    fn grows(&self, _io: &Io) -> bool {
        false
    }

    fn serialises_writes(&self) -> bool {
        self.0.mode() == CopyMode::Active
    }
}
