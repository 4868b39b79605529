//! How a key is derived from a passphrase, and what that costs.
//!
//! Source: LUKS2 3.2.1 ("Keyslot object"), for the fields; RFC 9106 for Argon2.
//! Differs: Argon2 is computed at one go, by one thread for all of its lanes, and nothing else of the caller goes on
//! meanwhile; what it comes to is the same.

use alloc::format;
use alloc::vec::Vec;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, Zeroizing};

use super::metadata::Kdf;
use crate::error::CryptoError;
use crate::hash::Hash;
use crate::luks::{MAX_ITERATIONS, MAX_TRIED};
use crate::pieces::Pause;

/// KiB of memory that a slot may ask for.
const MAX_MEMORY: u32 = 1 << 22;

/// KiB that all that is tried may fill together, as often as it says: a minute or so.
const MAX_FILLED: u64 = 1 << 26;

const MAX_LANES: u32 = 16;

/// How a key is derived, but for its salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// By PBKDF2 with HMAC.
    Pbkdf2 {
        /// Of the HMAC.
        hash: Hash,
        /// Rounds.
        iterations: u32,
    },
    /// By Argon2id, or by Argon2i as older images have it.
    Argon2 {
        /// Of the two.
        id: bool,
        /// Passes over the memory.
        time: u32,
        /// KiB.
        memory: u32,
        /// Lanes.
        lanes: u32,
    },
}

impl Cost {
    /// What a slot says, if it can be paid.
    pub(super) fn of(kdf: &Kdf) -> Result<Self, CryptoError> {
        let missing = |what| super::corrupt(what, super::binary::LEN, "none", "a number or a word");
        let cost = match kdf.kind.as_str() {
            "pbkdf2" => Self::Pbkdf2 {
                hash: Hash::named(kdf.hash.as_deref().ok_or_else(|| missing("kdf hash"))?)?,
                iterations: kdf.iterations.ok_or_else(|| missing("kdf iterations"))?,
            },
            kind @ ("argon2i" | "argon2id") => Self::Argon2 {
                id: kind == "argon2id",
                time: kdf.time.ok_or_else(|| missing("kdf time"))?,
                memory: kdf.memory.ok_or_else(|| missing("kdf memory"))?,
                lanes: kdf.cpus.ok_or_else(|| missing("kdf cpus"))?,
            },
            other => {
                return Err(CryptoError::Unsupported {
                    what: "kdf",
                    found: other.into(),
                    known: "pbkdf2, argon2i and argon2id",
                });
            }
        };
        cost.check().map(|()| cost)
    }

    /// Refuses what nobody would wait for, or what is no cost at all.
    pub fn check(self) -> Result<(), CryptoError> {
        let refuse = |what| Err(CryptoError::Refused(what));
        match self {
            Self::Pbkdf2 { iterations, .. } if !(1..=MAX_ITERATIONS).contains(&iterations) => {
                refuse(format!("{iterations} iterations; there may be 1 to {MAX_ITERATIONS}"))
            }
            Self::Argon2 { lanes, .. } if !(1..=MAX_LANES).contains(&lanes) => {
                refuse(format!("{lanes} lanes of argon2; there may be 1 to {MAX_LANES}"))
            }
            Self::Argon2 { memory, lanes, .. } if !(8 * lanes..=MAX_MEMORY).contains(&memory) => {
                refuse(format!(
                    "{memory} KiB of memory for argon2; there may be 8 for each lane, up to {MAX_MEMORY}"
                ))
            }
            Self::Argon2 { time: 0, .. } => refuse("argon2 makes one pass at least, not 0".into()),
            _ => Ok(()),
        }
    }

    /// Refuses what would take longer than a minute or so together.
    pub(super) fn check_all(costs: impl Iterator<Item = Self>) -> Result<(), CryptoError> {
        let (mut rounds, mut filled) = (0_u64, 0_u64);
        for cost in costs {
            match cost {
                Self::Pbkdf2 { iterations, .. } => rounds += u64::from(iterations),
                Self::Argon2 { time, memory, .. } => {
                    filled = filled.saturating_add(u64::from(time) * u64::from(memory));
                }
            }
        }
        if rounds <= MAX_TRIED && filled <= MAX_FILLED {
            return Ok(());
        }
        let most = format!("there may be {MAX_TRIED} and {MAX_FILLED}");
        let what =
            format!("the key slots ask for {rounds} iterations and {filled} KiB together; {most}");
        Err(CryptoError::Refused(what))
    }

    /// `len` bytes derived from a passphrase. A host that wants to know what takes how long measures this.
    ///
    /// # Errors
    /// There is not so much memory, or the salt is shorter than 8 bytes.
    ///
    /// # Yields
    /// `pause`, between the pieces of PBKDF2.
    pub async fn derive_in_pieces(
        self,
        passphrase: &[u8],
        salt: &[u8],
        len: usize,
        pause: Pause,
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        match self {
            Self::Pbkdf2 { hash, iterations } => {
                Ok(hash.derive_in_pieces(passphrase, salt, iterations, len, pause).await)
            }
            Self::Argon2 { id, time, memory, lanes } => {
                self.check()?;
                let said = |error: argon2::Error| CryptoError::Refused(format!("argon2: {error}"));
                let params = Params::new(memory, time, lanes, Some(len)).map_err(said)?;
                let mut filled = Vec::new();
                let blocks = params.block_count();
                filled.try_reserve_exact(blocks).map_err(|_| {
                    CryptoError::Refused(format!("there is no memory of {memory} KiB for argon2"))
                })?;
                filled.resize(blocks, Block::new());
                let algorithm = if id { Algorithm::Argon2id } else { Algorithm::Argon2i };
                let argon2 = Argon2::new(algorithm, Version::V0x13, params);
                let mut key = Zeroizing::new(alloc::vec![0; len]);
                let done =
                    argon2.hash_password_into_with_memory(passphrase, salt, &mut key, &mut filled);
                filled.iter_mut().for_each(Zeroize::zeroize);
                done.map_err(said).map(|()| key)
            }
        }
    }
}
