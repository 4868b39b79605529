//! LUKS2: two copies of a binary header with metadata in JSON behind it, areas of key material, and the payload.
//!
//! Whoever changes something writes the copy that he did not rely on, waits until it is durable, and writes the other:
//! so one of the two is whole at any moment, and the one with the higher number is believed. What is in the metadata
//! and is not understood (tokens, flags, names) is kept as it is.
//!
//! Source: "LUKS2 On-Disk Format Specification", version 1.1 (called *LUKS2* here). Differs: one segment of the type
//! `crypt` that goes to the end; key slots of the type `luks2`, of which those that belong to it are tried; no
//! reencryption, no integrity. A copy that is damaged is written again when slots change, not when an image is opened,
//! as that may be read-only.

mod amend;
mod binary;
mod cost;
mod create;
mod metadata;
mod slots;

use alloc::string::ToString;
use alloc::vec::Vec;

use blockyard_units::ByteRange;
use serde_json::Value;

pub use self::cost::Cost;
pub use self::create::Luks2Options;

use self::binary::{Binary, Which};
use self::metadata::Metadata;
use crate::error::CryptoError;
use crate::spec::CipherSpec;

/// Key slots that a header may have (LUKS2 3.1).
const SLOTS: usize = 32;

/// To whose multiples areas of key material begin and end (LUKS2 3.1).
const ALIGNMENT: u64 = 4096;

/// A header whose better copy was checked.
#[derive(Clone, Debug)]
pub struct Luks2 {
    binary: Binary,
    /// Which copy that is.
    used: Which,
    /// The whole of the metadata, also what is not understood.
    document: Value,
    metadata: Metadata,
    cipher: CipherSpec,
}

impl Luks2 {
    /// Bytes of both copies, at their longest.
    pub const LONGEST: u64 = 2 * binary::LONGEST;

    /// How many bytes from the start of an image hold both copies, as its beginning tells; all that they may be where
    /// it does not.
    pub fn wanted(beginning: &[u8]) -> u64 {
        binary::size_said(beginning).map_or(Self::LONGEST, |size| 2 * size)
    }

    /// Whether one of the two copies begins as such a header does. `bytes`: as many as are wanted.
    pub fn is_there(bytes: &[u8]) -> bool {
        binary::is_there(bytes)
    }

    /// Reads and checks the header at the start of `bytes`, as many as are wanted, of an image or a space of `space`
    /// bytes; `detached`, if the payload is elsewhere.
    ///
    /// # Errors
    /// No copy is whole, a field is wrong, or it asks for what is not implemented.
    pub fn parse(bytes: &[u8], space: u64, detached: bool) -> Result<Self, CryptoError> {
        let (binary, used, text) = binary::better(bytes)?;
        let (document, metadata) = metadata::parse(&text)?;
        let cipher = metadata.check(binary.size, space, detached)?;
        Ok(Self { binary, used, document, metadata, cipher })
    }

    /// Bytes from the start of the image, or of the payload's own place, to the payload.
    pub fn payload_offset(&self) -> u64 {
        self.metadata.segment().offset.0
    }

    /// The cipher of the payload.
    pub fn cipher(&self) -> &CipherSpec {
        &self.cipher
    }

    /// Bytes of a sector of the payload.
    pub fn sector_size(&self) -> u32 {
        self.metadata.segment().sector_size
    }

    /// The number of the copy that is believed: one more at each change.
    pub fn sequence(&self) -> u64 {
        self.binary.sequence
    }

    /// The slots that a passphrase may open the payload by, the preferred ones first, and where their key material
    /// lies. `all`: also those that are to be tried only when somebody asks for them.
    pub fn key_materials(&self, all: bool) -> Vec<(usize, ByteRange)> {
        self.metadata.tried(all)
    }
}

fn corrupt(
    field: &'static str,
    offset: usize,
    found: impl ToString,
    expected: &'static str,
) -> CryptoError {
    CryptoError::Corrupt { field, offset, found: found.to_string(), expected }
}
