//! The binary header, of which there are two copies, each before its metadata.
//!
//! Source: LUKS2 2.1 ("Binary header"), with the offsets of its figure 2. Numbers are big-endian, words end with a zero
//! byte.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::corrupt;
use crate::error::CryptoError;
use crate::hash::Hash;
use crate::slots::Random;

/// Bytes of a binary header; the metadata follow.
pub(super) const LEN: usize = 4096;

/// Bytes that a copy may have, with its metadata: from the shortest a power of two up to this.
pub(super) const LONGEST: u64 = 4 << 20;
const SHORTEST: u64 = 16 << 10;

const VERSION: u16 = 2;
const VERSION_AT: usize = 6;
const SIZE_AT: usize = 8;
const SEQUENCE_AT: usize = 16;
const CHECKSUM_ALG_AT: usize = 72;
const CHECKSUM_ALG: &[u8] = b"sha256\0";
const SALT_AT: usize = 104;
const SALT_LEN: usize = 64;
const UUID_AT: usize = 168;
const OFFSET_AT: usize = 256;
const CHECKSUM_AT: usize = 448;
const CHECKSUM_LEN: usize = 64;

/// One of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Primary,
    Secondary,
}

impl Which {
    fn magic(self) -> &'static [u8] {
        match self {
            Self::Primary => b"LUKS\xba\xbe",
            Self::Secondary => b"SKUL\xba\xbe",
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }

    /// Where it begins, if each has `size` bytes.
    pub fn offset(self, size: u64) -> u64 {
        match self {
            Self::Primary => 0,
            Self::Secondary => size,
        }
    }
}

/// What both copies say, each with its magic, place and checksum.
#[derive(Clone, Debug)]
pub(super) struct Binary {
    /// As it was read: labels and whatever else there is stay.
    block: Box<[u8; LEN]>,
    /// Bytes of a copy with its metadata.
    pub size: u64,
    /// The higher one is believed.
    pub sequence: u64,
}

impl Binary {
    pub fn new(uuid: &str, size: u64) -> Self {
        let mut block = Box::new([0; LEN]);
        let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
        put(VERSION_AT, &VERSION.to_be_bytes());
        put(SIZE_AT, &size.to_be_bytes());
        put(CHECKSUM_ALG_AT, CHECKSUM_ALG);
        put(UUID_AT, uuid.as_bytes());
        Self { block, size, sequence: 0 }
    }

    /// Bytes that metadata may have; one more ends them.
    pub fn room(&self) -> u64 {
        self.size - LEN as u64 - 1
    }

