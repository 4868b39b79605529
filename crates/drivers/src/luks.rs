//! `luks`: a LUKS image, of version 1 or 2, in its child `file`. The header and the key material come first; the
//! payload behind them is decrypted when it is read and encrypted when it is written, a sector at a time. With a child
//! `header` all but the payload lies there.
//!
//! It keeps nothing between requests, so a request is the child's own, moved by the payload's offset. Zeroes are data
//! here: written through it they are encrypted like all else. What nobody has written reads as whatever the child's
//! bytes come to, also behind the old end of an image that was made longer.
//!
//! Source: QEMU's documented luks driver. A discard is left undone there too, as the child's zeroes would read as
//! noise. Differs: QEMU has no version 2.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;

use blockyard_block::{
    Amended, BlockDriver, BlockError, Extent, Io, Limits, ReadFlags, Truncate, Write, WriteKind,
};
use blockyard_crypto::{CryptoError, Materials, SECTOR, Secret, SectorCipher, SlotChange, Volume};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::door;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteOffset, ByteRange, Mutant};

use crate::FILE;

/// The child that has a header which is detached from its payload.
pub(crate) const HEADER: &str = "header";

/// A node with an encrypted image. Until it is opened it has no length.
pub struct Luks {
    node: String,
    secret: Arc<Secret>,
    /// The child with the header.
    header: &'static str,
    /// Replaced only while nobody uses the node.
    opened: Quiet<Option<Arc<Opened>>>,
}

/// What an image needs once it is open.
struct Opened {
    cipher: SectorCipher,
    /// Bytes before the payload, a multiple of [`SECTOR`].
    payload: u64,
}

fn said(error: CryptoError) -> BlockError {
    BlockError::Invalid(format!("{error}"))
}

fn pause() -> BoxFuture<'static, ()> {
    Box::pin(door::boundary())
}

/// The header of the image, which a child has.
async fn volume(io: &Io, header: &'static str) -> Result<Volume, BlockError> {
    let space = io.len(header)?.0;
    let read = |len: u64| io.read(header, ByteRange::new(0, len.min(space)), ReadFlags::default());
    let beginning = read(Volume::BEGINNING).await?;
    let bytes = read(Volume::wanted(&beginning)).await?;
    let parse = |bytes: &[u8]| Volume::parse(bytes, space, header == HEADER).map_err(said);
    match parse(&bytes) {
        Err(_) if (bytes.len() as u64) < space.min(Volume::LONGEST) => {
            parse(&read(Volume::LONGEST).await?)
        }
        parsed => parsed,
    }
}

impl Opened {
    /// The image in the child, opened with a passphrase. No error holds that.
    async fn find(io: &Io, header: &'static str, passphrase: &[u8]) -> Result<Self, BlockError> {
        let volume = volume(io, header).await?;
        for (slot, place) in volume.key_materials(false) {
            let material = io.read(header, place, ReadFlags::default()).await?;
            let key = volume.unlock_in_pieces(slot, passphrase, &material, pause).await;
            if let Some(key) = key.map_err(said)? {
                let cipher = volume.sector_cipher(&key);
                return Ok(Self { cipher, payload: volume.payload_offset() });
            }
        }
        Err(BlockError::Invalid("the passphrase opens none of the key slots".into()))
    }

    /// A range of the payload, as the child has it.
    fn below(&self, io: &Io, range: ByteRange) -> Result<ByteRange, BlockError> {
        let end = range.end().checked_add(self.payload);
        end.map(|end| ByteRange::between(range.start() + self.payload, end))
            .ok_or_else(|| io.unsupported(range))
    }

