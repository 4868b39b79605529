//! The file that an image is in: a node's child, or a disk when there is no node.

use alloc::vec::Vec;

use blockyard_block::{BlockError, Io, Preallocation, ReadFlags, Truncate, Write, WriteFlags};
use blockyard_runtime::{IoBuffer, IoErrorKind, Storage};
use blockyard_units::{ByteLen, ByteRange};

use crate::image::Zeroes;

/// Where an image's bytes are.
#[derive(Clone, Copy)]
pub enum ImageFile<'a> {
    /// The child of this name of the node that this is the view of.
    Child(&'a Io, &'static str),
    /// A disk.
    Disk(&'a dyn Storage),
}

impl ImageFile<'_> {
    /// Bytes.
    ///
    /// # Errors
    /// If there is no such child.
    pub(crate) fn len(&self) -> Result<u64, BlockError> {
        match self {
            Self::Child(io, name) => Ok(io.len(name)?.0),
            Self::Disk(disk) => Ok(disk.len().0),
        }
    }

    /// Reads `range`; behind the end there are zeroes.
    pub(crate) async fn read(&self, range: ByteRange) -> Result<IoBuffer, BlockError> {
        self.read_for(range, ReadFlags::default()).await
    }

    /// The same, on behalf of a read with these flags.
    pub(crate) async fn read_for(
        &self,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        let inside = range.intersection(&ByteRange::new(0, self.len()?));
        let read = if inside.is_empty() {
            IoBuffer::default()
        } else {
            self.read_inside(inside, flags).await?
        };
        if inside == range {
            return Ok(read);
        }
        let mut bytes = Vec::with_capacity(range.len().as_usize());
        bytes.extend_from_slice(&read);
        bytes.resize(range.len().as_usize(), 0);
        Ok(bytes.into())
    }

    async fn read_inside(
        &self,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        match self {
            Self::Child(io, name) => io.read(name, range, flags).await,
            Self::Disk(disk) => disk.read(range).await.map_err(|kind| failed(*disk, kind, range)),
        }
    }

    /// Writes `data` at `offset`, behind the end too.
    pub(crate) async fn write(&self, offset: u64, data: IoBuffer) -> Result<(), BlockError> {
        let range = ByteRange::new(offset, data.len() as u64);
        match self {
            Self::Child(io, name) => io.write(name, Write::data(offset, data)).await,
            Self::Disk(disk) => {
                let done = disk.write(offset, data, false).await;
                done.map_err(|kind| failed(*disk, kind, range))
            }
        }
    }

    /// Makes `range` read as zeroes.
    pub(crate) async fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        let how = Zeroes { may_unmap: true, no_fallback: false };
        self.write_zeroes_for(range, how).await
    }

    /// The same, on behalf of a request that wants it so.
    pub(crate) async fn write_zeroes_for(
        &self,
        range: ByteRange,
        how: Zeroes,
    ) -> Result<(), BlockError> {
        let Zeroes { may_unmap, no_fallback } = how;
        match self {
            Self::Child(io, name) => {
                let flags = WriteFlags { may_unmap, no_fallback, ..WriteFlags::default() };
                io.write(name, Write { flags, ..Write::zeroes(range) }).await
            }
            Self::Disk(disk) => {
                let done = match disk.write_zeroes(range, may_unmap).await {
                    Err(IoErrorKind::Unsupported) if !no_fallback => {
                        let zeroes = IoBuffer::zeroes(range.len().as_usize());
                        disk.write(range.start(), zeroes, false).await
                    }
                    done => done,
                };
                done.map_err(|kind| failed(*disk, kind, range))
            }
        }
    }

    /// Gives the space of `range` back, if that can be done.
    pub(crate) async fn discard(&self, range: ByteRange) {
        // What is left undone is only space.
        let _ignored = match self {
            Self::Child(io, name) => io.write(name, Write::discard(range)).await.is_ok(),
            Self::Disk(disk) => disk.discard(range).await.is_ok(),
        };
    }

    /// Makes the file `len` bytes long; what is added reads as zeroes.
    pub(crate) async fn truncate(
        &self,
        len: u64,
        preallocation: Preallocation,
    ) -> Result<(), BlockError> {
        let len = ByteLen(len);
        match self {
            Self::Child(io, name) => {
                io.write(name, Write::truncate(Truncate { len, preallocation })).await
            }
            Self::Disk(disk) => {
                let done = Truncate { len, preallocation }.on(*disk).await;
                done.map_err(|kind| failed(*disk, kind, ByteRange::new(0, len.0)))
            }
        }
    }

    /// Makes what was written durable.
    pub(crate) async fn flush(&self) -> Result<(), BlockError> {
        match self {
            Self::Child(io, name) => io.flush(name).await,
            Self::Disk(disk) => {
                let done = disk.flush().await;
                done.map_err(|kind| failed(*disk, kind, ByteRange::new(0, disk.len().0)))
            }
        }
    }
}

fn failed(disk: &dyn Storage, kind: IoErrorKind, range: ByteRange) -> BlockError {
    BlockError::Io { kind, node: disk.name().into(), range }
}

/// What an image may reach while it does something: its own file, the one its data are in, and what shows where it has
/// nothing.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// With the structures, and the data unless they are elsewhere.
    pub image: ImageFile<'a>,
    /// With the guest's data.
    pub data: ImageFile<'a>,
    /// What shows where the image has nothing.
    pub backing: Option<ImageFile<'a>>,
}

impl<'a> Files<'a> {
    /// An image alone on a disk.
    pub fn of_disk(disk: &'a dyn Storage) -> Self {
        let image = ImageFile::Disk(disk);
        Self { image, data: image, backing: None }
    }

    /// Bytes of what shows where the image has nothing; none if nothing does.
    pub(crate) fn backing_len(&self) -> u64 {
        self.backing_child_len().unwrap_or_default()
    }

    /// Bytes of what may come to show there: another child may take the place of one, and be longer.
    pub(crate) fn may_show(&self) -> u64 {
        self.backing_child_len().map_or(0, |_| u64::MAX)
    }

    fn backing_child_len(&self) -> Option<u64> {
        self.backing.and_then(|backing| backing.len().ok())
    }
}
