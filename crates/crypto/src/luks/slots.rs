//! Opening with a passphrase, and slots filled and emptied.
//!
//! Source: LUKS 3 ("Operations"): 3.2 for opening, 3.3 for a slot more, 3.4 for one less.
//! Differs: what a slot held is overwritten once; how often the medium keeps it elsewhere nobody knows.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::header::{DIGEST_LEN, Header, SALT_LEN, Slot};
use super::{MAX_ITERATIONS, SLOTS, STRIPES};
use crate::error::CryptoError;
use crate::pieces::{Pause, at_once};
use crate::secret::MasterKey;
use crate::sector::SectorCipher;
use crate::slots::{Random, Step, check_slot, place, refuse};
use crate::split;

/// What is to be written so that a slot changes: the material, then, once that is durable, the header. A crash between
/// the two leaves a new slot unused, or one that was to be emptied without its passphrase.
#[derive(Debug)]
#[must_use = "nothing is changed until it is written"]
pub struct SlotUpdate {
    /// Bytes from the start of the header.
    pub offset: u64,
    /// What becomes of the slot's key material.
    pub material: Vec<u8>,
    /// The header afterwards.
    pub header: Header,
}

impl SlotUpdate {
    /// The two pieces.
    pub fn steps(self) -> [Step; 2] {
        let header = Step { offset: 0, bytes: self.header.to_bytes().to_vec() };
        [Step { offset: self.offset, bytes: self.material }, header]
    }
}

impl Header {
    /// Tries a passphrase on one slot, whose key material is given.
    ///
    /// # Errors
    /// The material has not the length that the header says.
    pub fn unlock(
        &self,
        slot: usize,
        passphrase: &[u8],
        material: &[u8],
    ) -> Result<Option<MasterKey>, CryptoError> {
        at_once(|pause| self.unlock_in_pieces(slot, passphrase, material, pause))
    }

    /// The same in pieces.
    ///
    /// # Errors
    /// The same.
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
        let len = self.key_material(slot).len().as_usize();
        if material.len() != len {
            let what =
                format!("slot {slot} has {len} bytes of key material, not {}", { material.len() });
            return Err(CryptoError::Refused(what));
        }
        if !self.slot(slot).enabled {
            return Ok(None);
        }
        let mut material = Zeroizing::new(material.to_vec());
        self.slot_cipher(self.slot(slot), passphrase, pause).await.decrypt(0, &mut material);
        let key = split::merge(self.hash, &material, self.cipher.key_len());
        let (salt, rounds) = (&self.digest_salt, self.digest_iterations);
        let found = self.hash.derive_in_pieces(&key, salt, rounds, DIGEST_LEN, pause).await;
        Ok((*found == self.digest).then_some(MasterKey(key)))
    }

    /// The cipher of the payload, whose sectors are counted from the start of the payload.
    pub fn sector_cipher(&self, key: &MasterKey) -> SectorCipher {
        SectorCipher::new(&self.cipher, &key.0)
    }

    /// The cipher of a slot's key material, whose sectors are counted from the start of the material.
    async fn slot_cipher(&self, slot: &Slot, passphrase: &[u8], pause: Pause) -> SectorCipher {
        let (len, rounds) = (self.cipher.key_len(), slot.iterations);
        let key = self.hash.derive_in_pieces(passphrase, &slot.salt, rounds, len, pause).await;
        SectorCipher::new(&self.cipher, &key)
    }

    /// Lets a further passphrase open the image: by `slot`, or by the first that is free. `random` fills bytes with
    /// random numbers that nobody can guess.
    ///
    /// # Errors
    /// No slot is free, or that one is not.
    pub fn add_slot(
        &self,
        slot: Option<usize>,
        key: &MasterKey,
        passphrase: &[u8],
        iterations: u32,
        random: Random<'_>,
    ) -> Result<SlotUpdate, CryptoError> {
        at_once(|pause| self.add_slot_in_pieces(slot, key, passphrase, iterations, random, pause))
    }

    /// The same in pieces.
    ///
    /// # Errors
    /// The same.
    ///
    /// # Yields
    /// `pause`, between the pieces.
    pub async fn add_slot_in_pieces(
        &self,
        slot: Option<usize>,
        key: &MasterKey,
        passphrase: &[u8],
        iterations: u32,
        random: Random<'_>,
        pause: Pause,
    ) -> Result<SlotUpdate, CryptoError> {
        check_iterations(iterations)?;
        let index = place(slot, SLOTS, |slot| !self.slots[slot].enabled)?;
        let mut salt = [0; SALT_LEN];
        random(&mut salt);
        let slot = Slot { enabled: true, iterations, salt, ..self.slots[index] };
        let mut header = self.clone();
        header.slots[index] = slot;
        header.check_work().map_err(|_| {
            let said = "with this slot too, trying all of them takes too many iterations; give it less time";
            CryptoError::Refused(said.into())
        })?;
        let mut material = split::split(self.hash, &key.0, STRIPES as usize, random);
        self.slot_cipher(&slot, passphrase, pause).await.encrypt(0, &mut material);
        Ok(self.update(index, slot, material.to_vec()))
    }

    /// Lets the passphrase of `slot` not open the image any more. The last slot goes only by `force`, and with it
    /// the data. `random` fills bytes with random numbers.
    ///
    /// # Errors
    /// It is not in use, or is the last one.
    pub fn erase_slot(
        &self,
        slot: usize,
        force: bool,
        random: Random<'_>,
    ) -> Result<SlotUpdate, CryptoError> {
        let old = &self.slots[check_slot(slot, SLOTS)?];
        if !old.enabled {
            return refuse(format!("slot {slot} is not in use"));
        }
        if self.enabled_slots().count() == 1 && !force {
            return refuse(format!(
                "slot {slot} is the only one in use, without it the data are lost; add another first"
            ));
        }
        let mut material = vec![0; self.key_material(slot).len().as_usize()];
        random(&mut material);
        Ok(self.update(slot, Slot { material: old.material, ..Slot::default() }, material))
    }

    fn update(&self, index: usize, slot: Slot, material: Vec<u8>) -> SlotUpdate {
        let mut header = self.clone();
        header.slots[index] = slot;
        SlotUpdate { offset: header.key_material(index).start(), material, header }
    }
}

pub(super) fn check_iterations(iterations: u32) -> Result<(), CryptoError> {
    if (1..=MAX_ITERATIONS).contains(&iterations) {
        return Ok(());
    }
    let what = format!("{iterations} iterations; there may be 1 to {MAX_ITERATIONS}");
    Err(CryptoError::Refused(what))
}