    /// A write, as the child gets it.
    async fn encrypted(&self, io: &Io, write: Write) -> Result<Write, BlockError> {
        let range = self.below(io, write.range)?;
        let kind = match &write.kind {
            WriteKind::Data(_) | WriteKind::Copy(_) => {
                let data = write.bytes().await?;
                WriteKind::Data(self.cipher.encrypted(write.range.start(), &data).into())
            }
            WriteKind::Truncate(truncate) => {
                let Truncate { len, preallocation } = *truncate;
                let sector = self.cipher.sector();
                if !len.0.is_multiple_of(sector as u64) {
                    let message =
                        format!("a luks image has whole sectors of {sector} bytes, not {len}");
                    return Err(BlockError::Invalid(message));
                }
                let len = ByteLen(self.below(io, ByteRange::new(len.0, 0))?.start());
                WriteKind::Truncate(Truncate { len, preallocation })
            }
            WriteKind::Zeroes | WriteKind::Discard | WriteKind::Compressed(_) => {
                return Err(io.unsupported(write.range));
            }
        };
        Ok(Write { kind, range, ..write })
    }
}

impl Luks {
    /// Of the node `node`, whose passphrase is `secret`.
    pub fn new(node: impl Into<String>, secret: Arc<Secret>) -> Self {
        Self { node: node.into(), secret, header: FILE, opened: Quiet::new(None) }
    }

    /// The same with the header in a child of its own.
    pub fn with_detached_header(self) -> Self {
        Self { header: HEADER, ..self }
    }

    fn opened(&self) -> Result<Arc<Opened>, BlockError> {
        let closed = || BlockError::Invalid(format!("node {} is not open", self.node));
        self.opened.with(|opened| opened.clone()).ok_or_else(closed)
    }
}

impl BlockDriver for Luks {
    fn limits(&self) -> Limits {
        let sector = self.opened().map_or(SECTOR, |opened| opened.cipher.sector());
        Limits { request_alignment: sector as u32, ..Limits::NONE }
    }

    fn len(&self, io: &Io) -> ByteLen {
        let Ok(opened) = self.opened() else { return ByteLen(0) };
        let behind = io.len(FILE).unwrap_or_default().0.saturating_sub(opened.payload);
        ByteLen(ByteOffset(behind).align_down(ByteLen(opened.cipher.sector() as u64)).0)
    }

    fn open<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let opened = Opened::find(io, self.header, self.secret.bytes()).await?;
            self.opened.with(|slot| *slot = Some(Arc::new(opened)));
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let opened = self.opened()?;
            let below = opened.below(io, range)?;
            let data = io.read(FILE, below, flags).await?;
            Ok(opened.cipher.decrypted(range.start(), &data).into())
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let encrypted = self.opened()?.encrypted(io, write).await?;
            io.write(FILE, encrypted).await
        })
    }

    fn amend<'a>(
        &'a self,
        io: &'a Io,
        change: &'a (dyn Any + Send + Sync),
    ) -> BoxFuture<'a, Result<Amended, BlockError>> {
        Box::pin(async move {
            let change =
                change.downcast_ref().ok_or_else(|| io.unsupported(ByteRange::new(0, 0)))?;
            amend(io, self.header, change).await.map(|()| Box::new(()) as Amended)
        })
    }

    /// The header needs none: what is written there is flushed at once.
    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(io.flush(FILE))
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        // The child's zeroes are no zeroes here, and its bytes are not these.
        Box::pin(async move { Ok(Extent { offset: None, ..Extent::data(range) }) })
    }
}

/// Changes the key slots of the image. A crash leaves each slot as it was or as it is to be, but for one of version 1
/// that is overwritten.
async fn amend(io: &Io, header: &'static str, change: &SlotChange) -> Result<(), BlockError> {
    let volume = volume(io, header).await?;
    let mut materials = Materials::new();
    for (slot, place) in volume.key_materials(true) {
        materials.insert(slot, io.read(header, place, ReadFlags::default()).await?.to_vec());
    }
    let runtime = io.layer().runtime();
    let mut random = |bytes: &mut [u8]| runtime.fill_random(bytes);
    let mut steps = volume.amend(change, &materials, &mut random, pause).await.map_err(said)?;
    if io.layer().design().is_mutant(Mutant::LuksErasedSlotKeepsKey)
        && matches!(change, SlotChange::Erase { .. })
    {
        steps.remove(0);
    }
    for step in steps {
        io.write(header, Write::data(step.offset, step.bytes.into())).await?;
        io.flush(header).await?;
    }
    Ok(())
}
