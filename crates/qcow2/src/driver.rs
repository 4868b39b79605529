//! The driver: an image as a node.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use blockyard_block::{
    Amended, BackingFile, BitmapStore, BlockDriver, BlockError, Extent, Io, Limits, ReadFlags,
    StoredBitmap, Write, WriteKind,
};
use blockyard_crypto::{SECTOR, Secret};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange};

use crate::error::ImageError;
use crate::file::{Files, ImageFile};
use crate::image::{Caches, Image, SnapshotChange, TableCaches, Zeroes};
use crate::overlap::OverlapChecks;

/// The child that the image is in.
const FILE: &str = "file";
/// The child that the guest's data are in, if the image has them in a file of their own.
const DATA_FILE: &str = "data-file";
/// The child that shows where the image has nothing.
const BACKING: &str = "backing";

/// A qcow2 node. Until it is opened it has no length.
pub struct Qcow2 {
    node: String,
    caches: TableCaches,
    /// Nothing is written. Changed only in drained sections.
    read_only: Quiet<bool>,
    checks: OverlapChecks,
    /// The passphrase, if the image is encrypted.
    secret: Option<Arc<Secret>>,
    /// Replaced only while nobody uses the node.
    image: Quiet<Option<Arc<Image>>>,
}

impl Qcow2 {
    /// Of the node `node`; `secret`: the passphrase, if the image is encrypted.
    pub fn new(
        node: impl Into<String>,
        caches: TableCaches,
        read_only: bool,
        secret: Option<Arc<Secret>>,
    ) -> Self {
        let (read_only, image) = (Quiet::new(read_only), Quiet::new(None));
        let checks = OverlapChecks::default();
        Self { node: node.into(), caches, read_only, checks, secret, image }
    }

    /// The same; writes are compared with these structures.
    #[must_use]
    pub fn with_overlap_checks(self, checks: OverlapChecks) -> Self {
        Self { checks, ..self }
    }

    /// The image, once it is open.
    pub fn image(&self) -> Option<Arc<Image>> {
        self.image.with(|image| image.clone())
    }

    fn is_read_only(&self) -> bool {
        self.read_only.with(|read_only| *read_only)
    }

    /// The image as it opens, its children as they are.
    async fn find(&self, io: &Io, read_only: bool) -> Result<Image, ImageError> {
        let file = ImageFile::Child(io, FILE);
        let (caches, checks) = (Caches::default(), self.checks);
        let image = Image::open_with(&*self.node, file, caches, read_only, checks).await?;
        let image = image.with_caches(&self.caches)?;
        let refuse = |message: &str| Err(ImageError::Unsupported(message.into()));
        let image = match (&self.secret, self.image()) {
            // The passphrase was right, and to try it takes a while.
            (_, Some(open)) => image.unlocked_as(&open),
            (Some(secret), None) => image.unlocked(file, secret.bytes()).await?,
            (None, None) if image.is_encrypted() => {
                return refuse("the image is encrypted: give 'encrypt' with 'key-secret'");
            }
            (None, None) => image,
        };
        let header = image.header();
        match (header.is_external(), io.len(DATA_FILE).is_ok()) {
            (false, true) => {
                return refuse("data-file: the image has its data in its own file");
            }
            (true, false) if header.data_file().is_none() => {
                return refuse(
                    "the image has an external data file and does not name it: give 'data-file'",
                );
            }
            _ => {}
        }
        if !read_only {
            image.clear_autoclear(file).await?;
        }
        Ok(image.with_design(io.layer().design()))
    }

    /// The error of what is about all of the image.
    fn failed_whole(&self, io: &Io, image: &Image, error: ImageError) -> BlockError {
        self.failed(io, image, error, ByteRange::new(0, image.len().0))
    }

    /// The error of a request over `range`. The first that finds the image corrupt tells of it.
    fn failed(&self, io: &Io, image: &Image, error: ImageError, range: ByteRange) -> BlockError {
        if let Some(overlap) = image.take_overlap() {
            let message = alloc::format!("{overlap}");
            io.layer().image_is_corrupt(io.node_id(), &message, overlap.range);
        }
        error.of_request(&self.node, range)
    }

