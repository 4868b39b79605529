//! New images.
//!
//! Source: LUKS 3.1; and where `qemu-img` puts things: header, key material and payload begin at multiples of 4096.

use alloc::format;
use alloc::string::String;

use zeroize::Zeroizing;

use super::header::{DIGEST_LEN, Header, Iterations, SALT_LEN, Slot};
use super::slots::check_iterations;
use super::{SLOTS, STRIPES, SlotUpdate};
use crate::error::CryptoError;
use crate::hash::Hash;
use crate::pieces::{Pause, at_once};
use crate::secret::MasterKey;
use crate::sector::SECTOR;
use crate::slots::Random;
use crate::spec::CipherSpec;

/// Sectors to whose multiples everything is put.
const ALIGNMENT: u32 = 8;

/// A new image: what is to be written, and its key.
#[derive(Debug)]
#[must_use = "nothing is changed until it is written"]
pub struct Created {
    /// The header, and the material of its first slot.
    pub update: SlotUpdate,
    /// The key of the payload.
    pub key: MasterKey,
}

impl Header {
    /// A new image that one passphrase opens. `random` fills bytes with random numbers that nobody can guess.
    ///
    /// # Errors
    /// A number of iterations is 0, or more than can be read again.
    pub fn create(
        cipher: CipherSpec,
        hash: Hash,
        passphrase: &[u8],
        iterations: Iterations,
        random: Random<'_>,
    ) -> Result<Created, CryptoError> {
        at_once(|pause| Self::create_in_pieces(cipher, hash, passphrase, iterations, random, pause))
    }

    /// The same in pieces.
    ///
    /// # Errors
    /// The same.
    ///
    /// # Yields
    /// `pause`, between the pieces.
    pub async fn create_in_pieces(
        cipher: CipherSpec,
        hash: Hash,
        passphrase: &[u8],
        iterations: Iterations,
        random: Random<'_>,
        pause: Pause,
    ) -> Result<Created, CryptoError> {
        check_iterations(iterations.digest)?;
        let mut key = Zeroizing::new(alloc::vec![0; cipher.key_len()]);
        random(&mut key);
        let mut digest_salt = [0; SALT_LEN];
        random(&mut digest_salt);
        let rounds = iterations.digest;
        let found = hash.derive_in_pieces(&key, &digest_salt, rounds, DIGEST_LEN, pause).await;
        let mut digest = [0; DIGEST_LEN];
        digest.copy_from_slice(&found);
        // At most 64 bytes of key: 500 sectors.
        let sectors = cipher.key_len() as u32 * STRIPES / SECTOR as u32;
        let each = sectors.next_multiple_of(ALIGNMENT);
        let mut slots = [Slot::default(); SLOTS];
        for (slot, place) in slots.iter_mut().zip(0..) {
            slot.material = ALIGNMENT + place * each;
        }
        let empty = Self {
            cipher,
            hash,
            payload: ALIGNMENT + SLOTS as u32 * each,
            digest,
            digest_salt,
            digest_iterations: iterations.digest,
            uuid: uuid(random),
            slots,
        };
        let key = MasterKey(key);
        let rounds = iterations.slot;
        let added = empty.add_slot_in_pieces(Some(0), &key, passphrase, rounds, random, pause);
        Ok(Created { update: added.await?, key })
    }
}

/// A random one (RFC 9562, 5.4).
pub(crate) fn uuid(random: Random<'_>) -> String {
    let mut bytes = [0; 16];
    random(&mut bytes);
    let drawn = u128::from_be_bytes(bytes);
    let uuid = drawn & !(0xF << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let part = |shift: u32, digits: u32| (uuid >> shift) & ((1 << (4 * digits)) - 1);
    let (last, fourth, third) = (part(0, 12), part(48, 4), part(64, 4));
    let (second, first) = (part(80, 4), part(96, 8));
    format!("{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{last:012x}")
}
