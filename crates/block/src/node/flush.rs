//! Flushes: in flight like any other request, and one at a time where what is written stays with the driver.

use blockyard_sync::sometimes;
use blockyard_units::{ByteRange, Mutant};

use super::Node;
use crate::debug::DebugEvent;
use crate::error::BlockError;
use crate::io::Io;
use crate::pieces::Pieces;
use crate::stats::Counted;

impl Node {
    /// Flushes.
    pub(crate) async fn flush(&self, io: &Io) -> Result<(), BlockError> {
        // A flush overlaps nothing, and is in flight like any other request.
        let nowhere = ByteRange::new(0, 0);
        let request = self.tracked.list(nowhere, false);
        let began_ns = request.timed.then(|| io.layer().runtime().now_ns());
        io.observe_begin();
        let pieces = Pieces { driver: &*self.driver, io };
        pieces.event(DebugEvent::FLUSH_TO_OS).await;
        pieces.event(DebugEvent::FLUSH_TO_DISK).await;
        let result = if self.driver.keeps_data() {
            self.flush_once(io).await
        } else {
            self.driver.flush(io).await
        };
        sometimes!(result.is_err(), "a flush failed");
        io.observe_end();
        self.end(io, request, false, (Some(Counted::Flush), nowhere, &result, began_ns));
        result
    }

    async fn flush_once(&self, io: &Io) -> Result<(), BlockError> {
        let design = io.layer().design();
        let derived = design.is_mutant(Mutant::FlushGenerationDeadlock);
        let Some(generation) = self.tracked.begin_flush(derived).await else { return Ok(()) };
        let result = self.driver.flush(io).await;
        let forgets = design.is_mutant(Mutant::FailedFlushMarksClean);
        self.tracked.end_flush(generation, result.is_ok() || forgets);
        result
    }
}
