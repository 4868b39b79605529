//! Reads that copy up what comes from a backing child.
//!
//! Such a read is serialising over whole clusters, as it writes: a guest's write comes before it, and is what it reads,
//! or after it. What it writes is unchanged data: it marks nothing, and runs no hooks.
//!
//! Source: QEMU's documented copy-on-read. Differs: there, a read fails with its copy. Here only a prefetch does, which
//! was asked for the copy; and a node whose bytes are its main child's leaves the copying to that.

use alloc::boxed::Box;
use alloc::vec::Vec;

use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::{note, sometimes};
use blockyard_units::{ByteLen, ByteRange};

use crate::error::BlockError;
use crate::pieces::Pieces;
use crate::request::{ReadFlags, Write, WriteFlags};
use crate::status;

/// Bytes: more is copied one after another. A cluster is not more.
const AT_ONCE: u64 = 2 << 20;

/// Reads `range`, within a request that serialises its clusters. `wrote`: a copy was begun.
pub(crate) fn copy_on_read<'a>(
    pieces: Pieces<'a>,
    range: ByteRange,
    prefetch: bool,
    wrote: &'a mut bool,
) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
    Box::pin(async move {
        let Pieces { driver, io } = pieces;
        let (cluster, len) = (driver.cluster_size(), driver.len(io).0);
        let clusters = range.align_outward(cluster).intersection(&ByteRange::new(0, len));
        let mut data = Vec::new();
        let mut at = clusters.start();
        while at < clusters.end() {
            let rest = ByteRange::between(at, clusters.end().min(at + AT_ONCE));
            // What is not known is only read.
            let status = status::of_node(io, rest).await;
            let below = matches!(status, Ok(extent) if !extent.allocated);
            let piece = ByteRange::new(at, status.map_or(rest.len(), |extent| extent.len).0);
            let wanted = piece.intersection(&range);
            let copied = if below { Some(copy_up(pieces, piece, wrote).await) } else { None };
            if let Some((_, Err(error))) = &copied {
                note!("copy of {piece} failed: {error}");
                sometimes!(true, "a copy on read failed");
            }
            match copied {
                Some((_, written)) if prefetch => written?,
                Some((Some(whole), _)) => {
                    let from = ByteLen(wanted.start() - piece.start()).as_usize();
                    data.extend_from_slice(&whole[from..from + wanted.len().as_usize()]);
                }
                _ if prefetch || wanted.is_empty() => (),
                _ => data.extend_from_slice(&pieces.read(wanted, ReadFlags::default()).await?),
            }
            at = piece.end();
        }
        Ok(data.into())
    })
}

/// What was read of `piece`, and whether it is now the node's own.
async fn copy_up(
    pieces: Pieces<'_>,
    piece: ByteRange,
    wrote: &mut bool,
) -> (Option<IoBuffer>, Result<(), BlockError>) {
    let data = match pieces.read(piece, ReadFlags::default()).await {
        Ok(data) => data,
        Err(error) => return (None, Err(error)),
    };
    let zeroes = data.iter().all(|byte| *byte == 0);
    let write =
        if zeroes { Write::zeroes(piece) } else { Write::data(piece.start(), data.clone()) };
    let flags = WriteFlags { unchanged: true, ..WriteFlags::default() };
    *wrote = true;
    let io = pieces.io.of_copy();
    let written = Pieces { io: &io, ..pieces }.write(Write { flags, ..write }).await;
    (Some(data), written)
}
