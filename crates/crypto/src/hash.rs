//! The hashes that a header may name, and keys derived with them.

use alloc::vec;
use alloc::vec::Vec;

use pbkdf2::hmac::digest::Digest;
use pbkdf2::hmac::{EagerHash, Hmac, KeyInit, Mac};
use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::pieces::{PIECE, Pause, at_once};

/// A hash, by which keys are derived and split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// RIPEMD-160.
    Ripemd160,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

const HASHES: [(Hash, &str); 6] = [
    (Hash::Ripemd160, "ripemd160"),
    (Hash::Sha1, "sha1"),
    (Hash::Sha224, "sha224"),
    (Hash::Sha256, "sha256"),
    (Hash::Sha384, "sha384"),
    (Hash::Sha512, "sha512"),
];

impl Hash {
    /// The hash that headers and options call so.
    ///
    /// # Errors
    /// There is none.
    pub fn named(word: &str) -> Result<Self, CryptoError> {
        let found = HASHES.iter().find(|(_, known)| *known == word);
        found.map(|(hash, _)| *hash).ok_or_else(|| CryptoError::Unsupported {
            what: "hash",
            found: word.into(),
            known: "ripemd160, sha1, sha224, sha256, sha384 and sha512",
        })
    }

    /// What headers and options call it.
    pub fn word(self) -> &'static str {
        let found = HASHES.iter().find(|(hash, _)| *hash == self);
        found.map(|(_, word)| *word).expect("every-hash-has-a-word")
    }

    /// Bytes of a digest.
    pub fn digest_len(self) -> usize {
        self.digest(&[]).len()
    }

    /// The digest of `parts`, one behind the other.
    pub fn digest(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        fn of<D: Digest>(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
            let hasher = parts.iter().fold(D::new(), |hasher, part| hasher.chain_update(part));
            Zeroizing::new(hasher.finalize().to_vec())
        }
        match self {
            Self::Ripemd160 => of::<ripemd::Ripemd160>(parts),
            Self::Sha1 => of::<sha1::Sha1>(parts),
            Self::Sha224 => of::<sha2::Sha224>(parts),
            Self::Sha256 => of::<sha2::Sha256>(parts),
            Self::Sha384 => of::<sha2::Sha384>(parts),
            Self::Sha512 => of::<sha2::Sha512>(parts),
        }
    }

    /// `len` bytes derived from `password` by PBKDF2 with HMAC, in `iterations` rounds. A host that wants to know how
    /// many rounds take how long measures this.
    pub fn derive(
        self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
        len: usize,
    ) -> Zeroizing<Vec<u8>> {
        at_once(|pause| self.derive_in_pieces(password, salt, iterations, len, pause))
    }

    /// The same in pieces.
    ///
    /// # Yields
    /// `pause`, between the pieces.
    pub async fn derive_in_pieces(
        self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
        len: usize,
        pause: Pause,
    ) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(vec![0; len]);
        match self {
            Self::Ripemd160 => {
                pbkdf2::<ripemd::Ripemd160>(password, salt, iterations, &mut key, pause).await
            }
            Self::Sha1 => pbkdf2::<sha1::Sha1>(password, salt, iterations, &mut key, pause).await,
            Self::Sha224 => {
                pbkdf2::<sha2::Sha224>(password, salt, iterations, &mut key, pause).await
            }
            Self::Sha256 => {
                pbkdf2::<sha2::Sha256>(password, salt, iterations, &mut key, pause).await
            }
            Self::Sha384 => {
                pbkdf2::<sha2::Sha384>(password, salt, iterations, &mut key, pause).await
            }
            Self::Sha512 => {
                pbkdf2::<sha2::Sha512>(password, salt, iterations, &mut key, pause).await
            }
        }
        key
    }
}

/// PBKDF2 (RFC 8018, 5.2) with HMAC: fills `key`.
async fn pbkdf2<D: EagerHash>(
    password: &[u8],
    salt: &[u8],
    rounds: u32,
    key: &mut [u8],
    pause: Pause,
) {
    let keyed = Hmac::<D>::new_from_slice(password).expect("a-key-of-any-length-will-do");
    let digest = |parts: &[&[u8]]| {
        let mac = parts.iter().fold(keyed.clone(), |mac, part| mac.chain_update(part));
        Zeroizing::new(mac.finalize().into_bytes().to_vec())
    };
    let len = digest(&[]).len();
    for (block, number) in key.chunks_mut(len).zip(1_u32..) {
        let mut last = digest(&[salt, &number.to_be_bytes()]);
        block.copy_from_slice(&last[..block.len()]);
        for round in 1..rounds {
            if round % PIECE == 0 {
                pause().await;
            }
            let mut mac = keyed.clone();
            mac.update(&last);
            last.copy_from_slice(&mac.finalize().into_bytes());
            block.iter_mut().zip(&*last).for_each(|(byte, more)| *byte ^= more);
        }
    }
}
