//! Where a backup comes before guests' writes: its filter, or its hook of the source.

use alloc::boxed::Box;
use alloc::sync::Arc;

use blockyard_block::{BeforeWrite, BlockDriver, BlockError, Io, Write, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteRange, Mutant};

use super::saver::Saver;
use crate::mirror::FILE;

/// Whether what a write overwrites is to be saved first: what leaves the view as it is overwrites nothing.
fn overwrites(io: &Io, write: &Write) -> bool {
    let design = io.layer().design();
    let forgets = design.is_mutant(Mutant::CbwDiscardNotIntercepted);
    let passes = forgets && matches!(write.kind, WriteKind::Discard);
    !write.flags.unchanged && !passes
}

/// The filter: writes pass it when what they overwrite is saved.
pub(super) struct BackupFilter(pub Arc<Saver>);

impl BlockDriver for BackupFilter {
    fn main_child(&self) -> Option<&'static str> {
        Some(FILE)
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            // As nothing makes it longer.
            if matches!(write.kind, WriteKind::Truncate(_)) {
                return Err(io.unsupported(write.range));
            }
            if overwrites(io, &write) {
                self.0.before_write(io, write.range).await?;
            }
            io.write(FILE, write).await
        })
    }

    fn read_snapshot<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        self.0.read_snapshot(io, range)
    }

    fn discard_snapshot<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.0.discard_snapshot(io, range))
    }

    /// Source and target are of one length while the job runs.
    fn grows(&self, _io: &Io) -> bool {
        false
    }
}

/// The hook: it has no place in the graph, and so no edges but the job's.
pub(super) struct BackupHook {
    pub saver: Arc<Saver>,
    pub io: Io,
}

impl BeforeWrite for BackupHook {
    fn before<'a>(&'a self, io: &'a Io, write: &'a Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            if matches!(write.kind, WriteKind::Truncate(_)) || !overwrites(io, write) {
                return Ok(());
            }
            self.saver.before_write(&self.io, write.range).await
        })
    }
}
