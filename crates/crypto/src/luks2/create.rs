//! New images.
//!
//! Source: LUKS2 5.5 ("Initialization"), and where `cryptsetup`'s documentation says that things are by default.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::amend::Form;
use super::binary::{self, Binary, Which};
use super::cost::Cost;
use super::metadata::Metadata;
use super::{ALIGNMENT, Luks2};
use crate::error::CryptoError;
use crate::hash::Hash;
use crate::luks::uuid;
use crate::pieces::{Pause, at_once};
use crate::secret::MasterKey;
use crate::sector::SECTOR_SIZES;
use crate::slots::{Random, Step, refuse};
use crate::spec::{CipherSpec, Mode};

/// Bytes of each copy of the header.
const HEADER: u64 = 16 << 10;

const SALT_LEN: usize = 32;

/// Bytes that key material may have.
const MAX_KEYSLOTS: u64 = 128 << 20;

/// What a new image is to be.
#[derive(Clone, Debug)]
pub struct Luks2Options {
    /// Of the payload, and of the key material.
    pub cipher: CipherSpec,
    /// Bytes of a sector of the payload.
    pub sector_size: u32,
    /// Of the digest, and by which keys are split.
    pub hash: Hash,
    /// Of the first slot.
    pub cost: Cost,
    /// Rounds of the digest.
    pub digest_iterations: u32,
    /// Bytes for key material.
    pub keyslots_size: u64,
    /// The payload is elsewhere.
    pub detached: bool,
}

impl Luks2Options {
    /// Bytes for key material, so that the payload begins at 16 MiB.
    pub const KEYSLOTS_SIZE: u64 = (16 << 20) - 2 * HEADER;

    /// Bytes of both copies and of the key material; the payload follows, if it is not elsewhere.
    pub fn payload_offset(&self) -> u64 {
        2 * HEADER + self.keyslots_size
    }
}

impl Luks2 {
    /// What is to be written for a new image that one passphrase opens, and its key. `random` fills bytes with random
    /// numbers that nobody can guess.
    ///
    /// # Errors
    /// A cost, a size or a mode is not possible.
    pub fn create(
        options: &Luks2Options,
        passphrase: &[u8],
        random: Random<'_>,
    ) -> Result<(Vec<Step>, MasterKey), CryptoError> {
        at_once(|pause| Self::create_in_pieces(options, passphrase, random, pause))
    }

    /// The same in pieces.
    ///
    /// # Errors
    /// The same.
    ///
    /// # Yields
    /// `pause`, between the pieces.
    pub async fn create_in_pieces(
        options: &Luks2Options,
        passphrase: &[u8],
        random: Random<'_>,
        pause: Pause,
    ) -> Result<(Vec<Step>, MasterKey), CryptoError> {
        let Luks2Options { cipher, sector_size, hash, cost, .. } = *options;
        let possible = SECTOR_SIZES.contains(&(sector_size as usize));
        if !possible || (sector_size > 512 && cipher.mode() != Mode::Xts) {
            return refuse("sectors have 512 bytes; in mode xts 1024, 2048 or 4096 too".into());
        }
        let size = options.keyslots_size;
        if !size.is_multiple_of(ALIGNMENT) || size > MAX_KEYSLOTS {
            let what = "the room for key material is a multiple of 4096 bytes, up to 128 MiB";
            return refuse(what.into());
        }
        let of_digest = Cost::Pbkdf2 { hash, iterations: options.digest_iterations };
        of_digest.check()?;
        let mut key = Zeroizing::new(vec![0; cipher.key_len()]);
        random(&mut key);
        let mut salt = [0; SALT_LEN];
        random(&mut salt);
        let digest = of_digest.derive_in_pieces(&key, &salt, hash.digest_len(), pause).await?;
        let payload = if options.detached { 0 } else { options.payload_offset() };
        let document = json!({
            "keyslots": {},
            "tokens": {},
            "segments": {"0": {
                "type": "crypt",
                "offset": payload.to_string(),
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": cipher.words(),
                "sector_size": sector_size,
            }},
            "digests": {"0": {
                "type": "pbkdf2",
                "keyslots": [],
                "segments": ["0"],
                "hash": hash.word(),
                "iterations": options.digest_iterations,
                "salt": Base64::encode_string(&salt),
                "digest": Base64::encode_string(&digest),
            }},
            "config": {
                "json_size": (HEADER - binary::LEN as u64).to_string(),
                "keyslots_size": options.keyslots_size.to_string(),
            },
        });
        let metadata =
            Metadata::deserialize(&document).expect("metadata-that-are-made-can-be-read");
        let binary = Binary::new(&uuid(random), HEADER);
        let empty = Self { binary, used: Which::Primary, document, metadata, cipher };
        let (key, form) = (MasterKey(key), Form { cost, hash, cipher });
        let adding = empty.add_slot(None, false, &key, passphrase, &form, random, pause);
        let steps = Box::pin(adding).await?;
        Ok((steps, key))
    }
}
