//! Makes an image.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_runtime::{Io, IoBuffer, IoErrorKind, Storage};
use blockyard_units::{ByteLen, ByteRange};

use super::format::Header;

/// What an image is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupHeader(pub(super) Header);

impl DedupHeader {
    /// With clusters of `cluster` bytes, of a disk of `len`.
    ///
    /// # Errors
    /// What cannot be, and what can.
    pub fn new(cluster: u64, len: u64) -> Result<Self, String> {
        Header::new(cluster, len).map(Self)
    }

    /// The metadata of such an image that is empty: all of them but zeroes behind.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Bytes of the metadata.
    pub fn metadata_len(self) -> u64 {
        self.0.end()
    }
}

/// Makes an empty image: metadata anew, and no data, as far as `data` can be made shorter.
///
/// # Errors
/// What a disk met; there is no image then.
///
/// # Yields
/// As the disks do.
pub async fn create(header: DedupHeader, metadata: &dyn Storage, data: &dyn Storage) -> Io<()> {
    let DedupHeader(header) = header;
    // Where that cannot be done the old data are of no use and in nobody's way.
    let _ = data.truncate(ByteLen(0), false).await;
    let old = ByteRange::new(0, metadata.len().0.min(header.end()));
    zero(metadata, old).await?;
    if metadata.len().0 < header.end() {
        metadata.truncate(ByteLen(header.end()), false).await?;
    }
    // A header that is there before its table would make one of whatever lies there.
    metadata.flush().await?;
    metadata.write(0, header.to_bytes().into(), false).await?;
    metadata.flush().await
}

async fn zero(disk: &dyn Storage, range: ByteRange) -> Io<()> {
    const AT_ONCE: u64 = 1 << 20;
    match disk.write_zeroes(range, true).await {
        Err(IoErrorKind::Unsupported) => {}
        done => return done,
    }
    let mut at = range.start();
    while at < range.end() {
        let next = range.end().min(at + AT_ONCE);
        disk.write(at, IoBuffer::zeroes(ByteLen(next - at).as_usize()), false).await?;
        at = next;
    }
    Ok(())
}
