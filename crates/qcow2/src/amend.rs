//! Changing what an image is like, in place.
//!
//! One step after another, of which each is durable before the next begins: whatever ends it leaves an image that is
//! sound, with some of the steps done. What cannot be done is refused before the first.
//!
//! Source: the options of `qemu-img amend`, and what they do in QEMU 10.0.
//! Differs: an image with dirty bitmaps is not made one of version 2, which has none; an encrypted one only if no
//! cluster has to be written for that. Refcounts of another width are counted anew, so that what had leaked is free.

use alloc::string::String;

use blockyard_block::{Preallocation, Truncate};
use blockyard_units::{ByteLen, Design};

use crate::check::{CheckOptions, check, count_anew};
use crate::error::ImageError;
use crate::file::Files;
use crate::header::{Compression, Extension, Header, compatible, extension, incompatible};
use crate::image::{Caches, Image, read_header};

/// What is to be changed; the rest stays as it is.
#[derive(Clone, Debug, Default)]
pub struct AmendOptions {
    /// 2 or 3.
    pub version: Option<u32>,
    /// Bytes of the guest's disk.
    pub size: Option<u64>,
    /// Refcounts may be postponed.
    pub lazy_refcounts: Option<bool>,
    /// 1, 2, 4 … 64; version 2 has 16.
    pub refcount_bits: Option<u32>,
    /// The backing file's name; empty: there is none. What the guest sees is the caller's affair.
    pub backing_file: Option<String>,
    /// Its format; empty: it is not said.
    pub backing_fmt: Option<String>,
    /// The data file's name; empty: it is not said.
    pub data_file: Option<String>,
    /// Whether the data file, by itself, is to read as the guest's disk does.
    pub data_file_raw: Option<bool>,
}

/// Changes the image in `files`, which nobody else uses.
///
/// # Errors
/// It cannot be done, and nothing has changed; or a file failed: the image is sound, with some of it done.
///
/// # Yields
/// As the files do.
pub async fn amend(
    files: &Files<'_>,
    options: &AmendOptions,
    caches: Caches,
    design: Design,
) -> Result<(), ImageError> {
    let before = read_header(files.image).await?;
    let open = async || {
        let image = Image::open("amend", files.image, caches, false).await?;
        Ok::<_, ImageError>(image.with_design(design))
    };
    let image = open().await?;
    options.check(&before)?;
    if options.size.is_some_and(|size| size != before.size)
        && before.backing.is_some()
        && files.backing.is_none()
    {
        return refuse(
            "the size of an image with a backing file changes with that in sight; use block_resize",
        );
    }
    let version = options.version.unwrap_or(before.version);
    if version == 2 && before.version > 2 {
        image.check_downgrade(files, options.size.unwrap_or(before.size)).await?;
    }
    if version == 3 && before.version == 2 {
        image.upgrade(files).await?;
        // It is opened anew below.
        image.close(files).await?;
    }
    let order = options.refcount_bits.map_or(before.refcount_order, u32::ilog2);
    if order != before.refcount_order {
        let found = check(files.image, None, CheckOptions::default(), &mut |_| true).await?;
        if !found.is_sound() {
            return refuse("the image is not sound; repair it first");
        }
        count_anew(files.image, order).await?;
    }
    let image = open().await?;
    image.amend_header(files, |header| options.put_into(header)).await?;
    if let Some(size) = options.size.filter(|size| *size != before.size) {
        image.clear_autoclear(files.image).await?;
        let len = ByteLen(size);
        let mut bitmaps = image.load_bitmaps(files).await?;
        image.truncate(files, Truncate { len, preallocation: Preallocation::Off }).await?;
        bitmaps.iter_mut().for_each(|bitmap| bitmap.bits.resize(len));
        image.store_bitmaps(files, &bitmaps).await?;
    }
    if version == 2 && before.version > 2 {
        image.downgrade(files).await?;
    }
    image.close(files).await
}

fn refuse<T>(message: &str) -> Result<T, ImageError> {
    Err(ImageError::Unsupported(message.into()))
}

impl AmendOptions {
    /// Whether the image can become like this, as far as its header says.
    fn check(&self, header: &Header) -> Result<(), ImageError> {
        let version = self.version.unwrap_or(header.version);
        if !(2..=3).contains(&version) {
            return refuse("there are versions 2 (compat=0.10) and 3 (compat=1.1)");
        }
        let bits = self.refcount_bits.unwrap_or(1 << header.refcount_order);
        if !bits.is_power_of_two() || bits > 64 {
            return refuse("the refcount width must be a power of two of at most 64 bits");
        }
        let new_lazy = self.lazy_refcounts == Some(true);
        let features =
            header.incompatible & (incompatible::EXTENDED_L2 | incompatible::EXTERNAL_DATA);
        let stays = features != 0 || header.compression != Compression::Zlib;
        if version == 2 && (bits != 16 || new_lazy || stays) {
            return refuse(
                "compat=0.10 has refcounts of 16 bits, and neither lazy refcounts, extended L2 entries, data files nor \
                 other compression types than zlib",
            );
        }
        if version == 2 && header.extensions.iter().any(|found| found.kind == extension::BITMAPS) {
            return refuse("compat=0.10 has no dirty bitmaps; remove them first");
        }
        if self.data_file.is_some() && !header.is_external() {
            return refuse("data_file: the image has its data in its own file");
        }
        if self.data_file_raw == Some(true) && !header.is_raw() {
            return refuse(
                "data_file_raw: an image that is there cannot get a raw data file; make one with 'qemu-img convert'",
            );
        }
        if self.size.is_some_and(|size| !size.is_multiple_of(512)) {
            return refuse("the size must be a multiple of 512 bytes");
        }
        let mut after = header.clone();
        self.put_into(&mut after);
        after.check_external()?;
        if after.backing.is_none() && after.backing_format().is_some() {
            return refuse("backing_fmt needs a backing_file");
        }
        after.bytes().map(drop)
    }

    /// What the header alone says of all this.
    pub(crate) fn put_into(&self, header: &mut Header) {
        if let Some(lazy) = self.lazy_refcounts {
            header.compatible &= !compatible::LAZY_REFCOUNTS;
            header.compatible |= if lazy { compatible::LAZY_REFCOUNTS } else { 0 };
        }
        if let Some(name) = &self.backing_file {
            header.backing = Some(name.clone()).filter(|name| !name.is_empty());
            if header.backing.is_none() {
                header.set_text(extension::BACKING_FORMAT, "");
            }
        }
        if let Some(format) = &self.backing_fmt {
            header.set_text(extension::BACKING_FORMAT, format);
        }
        if let Some(name) = &self.data_file {
            header.set_text(extension::DATA_FILE, name);
        }
        if self.data_file_raw == Some(false) {
            header.autoclear &= !crate::header::autoclear::RAW_EXTERNAL;
        }
    }
}

impl Header {
    /// Has an extension say this; empty: there is none.
    fn set_text(&mut self, kind: u32, text: &str) {
        let at = self.extensions.iter().position(|extension| extension.kind == kind);
        match (at, text) {
            (Some(at), "") => drop(self.extensions.remove(at)),
            (Some(at), text) => self.extensions[at].data = text.into(),
            (None, "") => {}
            (None, text) => self.extensions.push(Extension { kind, data: text.into() }),
        }
    }
}
