//! The header's fields, read and written.
//!
//! Source: LUKS 2.1 ("The partition header"), with the offsets of its figures 2 and 3. Numbers are big-endian, words
//! end with a zero byte, positions are counted in sectors of 512 bytes.
//! Differs: what stands behind a word's end is not kept.

use alloc::format;
use alloc::string::{String, ToString};

use blockyard_units::ByteRange;

use super::{MAX_ITERATIONS, MAX_TRIED, SLOTS, STRIPES};
use crate::error::CryptoError;
use crate::hash::Hash;
use crate::sector::SECTOR;
use crate::spec::{CIPHER_NAME, CipherSpec};

const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
const VERSION: u16 = 1;
const CIPHER_NAME_AT: usize = 8;
const CIPHER_MODE_AT: usize = 40;
const HASH_AT: usize = 72;
const WORD_LEN: usize = 32;
const PAYLOAD_AT: usize = 104;
const KEY_LEN_AT: usize = 108;
const DIGEST_AT: usize = 112;
const DIGEST_SALT_AT: usize = 132;
const DIGEST_ITERATIONS_AT: usize = 164;
const UUID_AT: usize = 168;
const UUID_LEN: usize = 40;
const SLOTS_AT: usize = 208;
const SLOT_LEN: usize = 48;
const ENABLED: u32 = 0x00AC_71F3;
const DISABLED: u32 = 0x0000_DEAD;

/// Bytes of a digest of the master key (LUKS 2.1, LUKS_DIGESTSIZE).
pub(super) const DIGEST_LEN: usize = 20;
/// Bytes of a salt (LUKS 2.1, LUKS_SALTSIZE).
pub(super) const SALT_LEN: usize = 32;

/// How many rounds keys are derived with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iterations {
    /// From the passphrase of a slot.
    pub slot: u32,
    /// For the digest of the master key.
    pub digest: u32,
}

/// A header that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) cipher: CipherSpec,
    pub(super) hash: Hash,
    /// In sectors.
    pub(super) payload: u32,
    pub(super) digest: [u8; DIGEST_LEN],
    pub(super) digest_salt: [u8; SALT_LEN],
    pub(super) digest_iterations: u32,
    pub(super) uuid: String,
    pub(super) slots: [Slot; SLOTS],
}

