//! Reading.

use alloc::vec::Vec;

use blockyard_block::ReadFlags;
use blockyard_runtime::IoBuffer;
use blockyard_units::ByteRange;

use super::Image;
use crate::entry::Kind;
use crate::error::ImageError;
use crate::file::Files;

impl Image {
    /// Reads `range` of the guest's disk.
    ///
    /// # Errors
    /// A file failed, or the image is wrong there.
    ///
    /// # Yields
    /// As the files do.
    pub async fn read(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, ImageError> {
        let mut bytes = Vec::new();
        let mut at = range.start();
        while at < range.end() {
            let rest = ByteRange::between(at, range.end());
            let (piece, here) = self.as_user(rest, self.read_here(files, rest)).await?;
            let read = match here {
                Some(read) => read,
                None => self.read_below(files, piece, flags).await?,
            };
            if piece == range {
                return Ok(read);
            }
            bytes.extend_from_slice(&read);
            at = piece.end();
        }
        Ok(bytes.into())
    }

    /// Reads what the image has of the beginning of `range`, which is returned, if it has anything.
    async fn read_here(
        &self,
        files: &Files<'_>,
        range: ByteRange,
    ) -> Result<(ByteRange, Option<IoBuffer>), ImageError> {
        let run = self.look(files, range.start(), range.end()).await?;
        let piece = ByteRange::new(range.start(), run.len);
        let read = match run.kind {
            Kind::Unallocated => None,
            Kind::Zero(_) => Some(IoBuffer::zeroes(piece.len().as_usize())),
            Kind::Data(host) => Some(self.read_data(files, ByteRange::new(host, run.len)).await?),
            Kind::Compressed(data) => Some(self.read_compressed(files, data, piece).await?),
        };
        Ok((piece, read))
    }

    /// What shows where the image has nothing: the backing child, zeroes behind its end.
    async fn read_below(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, ImageError> {
        match files.backing {
            // There may be none any more, or not yet.
            Some(backing) if backing.len().is_ok() => Ok(backing.read_for(range, flags).await?),
            _ => Ok(IoBuffer::zeroes(range.len().as_usize())),
        }
    }
}
