//! Encryption of sectors with AES, and LUKS headers: bytes in, bytes out.
//!
//! A [`SectorCipher`] changes whole sectors in place. A [`Volume`] is the header of an image, checked: LUKS1's
//! [`Header`], or [`Luks2`]. It says where the key material of a slot lies, tries a passphrase on it, and is what a new
//! image begins with. Whoever reads and writes the bytes, at the start of a file or in clusters of another format, is
//! above.
//!
//! Invariants:
//! - `hostile-headers-are-refused`: every length, offset and count is checked when a header is parsed; what follows
//!   allocates [`MAX_MATERIAL`] bytes at most, or what Argon2 asks for up to 4 GiB, and takes a minute or so at most.
//!   The metadata of LUKS2 are a tree of what 4 MiB of text may say;
//! - `secrets-stay-inside`: no error, and nothing that can be printed, holds a passphrase or a key; the memory of keys
//!   is overwritten when it is given back.
//!
//! Source: "LUKS On-Disk Format Specification", version 1.2.3 (called *LUKS* here, with its sections), and "LUKS2
//! On-Disk Format Specification" (*LUKS2*); IEEE 1619 for XTS; RFC 8018, section 5.2, for PBKDF2; RFC 9106 for Argon2.
//! Differs: of the ciphers there is AES alone.
//!
//! Not for: I/O, clocks (how many rounds are enough is an argument), sources of random numbers (another argument).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod aes;
mod error;
mod hash;
mod luks;
mod luks2;
mod pieces;
mod secret;
mod sector;
mod slots;
mod spec;
mod split;
#[cfg(test)]
mod tests;
mod volume;

pub use error::CryptoError;
pub use hash::Hash;
pub use luks::{Created, Header, Iterations, MAX_ITERATIONS, MAX_MATERIAL, SLOTS, SlotUpdate};
pub use luks2::{Cost, Luks2, Luks2Options};
pub use pieces::Pause;
pub use secret::{MasterKey, Secret};
pub use sector::{SECTOR, SectorCipher};
pub use slots::{Materials, Random, SlotChange, Step};
pub use spec::{CipherSpec, IvGenerator, Mode};
pub use volume::Volume;
