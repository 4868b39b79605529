//! Opening with a passphrase.
//!
//! Source: LUKS2 5.1 ("Unlocking"): what the key of a slot comes to is compared with the segment's digest.

use alloc::format;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::Luks2;
use super::cost::Cost;
use super::metadata::{Keyslot, Word};
use crate::error::CryptoError;
use crate::pieces::Pause;
use crate::secret::MasterKey;
use crate::sector::SectorCipher;
use crate::split;

impl Luks2 {
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
        let Some(keyslot) = self.metadata.keyslots.get(&Word(slot)) else { return Ok(None) };
        let len = keyslot.material().len().as_usize();
        if material.len() != len {
            let what =
                format!("slot {slot} has {len} bytes of key material, not {}", material.len());
            return Err(CryptoError::Refused(what));
        }
        let cost = Cost::of(&keyslot.kdf)?;
        let cipher = area_cipher(keyslot, cost, &keyslot.kdf.salt.0, passphrase, pause).await?;
        let mut material = Zeroizing::new(material.to_vec());
        cipher.decrypt(0, &mut material);
        let key = split::merge(keyslot.hash()?, &material, keyslot.key_size());
        Ok(self.is_key(&key, pause).await?.then_some(MasterKey(key)))
    }

    async fn is_key(&self, key: &[u8], pause: Pause) -> Result<bool, CryptoError> {
        let (_, digest) = self.metadata.digest().expect("a-checked-header-has-its-digest");
        let (salt, len) = (&digest.salt.0, digest.digest.0.len());
        let found: Zeroizing<Vec<u8>> =
            digest.cost()?.derive_in_pieces(key, salt, len, pause).await?;
        Ok(*found == digest.digest.0)
    }

    /// The cipher of the payload, whose sectors are counted from the start of the payload.
    pub fn sector_cipher(&self, key: &MasterKey) -> SectorCipher {
        SectorCipher::new(&self.cipher, &key.0).over_sectors(self.sector_size() as usize)
    }
}

/// The cipher of a slot's key material, whose sectors are counted from the start of the material.
pub(super) async fn area_cipher(
    keyslot: &Keyslot,
    cost: Cost,
    salt: &[u8],
    passphrase: &[u8],
    pause: Pause,
) -> Result<SectorCipher, CryptoError> {
    let spec = keyslot.area_cipher()?;
    let key = cost.derive_in_pieces(passphrase, salt, spec.key_len(), pause).await?;
    Ok(SectorCipher::new(&spec, &key))
}