/// Where one passphrase opens the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub enabled: bool,
    pub iterations: u32,
    pub salt: [u8; SALT_LEN],
    /// In sectors.
    pub material: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 592;

    /// Reads and checks the header at the start of `bytes`, of an image or a space of `space` bytes that holds the
    /// header, all key material and the beginning of the payload.
    ///
    /// # Errors
    /// It is no such header, a field is wrong, or it asks for what is not implemented.
    pub fn parse(bytes: &[u8], space: u64) -> Result<Self, CryptoError> {
        Self::parse_of(bytes, space, false)
    }

    /// The same of a header whose payload is elsewhere: `space` holds the header and all key material.
    ///
    /// # Errors
    /// The same.
    pub fn parse_detached(bytes: &[u8], space: u64) -> Result<Self, CryptoError> {
        Self::parse_of(bytes, space, true)
    }

    /// The same for a payload that begins at the start of another place.
    pub fn detached(self) -> Self {
        Self { payload: 0, ..self }
    }

    fn parse_of(bytes: &[u8], space: u64, detached: bool) -> Result<Self, CryptoError> {
        let Some(bytes) = bytes.first_chunk::<{ Self::LEN }>() else {
            let found = format!("{} bytes", bytes.len());
            return Err(corrupt("length", 0, found, "592 bytes at least"));
        };
        if bytes[..MAGIC.len()] != MAGIC {
            return Err(corrupt("magic", 0, "other bytes".into(), "'LUKS', 0xba, 0xbe"));
        }
        let version = u16::from_be_bytes(array(bytes, MAGIC.len()));
        if version != VERSION {
            return Err(CryptoError::Unsupported {
                what: "luks version",
                found: version.to_string(),
                known: "1",
            });
        }
        let name = word(bytes, "cipher-name", CIPHER_NAME_AT, WORD_LEN)?;
        let mode = word(bytes, "cipher-mode", CIPHER_MODE_AT, WORD_LEN)?;
        // The length of the key is judged with the cipher, so it is bounded as well.
        let key_len = usize::try_from(number(bytes, KEY_LEN_AT)).unwrap_or(usize::MAX);
        let header = Self {
            cipher: CipherSpec::from_words(name, mode, key_len)?,
            hash: Hash::named(word(bytes, "hash-spec", HASH_AT, WORD_LEN)?)?,
            payload: number(bytes, PAYLOAD_AT),
            digest: array(bytes, DIGEST_AT),
            digest_salt: array(bytes, DIGEST_SALT_AT),
            digest_iterations: iterations(bytes, "mk-digest-iter", DIGEST_ITERATIONS_AT)?,
            uuid: word(bytes, "uuid", UUID_AT, UUID_LEN)?.into(),
            slots: slots(bytes)?,
        };
        header.check_places(space, detached)?;
        header.check_work()?;
        Ok(header)
    }

    /// Header, key material and payload follow each other, and do not overlap.
    fn check_places(&self, space: u64, detached: bool) -> Result<(), CryptoError> {
        let payload = if detached { space } else { self.payload_offset() };
        if payload > space {
            let found = format!("byte {payload} of {space}");
            return Err(corrupt("payload-offset", PAYLOAD_AT, found, "the image has that place"));
        }
        for index in 0..SLOTS {
            let place = self.key_material(index);
            let (at, expected) = (slot_at(index) + 40, "between header and payload");
            if place.start() < Self::LEN as u64 || place.end() > payload {
                let found = format!("bytes {place}, payload at {payload}");
                return Err(corrupt("key-material-offset", at, found, expected));
            }
            let other = (0..index).find(|other| self.key_material(*other).overlaps(&place));
            if let Some(other) = other {
                let found = format!("bytes {place}, which slot {other} has");
                return Err(corrupt("key-material-offset", at, found, "a place of its own"));
            }
        }
        Ok(())
    }

    /// Every slot in use is tried with its own rounds, and then with those of the digest.
    pub(super) fn check_work(&self) -> Result<(), CryptoError> {
        let digest = u64::from(self.digest_iterations);
        let tried =
            self.enabled_slots().map(|slot| u64::from(self.slots[slot].iterations) + digest);
        let tried: u64 = tried.sum();
        if tried <= MAX_TRIED {
            return Ok(());
        }
        let expected = "at most 134217728 in all slots in use, each with those of the digest";
        Err(corrupt("iterations", SLOTS_AT + 4, tried.to_string(), expected))
    }

    /// The bytes that stand for it.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(MAGIC.len(), &VERSION.to_be_bytes());
        put(CIPHER_NAME_AT, CIPHER_NAME.as_bytes());
        put(CIPHER_MODE_AT, self.cipher.mode_word().as_bytes());
        put(HASH_AT, self.hash.word().as_bytes());
        put(PAYLOAD_AT, &self.payload.to_be_bytes());
        put(KEY_LEN_AT, &(self.cipher.key_len() as u32).to_be_bytes());
        put(DIGEST_AT, &self.digest);
        put(DIGEST_SALT_AT, &self.digest_salt);
        put(DIGEST_ITERATIONS_AT, &self.digest_iterations.to_be_bytes());
        put(UUID_AT, self.uuid.as_bytes());
        for (index, slot) in self.slots.iter().enumerate() {
            let at = slot_at(index);
            let state = if slot.enabled { ENABLED } else { DISABLED };
            put(at, &state.to_be_bytes());
            put(at + 4, &slot.iterations.to_be_bytes());
            put(at + 8, &slot.salt);
            put(at + 40, &slot.material.to_be_bytes());
            put(at + 44, &STRIPES.to_be_bytes());
        }
        bytes
    }

    /// Bytes from the start of the header to that of the payload.
    pub fn payload_offset(&self) -> u64 {
        u64::from(self.payload) * SECTOR as u64
    }

    /// Bytes from the start of the header to the end of all key material.
    pub fn end(&self) -> u64 {
        let ends = (0..SLOTS).map(|slot| self.key_material(slot).end());
        ends.max().expect("slots-are-eight")
    }

    /// Where the key material of a slot lies, in bytes from the start of the header; up to
    /// [`MAX_MATERIAL`](super::MAX_MATERIAL) bytes.
    ///
    /// # Panics
    /// `slots-are-eight`
    pub fn key_material(&self, slot: usize) -> ByteRange {
        let start = u64::from(self.slot(slot).material) * SECTOR as u64;
        ByteRange::new(start, (self.cipher.key_len() * STRIPES as usize) as u64)
    }

    pub(super) fn slot(&self, slot: usize) -> &Slot {
        self.slots.get(slot).unwrap_or_else(|| panic!("slots-are-eight: {slot}"))
    }

    /// The slots that a passphrase may open.
    pub fn enabled_slots(&self) -> impl Iterator<Item = usize> {
        (0..SLOTS).filter(|slot| self.slots[*slot].enabled)
    }

    /// The cipher.
    pub fn cipher(&self) -> &CipherSpec {
        &self.cipher
    }

    /// The hash by which keys are derived and split.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The image's id, for people.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }
}

