//! The disks that images are on.

use blockyard_qcow2::{Files, ImageFile};
use blockyard_runtime::{BoxFuture, Io, IoBuffer, Storage};
use blockyard_sim::SimDisk;
use blockyard_units::{ByteLen, ByteRange};

/// A disk that has no fast way to make zeroes, and leaves rubbish where something was discarded.
pub struct Plain(pub SimDisk);

impl Storage for Plain {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn len(&self) -> ByteLen {
        self.0.len()
    }
    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        self.0.read(range)
    }
    fn write(&self, offset: u64, data: IoBuffer, fua: bool) -> BoxFuture<'static, Io<()>> {
        self.0.write(offset, data, fua)
    }
    fn discard(&self, range: ByteRange) -> BoxFuture<'static, Io<()>> {
        self.0.write(range.start(), vec![0xdd; range.len().as_usize()].into(), false)
    }
    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        self.0.flush()
    }
    fn truncate(&self, len: ByteLen, reserve: bool) -> BoxFuture<'static, Io<()>> {
        self.0.truncate(len, reserve)
    }
}

/// What an image on `disk` reaches, with its data on another disk if there is one.
pub fn files<'a>(disk: &'a Plain, data: Option<&'a Plain>) -> Files<'a> {
    let data = ImageFile::Disk(data.unwrap_or(disk));
    Files { data, ..Files::of_disk(disk) }
}
