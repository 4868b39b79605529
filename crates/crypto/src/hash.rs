//! The hashes that a header may name, and keys derived with them.

use alloc::vec;
use alloc::vec::Vec;

use pbkdf2::hmac::EagerHash;
use pbkdf2::hmac::digest::Digest;
use zeroize::Zeroizing;

use crate::error::CryptoError;

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
        fn of<D: EagerHash>(password: &[u8], salt: &[u8], rounds: u32, key: &mut [u8])
        where
            D::Core: Sync,
        {
            pbkdf2::pbkdf2_hmac::<D>(password, salt, rounds, key);
        }
        let mut key = Zeroizing::new(vec![0; len]);
        let derive = match self {
            Self::Ripemd160 => of::<ripemd::Ripemd160>,
            Self::Sha1 => of::<sha1::Sha1>,
            Self::Sha224 => of::<sha2::Sha224>,
            Self::Sha256 => of::<sha2::Sha256>,
            Self::Sha384 => of::<sha2::Sha384>,
            Self::Sha512 => of::<sha2::Sha512>,
        };
        derive(password, salt, iterations, &mut key);
        key
    }
}