    /// A copy with its metadata, which have room.
    pub fn copy(&self, which: Which, text: &[u8], random: Random<'_>) -> Vec<u8> {
        let mut bytes = vec![0; self.size as usize];
        bytes[..LEN].copy_from_slice(&*self.block);
        bytes[LEN..LEN + text.len()].copy_from_slice(text);
        // New with each copy, so that no two that say the same have one checksum.
        random(&mut bytes[SALT_AT..SALT_AT + SALT_LEN]);
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, which.magic());
        put(SEQUENCE_AT, &self.sequence.to_be_bytes());
        put(OFFSET_AT, &which.offset(self.size).to_be_bytes());
        put(CHECKSUM_AT, &[0; CHECKSUM_LEN]);
        let checksum = Hash::Sha256.digest(&[&bytes]);
        bytes[CHECKSUM_AT..CHECKSUM_AT + checksum.len()].copy_from_slice(&checksum);
        bytes
    }

    /// The copy at `offset` of an image, and its metadata, up to the byte that ends them.
    fn parse(bytes: &[u8], which: Which, offset: u64) -> Result<(Self, Vec<u8>), CryptoError> {
        let at = |field: usize| offset as usize + field;
        let bytes = bytes.get(offset as usize..).unwrap_or_default();
        let Some(block) = bytes.first_chunk::<LEN>() else {
            return Err(corrupt("length", at(0), bytes.len(), "4096 bytes at least"));
        };
        if !block.starts_with(which.magic()) {
            return Err(corrupt("magic", at(0), "other bytes", "'LUKS' or 'SKUL', 0xba, 0xbe"));
        }
        let version = u16::from_be_bytes(field(block, VERSION_AT));
        if version != VERSION {
            return Err(corrupt("version", at(VERSION_AT), version, "2"));
        }
        let size = u64::from_be_bytes(field(block, SIZE_AT));
        if !is_size(size) {
            let expected = "a power of two from 16384 to 4194304";
            return Err(corrupt("hdr_size", at(SIZE_AT), size, expected));
        }
        if u64::from_be_bytes(field(block, OFFSET_AT)) != offset || which.offset(size) != offset {
            return Err(corrupt("hdr_offset", at(OFFSET_AT), "another", "where the copy lies"));
        }
        if !block[CHECKSUM_ALG_AT..].starts_with(CHECKSUM_ALG) {
            return Err(CryptoError::Unsupported {
                what: "checksum of a luks2 header",
                found: String::from_utf8_lossy(&block[CHECKSUM_ALG_AT..CHECKSUM_ALG_AT + 8])
                    .trim_end_matches('\0')
                    .to_owned(),
                known: "sha256",
            });
        }
        let Some(whole) = bytes.get(..size as usize) else {
            return Err(corrupt("hdr_size", at(SIZE_AT), size, "no more than there is"));
        };
        let behind = CHECKSUM_AT + CHECKSUM_LEN;
        let blank = [0; CHECKSUM_LEN];
        let checksum = Hash::Sha256.digest(&[&whole[..CHECKSUM_AT], &blank, &whole[behind..]]);
        if !whole[CHECKSUM_AT..behind].starts_with(&checksum) {
            return Err(corrupt("csum", at(CHECKSUM_AT), "another", "that of header and metadata"));
        }
        let text = &whole[LEN..];
        let end = text.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| corrupt("json area", at(LEN), "no end", "a zero byte"))?;
        let sequence = u64::from_be_bytes(field(block, SEQUENCE_AT));
        Ok((Self { block: Box::new(*block), size, sequence }, text[..end].to_vec()))
    }
}

/// The copy with the higher number of those that are whole, and its metadata.
pub(super) fn better(bytes: &[u8]) -> Result<(Binary, Which, Vec<u8>), CryptoError> {
    let primary = Binary::parse(bytes, Which::Primary, 0);
    let secondary = match &primary {
        Ok((primary, _)) => Binary::parse(bytes, Which::Secondary, primary.size).ok(),
        Err(_) => {
            let copies = sizes().map(|size| Binary::parse(bytes, Which::Secondary, size));
            copies.filter_map(Result::ok).next()
        }
    };
    match (primary, secondary) {
        (Ok((primary, _)), Some((secondary, text))) if secondary.sequence > primary.sequence => {
            Ok((secondary, Which::Secondary, text))
        }
        (Ok((primary, text)), _) => Ok((primary, Which::Primary, text)),
        (Err(_), Some((secondary, text))) => Ok((secondary, Which::Secondary, text)),
        (Err(error), None) => Err(error),
    }
}

/// Whether a copy begins where one may.
pub(super) fn is_there(bytes: &[u8]) -> bool {
    let begins = |which: Which, at: u64| {
        let copy = bytes.get(at as usize..).unwrap_or_default();
        let version = copy.get(VERSION_AT..VERSION_AT + 2);
        copy.starts_with(which.magic()) && version == Some(&VERSION.to_be_bytes())
    };
    begins(Which::Primary, 0) || sizes().any(|size| begins(Which::Secondary, size))
}

/// How long the primary copy says that it is, if that may be.
pub(super) fn size_said(beginning: &[u8]) -> Option<u64> {
    let field = beginning.get(SIZE_AT..)?.first_chunk()?;
    let size = u64::from_be_bytes(*field);
    (beginning.starts_with(Which::Primary.magic()) && is_size(size)).then_some(size)
}

fn sizes() -> impl Iterator<Item = u64> {
    (0..).map(|doubled| SHORTEST << doubled).take_while(|size| *size <= LONGEST)
}

fn is_size(size: u64) -> bool {
    sizes().any(|possible| possible == size)
}

fn field<const N: usize>(block: &[u8; LEN], at: usize) -> [u8; N] {
    *block[at..].first_chunk().expect("fields-lie-in-the-header")
}
