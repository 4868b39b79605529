//! Compressing clusters, and the reverse.
//!
//! Source: the specification, "Compressed Clusters Descriptor" and "compression_type": raw deflate with a window of
//! 4 KiB, or a zstd frame. Behind the data of a cluster anything may stand, up to the end of a sector.

use alloc::vec;
use alloc::vec::Vec;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use ruzstd::io::Read;

use crate::header::Compression;

/// Bits of the window that a reader is promised.
const WINDOW_BITS: u8 = 12;

/// `cluster` compressed, if that makes it shorter.
pub fn compress(how: Compression, cluster: &[u8]) -> Option<Vec<u8>> {
    let compressed = match how {
        Compression::Zlib => deflate(cluster)?,
        Compression::Zstd => compress_to_vec(cluster, CompressionLevel::Fastest),
    };
    (compressed.len() < cluster.len()).then_some(compressed)
}

fn deflate(cluster: &[u8]) -> Option<Vec<u8>> {
    let level = flate2::Compression::default();
    let mut compressor = Compress::new_with_window_bits(level, false, WINDOW_BITS);
    // What does not fit is of no use.
    let mut out = vec![0; cluster.len()];
    let status = compressor.compress(cluster, &mut out, FlushCompress::Finish).ok()?;
    let len = usize::try_from(compressor.total_out()).ok()?;
    out.truncate(len);
    (status == Status::StreamEnd).then_some(out)
}

/// The cluster of `len` bytes that `data` begin with; none if they are not that.
pub fn decompress(how: Compression, data: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; len];
    match how {
        Compression::Zlib => {
            let mut decompressor = Decompress::new(false);
            decompressor.decompress(data, &mut out, FlushDecompress::Finish).ok()?;
            (decompressor.total_out() == len as u64).then_some(out)
        }
        Compression::Zstd => {
            let mut decoder = StreamingDecoder::new(data).ok()?;
            decoder.read_exact(&mut out).ok()?;
            Some(out)
        }
    }
}
