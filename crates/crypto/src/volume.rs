//! A header of either version.

use alloc::boxed::Box;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use crate::error::CryptoError;
use crate::luks::Header;
use crate::luks2::Luks2;
use crate::pieces::Pause;
use crate::secret::{MasterKey, Secret};
use crate::sector::{SECTOR, SectorCipher};
use crate::slots::{Materials, Opened, Random, SlotChange, Step, refuse};

/// The header of an image, and where the rest of it is.
#[derive(Clone, Debug)]
pub enum Volume {
    /// LUKS1.
    V1(Box<Header>),
    /// LUKS2.
    V2(Box<Luks2>),
}

/// How a LUKS1 header begins.
const V1: &[u8] = b"LUKS\xba\xbe\0\x01";

impl Volume {
    /// How many bytes from the start of an image its header needs, as its first [`Volume::BEGINNING`] bytes tell.
    pub fn wanted(beginning: &[u8]) -> u64 {
        if beginning.starts_with(V1) { Header::LEN as u64 } else { Luks2::wanted(beginning) }
    }

    /// Bytes that tell how long the header is.
    pub const BEGINNING: u64 = 4096;

    /// Bytes that any header has at most: where those that are wanted hold none, its beginning may be what is damaged.
    pub const LONGEST: u64 = Luks2::LONGEST;

    /// Reads and checks the header at the start of `bytes`, as many as are wanted, of an image of `space` bytes;
    /// `detached`, if the payload is elsewhere.
    ///
    /// # Errors
    /// It is no such header, a field is wrong, or it asks for what is not implemented.
    pub fn parse(bytes: &[u8], space: u64, detached: bool) -> Result<Self, CryptoError> {
        if !bytes.starts_with(V1) && Luks2::is_there(bytes) {
            return Luks2::parse(bytes, space, detached).map(|header| Self::V2(Box::new(header)));
        }
        let header = if detached {
            Header::parse_detached(bytes, space)
        } else {
            Header::parse(bytes, space)
        };
        header.map(|header| Self::V1(Box::new(header)))
    }

    /// The slots that a passphrase is tried on, in this order, and where their key material lies. `all`: also those
    /// that are not tried when an image is opened.
    pub fn key_materials(&self, all: bool) -> Vec<(usize, ByteRange)> {
        match self {
            Self::V1(header) => {
                header.enabled_slots().map(|slot| (slot, header.key_material(slot))).collect()
            }
            Self::V2(header) => header.key_materials(all),
        }
    }

    /// Tries a passphrase on one slot, whose key material is given.
    ///
    /// # Errors
    /// The material has not the length that the header says, or there is no memory for what the slot asks for.
    ///
    /// # Yields
    /// `pause`, between the pieces.
    pub async fn unlock_in_pieces(
        &self,
        slot: usize,
        passphrase: &[u8],
        material: &[u8],
        pause: Pause,
    ) -> Result<Option<MasterKey>, CryptoError> {
        match self {
            Self::V1(header) => header.unlock_in_pieces(slot, passphrase, material, pause).await,
            Self::V2(header) => header.unlock_in_pieces(slot, passphrase, material, pause).await,
        }
    }

    /// The cipher of the payload, whose sectors are counted from the start of the payload.
    pub fn sector_cipher(&self, key: &MasterKey) -> SectorCipher {
        match self {
            Self::V1(header) => header.sector_cipher(key),
            Self::V2(header) => header.sector_cipher(key),
        }
    }

    /// Bytes of a sector of the payload.
    pub fn sector_size(&self) -> u32 {
        match self {
            Self::V1(_) => SECTOR as u32,
            Self::V2(header) => header.sector_size(),
        }
    }

    /// Bytes from the start of the image, or of the payload's own place, to the payload.
    pub fn payload_offset(&self) -> u64 {
        match self {
            Self::V1(header) => header.payload_offset(),
            Self::V2(header) => header.payload_offset(),
        }
    }

    /// What is to be written so that the slots change. `materials`: those of all
    /// [`Volume::key_materials`].
    ///
    /// # Errors
    /// A passphrase is none of the image's, or the change is not allowed.
    ///
    /// # Yields
    /// `pause`, between pieces.
    pub async fn amend(
        &self,
        change: &SlotChange,
        materials: &Materials,
        random: Random<'_>,
        pause: Pause,
    ) -> Result<Vec<Step>, CryptoError> {
        let opened = match change {
            SlotChange::Add { opens: given, .. } | SlotChange::Erase { old: Some(given), .. } => {
                self.opened_by(given, materials, pause).await?
            }
            SlotChange::Erase { old: None, .. } => Vec::new(),
        };
        match self {
            Self::V1(header) => header.amend(change, &opened, random, pause).await,
            Self::V2(header) => header.amend(change, &opened, random, pause).await,
        }
    }

    /// The slots that a passphrase opens, one at least.
    async fn opened_by(
        &self,
        passphrase: &Secret,
        materials: &Materials,
        pause: Pause,
    ) -> Result<Vec<Opened>, CryptoError> {
        let mut found = Vec::new();
        for (slot, material) in materials {
            let key = self.unlock_in_pieces(*slot, passphrase.bytes(), material, pause).await?;
            found.extend(key.map(|key| (*slot, key)));
        }
        if found.is_empty() {
            return refuse("the passphrase opens none of the key slots".into());
        }
        Ok(found)
    }
}
