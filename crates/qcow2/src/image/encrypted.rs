//! LUKS inside an image: guest data are encrypted in sectors, each by where it is in the file that has the data. The
//! structures are not, and neither are compressed clusters.
//!
//! Source: the specification, "Full disk encryption header pointer" and "Data encryption"; and what QEMU 10.0 does with
//! compressed clusters. Differs: none is written, as it could be read without the passphrase.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use blockyard_crypto::{
    CryptoError, Header as LuksHeader, Materials, Random, SECTOR, SectorCipher, SlotChange, Volume,
};
use blockyard_runtime::IoBuffer;
use blockyard_sync::door;
use blockyard_units::{ByteLen, ByteRange};

use super::Image;
use crate::error::ImageError;
use crate::file::{Files, ImageFile};
use crate::header::{Header, encryption};

/// Between the guest and the file.
#[derive(Clone)]
pub(super) enum Cipher {
    /// Nothing.
    None,
    /// What nobody has given the passphrase for.
    Locked,
    Open(Arc<SectorCipher>),
}

impl Cipher {
    pub fn of(header: &Header) -> Self {
        if header.encryption == encryption::LUKS { Self::Locked } else { Self::None }
    }
}

fn said(error: CryptoError) -> ImageError {
    ImageError::Unsupported(format!("{error}"))
}

/// That of one slot.
async fn key_material(
    file: ImageFile<'_>,
    area: ByteRange,
    header: &LuksHeader,
    slot: usize,
) -> Result<IoBuffer, ImageError> {
    let place = header.key_material(slot);
    Ok(file.read(ByteRange::new(area.start() + place.start(), place.len().0)).await?)
}

impl Image {
    /// Whether guest data are encrypted: then they are written in whole sectors of 512 bytes.
    pub fn is_encrypted(&self) -> bool {
        !matches!(self.cipher, Cipher::None)
    }

    /// The same image, opened with a passphrase. No error holds that.
    ///
    /// # Errors
    /// It is not encrypted, the LUKS header is wrong or asks for what is not there, the passphrase is none of its own,
    /// or the file failed.
    ///
    /// # Yields
    /// As the file does.
    pub async fn unlocked(
        self,
        file: ImageFile<'_>,
        passphrase: &[u8],
    ) -> Result<Self, ImageError> {
        if !self.is_encrypted() {
            return Err(ImageError::Unsupported("the image is not encrypted".into()));
        }
        let (area, header) = self.luks_header(file).await?;
        for slot in header.enabled_slots() {
            let material = key_material(file, area, &header, slot).await?;
            if let Some(key) = header
                .unlock_in_pieces(slot, passphrase, &material, || Box::pin(door::boundary()))
                .await
                .map_err(said)?
            {
                let cipher = Cipher::Open(Arc::new(header.sector_cipher(&key)));
                return Ok(Self { cipher, ..self });
            }
        }
        let message = "the passphrase opens none of the key slots";
        Err(ImageError::Unsupported(message.into()))
    }

    /// Changes the key slots of an encrypted image. A crash leaves each as it was or as it is to be, but for one that
    /// is overwritten.
    ///
    /// # Errors
    /// It is not encrypted, a passphrase is none of its own, the change is not allowed, or the file failed.
    ///
    /// # Yields
    /// As the file does.
    pub async fn amend_slots(
        &self,
        files: &Files<'_>,
        change: &SlotChange,
        random: Random<'_>,
    ) -> Result<(), ImageError> {
        if !self.is_encrypted() {
            return Err(ImageError::Unsupported("the image is not encrypted".into()));
        }
        let (area, header) = self.luks_header(files.image).await?;
        let mut materials = Materials::new();
        for slot in header.enabled_slots() {
            let material = key_material(files.image, area, &header, slot).await?;
            materials.insert(slot, material.to_vec());
        }
        let volume = Volume::V1(Box::new(header));
        let amended = volume.amend(change, &materials, random, || Box::pin(door::boundary())).await;
        for step in amended.map_err(said)? {
            self.put(files, None, area.start() + step.offset, step.bytes.into()).await?;
            files.image.flush().await?;
        }
        Ok(())
    }

    /// Where the LUKS header and its key material are, and what it says.
    async fn luks_header(
        &self,
        file: ImageFile<'_>,
    ) -> Result<(ByteRange, LuksHeader), ImageError> {
        let area = self.header().luks_area()?;
        let start = ByteRange::new(area.start(), area.len().0.min(LuksHeader::LEN as u64));
        let header = LuksHeader::parse(&file.read(start).await?, area.len().0).map_err(said)?;
        Ok((area, header))
    }

    /// The same image, opened with the passphrase that `other`, which is it too, was opened with.
    pub(crate) fn unlocked_as(self, other: &Self) -> Self {
        Self { cipher: other.cipher.clone(), ..self }
    }

    /// The cipher, if guest data are encrypted.
    fn cipher(&self) -> Result<Option<&SectorCipher>, ImageError> {
        match &self.cipher {
            Cipher::None => Ok(None),
            Cipher::Open(cipher) => Ok(Some(cipher)),
            Cipher::Locked => {
                let message = "the image is encrypted, and was opened without its passphrase";
                Err(ImageError::Unsupported(message.into()))
            }
        }
    }

    /// Reads guest data, which are at `range` of the file that has them.
    pub(super) async fn read_data(
        &self,
        files: &Files<'_>,
        range: ByteRange,
    ) -> Result<IoBuffer, ImageError> {
        let Some(cipher) = self.cipher()? else { return Ok(files.data.read(range).await?) };
        let whole = range.align_outward(ByteLen(SECTOR as u64));
        let bytes = cipher.decrypted(whole.start(), &files.data.read(whole).await?);
        let from = ByteLen(range.start() - whole.start()).as_usize();
        Ok(IoBuffer::from(bytes).slice(from..from + range.len().as_usize()))
    }

    /// Writes guest data, which belong at `host` of the file that has them.
    pub(super) async fn write_data(
        &self,
        files: &Files<'_>,
        host: u64,
        data: IoBuffer,
    ) -> Result<(), ImageError> {
        let Some(cipher) = self.cipher()? else { return self.put_data(files, host, data).await };
        let whole = host.is_multiple_of(SECTOR as u64) && data.len().is_multiple_of(SECTOR);
        if !whole {
            let message = "an encrypted image is written in whole sectors of 512 bytes";
            return Err(ImageError::Unsupported(message.into()));
        }
        self.put_data(files, host, cipher.encrypted(host, &data).into()).await
    }
}