    fn said(&self, error: ImageError) -> BlockError {
        match error {
            ImageError::File(error) => error,
            error => BlockError::Invalid(alloc::format!("node {}: {error}", self.node)),
        }
    }

    /// All that is kept goes to the files.
    async fn close_image(&self, io: &Io) -> Result<(), BlockError> {
        let Some(image) = self.image().filter(|_| !self.is_read_only()) else { return Ok(()) };
        let closed = image.close(&files(io, &image)).await;
        closed.map_err(|error| self.failed_whole(io, &image, error))
    }

    /// Has what is not used forgotten after a while, if that is asked for and nobody does it yet.
    fn clean(&self, io: &Io, image: &Arc<Image>) {
        let interval_ns = self.caches.clean_interval.saturating_mul(1_000_000_000);
        if interval_ns == 0 || !image.begins_cleaning() {
            return;
        }
        let (image, runtime) = (image.clone(), io.layer().runtime().clone());
        let name = alloc::format!("{} cleans its caches", self.node);
        drop(io.layer().runtime().spawn(name, async move {
            // Two rounds after its last request nothing is left of it, and the image is let go.
            loop {
                runtime.sleep(interval_ns).await;
                if !image.forget_unused().await {
                    return;
                }
            }
        }));
    }

    fn opened(&self) -> Result<Arc<Image>, BlockError> {
        let closed = || BlockError::Invalid(alloc::format!("node {} is not open", self.node));
        self.image().ok_or_else(closed)
    }
}

/// Where an image's data are.
fn data_child(image: &Image) -> &'static str {
    if image.is_external() { DATA_FILE } else { FILE }
}

fn files<'a>(io: &'a Io, image: &Image) -> Files<'a> {
    let child = |name| ImageFile::Child(io, name);
    Files { image: child(FILE), data: child(data_child(image)), backing: Some(child(BACKING)) }
}

impl BlockDriver for Qcow2 {
    fn limits(&self) -> Limits {
        let request_alignment = if self.secret.is_some() { SECTOR as u32 } else { 1 };
        // That something is durable takes the structures as well.
        Limits { request_alignment, fua: false, fua_zeroes: false, ..Limits::NONE }
    }

    fn compresses(&self) -> bool {
        self.image().is_some_and(|image| image.compresses())
    }

    fn cluster_size(&self) -> ByteLen {
        self.image().map_or(ByteLen(1), |image| image.cluster_size())
    }

    fn len(&self, _io: &Io) -> ByteLen {
        self.image().map_or(ByteLen(0), |image| image.len())
    }

    fn backing_file(&self) -> Option<BackingFile> {
        let header = self.image()?.header();
        let format = header.backing_format();
        header.backing.map(|name| BackingFile { name, format })
    }

    fn keeps_backing_file(&self) -> bool {
        true
    }

    fn bitmap_store(&self) -> Option<&dyn BitmapStore> {
        Some(self)
    }

    fn data_file(&self) -> Option<String> {
        let header = self.image()?.header();
        header.data_file().filter(|_| header.is_external())
    }