fn slot_at(index: usize) -> usize {
    SLOTS_AT + index * SLOT_LEN
}

fn slots(bytes: &[u8; Header::LEN]) -> Result<[Slot; SLOTS], CryptoError> {
    let mut slots = [Slot::default(); SLOTS];
    for (index, slot) in slots.iter_mut().enumerate() {
        let at = slot_at(index);
        let state = number(bytes, at);
        if ![ENABLED, DISABLED].contains(&state) {
            let found = format!("{state:#010x}");
            return Err(corrupt("key slot state", at, found, "0x00ac71f3 or 0x0000dead"));
        }
        let stripes = number(bytes, at + 44);
        if stripes != STRIPES {
            return Err(corrupt("stripes", at + 44, stripes.to_string(), "4000"));
        }
        slot.enabled = state == ENABLED;
        slot.iterations = match slot.enabled {
            true => iterations(bytes, "iterations", at + 4)?,
            false => number(bytes, at + 4),
        };
        slot.salt = array(bytes, at + 8);
        slot.material = number(bytes, at + 40);
    }
    Ok(slots)
}

fn corrupt(
    field: &'static str,
    offset: usize,
    found: String,
    expected: &'static str,
) -> CryptoError {
    CryptoError::Corrupt { field, offset, found, expected }
}

fn array<const N: usize>(bytes: &[u8; Header::LEN], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("fields-lie-in-the-header")
}

fn number(bytes: &[u8; Header::LEN], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

fn iterations(
    bytes: &[u8; Header::LEN],
    field: &'static str,
    at: usize,
) -> Result<u32, CryptoError> {
    let rounds = number(bytes, at);
    if (1..=MAX_ITERATIONS).contains(&rounds) {
        return Ok(rounds);
    }
    Err(corrupt(field, at, rounds.to_string(), "from 1 to 67108864"))
}

fn word<'a>(
    bytes: &'a [u8; Header::LEN],
    field: &'static str,
    at: usize,
    len: usize,
) -> Result<&'a str, CryptoError> {
    let bytes = &bytes[at..at + len];
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = end.and_then(|end| core::str::from_utf8(&bytes[..end]).ok());
    let printable = text.filter(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    printable.ok_or_else(|| corrupt(field, at, "other bytes".into(), "text and a zero byte"))
}