    fn open<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let image = self.find(io, self.is_read_only()).await;
            let image = image.map_err(|error| self.said(error))?;
            self.image.with(|slot| *slot = Some(Arc::new(image)));
            Ok(())
        })
    }

    fn close<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.close_image(io))
    }

    fn becomes_read_only<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.close_image(io).await?;
            self.read_only.with(|read_only| *read_only = true);
            Ok(())
        })
    }

    fn becomes_writable<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            // Somebody else may have written it while it was not ours.
            let image = self.find(io, false).await.map_err(|error| self.said(error))?;
            self.image.with(|slot| *slot = Some(Arc::new(image)));
            self.read_only.with(|read_only| *read_only = false);
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
            let image = self.opened()?;
            self.clean(io, &image);
            let read = image.read(&files(io, &image), range, flags).await;
            read.map_err(|error| self.failed(io, &image, error, range))
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let (image, range) = (self.opened()?, write.range);
            image.refuse_if_corrupt().map_err(|error| self.failed(io, &image, error, range))?;
            if self.is_read_only() {
                let message = "it is read-only, as it could not be made ready to be written";
                let message = alloc::format!("node {}: {message}", self.node);
                return Err(BlockError::Invalid(message));
            }
            self.clean(io, &image);
            let files = files(io, &image);
            let done = match &write.kind {
                WriteKind::Data(_) | WriteKind::Copy(_) => {
                    image.write(&files, range.start(), write.bytes().await?).await
                }
                WriteKind::Zeroes => {
                    let flags = write.flags;
                    let how = Zeroes { may_unmap: flags.may_unmap, no_fallback: flags.no_fallback };
                    image.write_zeroes(&files, range, how).await
                }
                WriteKind::Discard => image.discard(&files, range).await,
                WriteKind::Compressed(data) => {
                    image.write_compressed(&files, range.start(), data.clone()).await
                }
                WriteKind::Truncate(truncate) => image.truncate(&files, *truncate).await,
            };
            done.map_err(|error| self.failed(io, &image, error, range))
        })
    }

    fn amend<'a>(
        &'a self,
        io: &'a Io,
        change: &'a (dyn Any + Send + Sync),
    ) -> BoxFuture<'a, Result<Amended, BlockError>> {
        Box::pin(async move {
            if let Some(change) = change.downcast_ref::<SnapshotChange>() {
                let image = self.opened()?;
                let changed = image.change_snapshots(&files(io, &image), change).await;
                return Ok(Box::new(changed.map_err(|error| self.said(error))?) as Amended);
            }
            if let Some(file) = change.downcast_ref::<BackingFile>() {
                let image = self.opened()?;
                let changed = image.set_backing_file(&files(io, &image), file).await;
                return changed.map(|()| Box::new(()) as Amended).map_err(|error| self.said(error));
            }
            let change =
                change.downcast_ref().ok_or_else(|| io.unsupported(ByteRange::new(0, 0)))?;
            let runtime = io.layer().runtime();
            let mut random = |bytes: &mut [u8]| runtime.fill_random(bytes);
            let image = self.opened()?;
            let amended = image.amend_slots(&files(io, &image), change, &mut random).await;
            amended.map(|()| Box::new(()) as Amended).map_err(|error| self.said(error))
        })
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            if self.is_read_only() {
                return Ok(());
            }
            let image = self.opened()?;
            let flushed = image.flush(&files(io, &image)).await;
            flushed.map_err(|error| self.failed_whole(io, &image, error))
        })
    }

    fn block_status<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move {
            let image = self.opened()?;
            let status = image.status(&files(io, &image), range, data_child(&image)).await;
            status.map_err(|error| self.failed(io, &image, error, range))
        })
    }
}

impl BitmapStore for Qcow2 {
    fn check(
        &self,
        name: &str,
        len: ByteLen,
        granularity: ByteLen,
        others: usize,
    ) -> Result<(), BlockError> {
        let checked = match self.is_read_only() {
            true => Err("the node is read-only".into()),
            false => self.opened()?.check_bitmap(name, len, granularity, others),
        };
        let node = &self.node;
        checked.map_err(|why| {
            let said = alloc::format!("bitmap '{name}' of node {node} cannot be persistent: {why}");
            BlockError::Invalid(said)
        })
    }

    fn load<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<Vec<StoredBitmap>, BlockError>> {
        Box::pin(async move {
            let image = self.opened()?;
            let loaded = image.load_bitmaps(&files(io, &image)).await;
            loaded.map_err(|error| self.failed_whole(io, &image, error))
        })
    }

    fn disown<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            // Where nothing is written nothing changes.
            let Some(image) = self.image().filter(|_| !self.is_read_only()) else { return Ok(()) };
            let disowned = image.disown_bitmaps(&files(io, &image)).await;
            disowned.map_err(|error| self.failed_whole(io, &image, error))
        })
    }

    fn store<'a>(
        &'a self,
        io: &'a Io,
        bitmaps: Vec<StoredBitmap>,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let Some(image) = self.image().filter(|_| !self.is_read_only()) else { return Ok(()) };
            let stored = image.store_bitmaps(&files(io, &image), &bitmaps).await;
            stored.map_err(|error| self.failed_whole(io, &image, error))
        })
    }
}
