//! The metadata in JSON: key slots, segments, digests.
//!
//! Source: LUKS2 3 ("LUKS2 JSON metadata"). Numbers that may need 64 bits are words of decimal digits there, and so are
//! the numbers of slots, segments and digests; bytes are in base64.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use blockyard_units::ByteRange;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::cost::Cost;
use super::{SLOTS, binary, corrupt};
use crate::error::CryptoError;
use crate::hash::Hash;
use crate::luks::{MAX_MATERIAL, STRIPES};
use crate::sector::{SECTOR, SECTOR_SIZES};
use crate::spec::{CipherSpec, Mode};

/// Bytes that the area of a slot may have: what is there is overwritten in one piece.
const MAX_AREA: u64 = 1 << 20;

/// The segment that holds the payload.
const PAYLOAD: Word<usize> = Word(0);

/// Metadata that were understood.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    pub keyslots: BTreeMap<Word<usize>, Keyslot>,
    segments: BTreeMap<Word<usize>, Segment>,
    pub digests: BTreeMap<Word<usize>, Digest>,
    config: Config,
}

/// A number in decimal digits, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word<T>(pub T);

/// Bytes in base64.
#[derive(Clone, Debug)]
pub(super) struct Bytes(pub Vec<u8>);

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Keyslot {
    key_size: usize,
    pub af: Af,
    pub area: Area,
    pub kdf: Kdf,
    /// 0: only if it is asked for; 1: as usual; 2: before others.
    priority: Option<u8>,
}

/// Anti-forensic splitting.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Af {
    #[serde(rename = "type")]
    kind: String,
    stripes: u32,
    hash: String,
}

/// Where key material lies, and how it is encrypted.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Area {
    #[serde(rename = "type")]
    kind: String,
    offset: Word<u64>,
    size: Word<u64>,
    encryption: String,
    key_size: usize,
}

/// How a key comes from a passphrase.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Kdf {
    #[serde(rename = "type")]
    pub kind: String,
    pub salt: Bytes,
    pub hash: Option<String>,
    pub iterations: Option<u32>,
    pub time: Option<u32>,
    pub memory: Option<u32>,
    pub cpus: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Segment {
    pub offset: Word<u64>,
    size: String,
    iv_tweak: Word<u64>,
    encryption: String,
    pub sector_size: u32,
    integrity: Option<Value>,
}

/// By which a key is known.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Digest {
    keyslots: Vec<Word<usize>>,
    segments: Vec<Word<usize>>,
    pub salt: Bytes,
    pub digest: Bytes,
    hash: String,
    pub iterations: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct Config {
    json_size: Word<u64>,
    keyslots_size: Word<u64>,
    requirements: Option<Requirements>,
}

#[derive(Clone, Debug, Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

impl<'de, T: core::str::FromStr> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        // One number has one word, so no two members of an object are the same.
        let number =
            word.parse().ok().filter(|_| digits && (word == "0" || !word.starts_with('0')));
        number.map(Self).ok_or_else(|| D::Error::custom(format!("'{word}' is no such number")))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Base64::decode_vec(&word).map(Self).map_err(|_| D::Error::custom("no base64"))
    }
}

/// The whole of it, and what is understood of it.
pub(super) fn parse(text: &[u8]) -> Result<(Value, Metadata), CryptoError> {
    let wrong = |error: serde_json::Error| corrupt("json area", binary::LEN, error, "metadata");
    let document: Value = serde_json::from_slice(text).map_err(wrong)?;
    // First: what it requires may be why the rest is not understood.
    let config = Config::deserialize(&document["config"]).map_err(wrong)?;
    if let Some(required) = config.requirements.iter().flat_map(|those| &those.mandatory).next() {
        return Err(unsupported("requirement", required, "none"));
    }
    let kinds = |key: &str| {
        let members = document[key].as_object().into_iter().flatten();
        members.map(|(_, member)| member["type"].as_str().unwrap_or_default())
    };
    for (key, known) in [("keyslots", "luks2"), ("segments", "crypt"), ("digests", "pbkdf2")] {
        if let Some(other) = kinds(key).find(|kind| *kind != known) {
            return Err(unsupported("type of one of the luks2 header's members", other, known));
        }
    }
    let metadata = Metadata::deserialize(&document).map_err(wrong)?;
    Ok((document, metadata))
}

fn unsupported(what: &'static str, found: &str, known: &'static str) -> CryptoError {
    CryptoError::Unsupported { what, found: found.into(), known }
}

/// What a word for name and mode says, as `aes-xts-plain64`.
fn cipher(word: &str, key_len: usize) -> Result<CipherSpec, CryptoError> {
    let (name, mode) = word.split_once('-').unwrap_or((word, ""));
    CipherSpec::from_words(name, mode, key_len)
}

impl Metadata {
    /// Checks every place, length and cost; the cipher of the payload. `size`: bytes of a copy of the header.
    pub fn check(&self, size: u64, space: u64, detached: bool) -> Result<CipherSpec, CryptoError> {
        let wrong = |field, found: String, expected| corrupt(field, binary::LEN, found, expected);
        let Config { json_size, keyslots_size, .. } = self.config;
        if json_size.0 != size - binary::LEN as u64 {
            let found = format!("{}", json_size.0);
            return Err(wrong("json_size", found, "what the header's size leaves"));
        }
        let room = self.room(size).filter(|room| room.end() <= space);
        let Some(room) = room else {
            let found = format!("{} behind {}, of {space}", keyslots_size.0, 2 * size);
            return Err(wrong("keyslots_size", found, "the image has that place"));
        };
        self.check_slots(room)?;
        self.check_segments(room, space, detached)
    }

    fn check_slots(&self, room: ByteRange) -> Result<(), CryptoError> {
        let wrong = |field, found: String, expected| corrupt(field, binary::LEN, found, expected);
        let mut taken: Vec<ByteRange> = Vec::new();
        for (Word(number), slot) in &self.keyslots {
            if *number >= SLOTS {
                return Err(wrong("keyslots", format!("slot {number}"), "slots 0 to 31"));
            }
            for (what, kind, known) in
                [("area", &slot.area.kind, "raw"), ("af", &slot.af.kind, "luks1")]
            {
                if kind != known {
                    return Err(unsupported(what, kind, known));
                }
            }
            if slot.af.stripes != STRIPES {
                return Err(wrong("stripes", format!("{}", slot.af.stripes), "4000"));
            }
            let place = slot.area.offset.0.checked_add(slot.area.size.0);
            let place = place.map(|end| ByteRange::between(slot.area.offset.0, end));
            let found = |place| format!("slot {number}: bytes {place}, of {room}");
            if slot.area.size.0 > MAX_AREA {
                let found = format!("slot {number}: {}", slot.area.size.0);
                return Err(wrong("keyslot area", found, "at most 1048576 bytes"));
            }
            let Some(place) =
                place.filter(|place| room.start() <= place.start() && place.end() <= room.end())
            else {
                let found =
                    format!("slot {number}: {} from {}", slot.area.size.0, slot.area.offset.0);
                return Err(wrong("keyslot area", found, "behind the headers, in keyslots_size"));
            };
            // The length of the key is judged with the cipher, so it is bounded as well.
            slot.area_cipher()?;
            let len = slot.key_size.saturating_mul(STRIPES as usize) as u64;
            if slot.key_size == 0 || len > MAX_MATERIAL || len > place.len().0 {
                return Err(wrong("keyslot key_size", found(place), "the area holds its stripes"));
            }
            if !len.is_multiple_of(SECTOR as u64) {
                return Err(wrong("keyslot key_size", found(place), "stripes of whole sectors"));
            }
            slot.hash()?;
            if taken.iter().any(|other| other.overlaps(&place)) {
                return Err(wrong("keyslot area", found(place), "a place of its own"));
            }
            taken.push(place);
        }
        for digest in self.digests.values() {
            digest.cost()?.check()?;
        }
        self.check_costs()
    }

    /// Refuses slots that nobody would wait for.
    pub fn check_costs(&self) -> Result<(), CryptoError> {
        // Whoever tries a slot compares what it comes to with the digest.
        let digest = self.digest().map(|(_, digest)| digest.cost()).transpose()?;
        let mut costs = Vec::new();
        for (_, slot) in self.bound() {
            costs.push(Cost::of(&slot.kdf)?);
            costs.extend(digest);
        }
        Cost::check_all(costs.into_iter())
    }

    fn check_segments(
        &self,
        room: ByteRange,
        space: u64,
        detached: bool,
    ) -> Result<CipherSpec, CryptoError> {
        let wrong = |field, found: String, expected| corrupt(field, binary::LEN, found, expected);
        if self.segments.len() != 1 || !self.segments.contains_key(&PAYLOAD) {
            let found = format!("{}", self.segments.len());
            return Err(unsupported("number of segments", &found, "one, segment 0"));
        }
        let segment = self.segment();
        let size = segment.sector_size as usize;
        for (what, wrong, found, known) in [
            ("size of a segment", segment.size != "dynamic", segment.size.clone(), "dynamic"),
            ("iv_tweak", segment.iv_tweak.0 != 0, format!("{}", segment.iv_tweak.0), "0"),
            ("integrity", segment.integrity.is_some(), "of a segment".into(), "none"),
            ("sector_size", !SECTOR_SIZES.contains(&size), format!("{size}"), "512 to 4096"),
        ] {
            if wrong {
                return Err(unsupported(what, &found, known));
            }
        }
        let offset = segment.offset.0;
        let behind = detached || (offset >= room.end() && offset <= space);
        if !behind || !offset.is_multiple_of(size as u64) {
            let found = format!("{offset}, of {space}");
            return Err(wrong("segment offset", found, "sectors behind the key slots"));
        }
        let Some((number, digest)) = self.digest() else {
            return Err(wrong("digests", "none".into(), "one for segment 0"));
        };
        if digest.digest.0.is_empty() || digest.digest.0.len() > 64 {
            return Err(wrong("digest", format!("digest {number}"), "1 to 64 bytes"));
        }
        // The keys of its slots are its own.
        let mut lens = self.bound().map(|(_, slot)| slot.key_size);
        let len = lens.next();
        if lens.any(|other| Some(other) != len) {
            return Err(wrong("keyslot key_size", "several".into(), "one for a segment"));
        }
        // Without a slot nobody has a key; one of this length is possible in each mode.
        let spec = cipher(&segment.encryption, len.unwrap_or(32))?;
        if size > SECTOR && spec.mode() != Mode::Xts {
            return Err(unsupported("sectors of more than 512 bytes in mode", "cbc", "xts"));
        }
        Ok(spec)
    }

    /// The bytes that hold areas of key material, behind both copies of the header.
    pub fn room(&self, size: u64) -> Option<ByteRange> {
        let end = (2 * size).checked_add(self.config.keyslots_size.0)?;
        Some(ByteRange::between(2 * size, end))
    }

    /// That of the payload.
    pub fn segment(&self) -> &Segment {
        self.segments.get(&PAYLOAD).expect("a-checked-header-has-its-segment")
    }

    /// By which the payload's key is known.
    pub fn digest(&self) -> Option<(usize, &Digest)> {
        let mut digests = self.digests.iter();
        let found = digests.find(|(_, digest)| digest.segments.contains(&PAYLOAD));
        found.map(|(number, digest)| (number.0, digest))
    }

    /// The slots with the payload's key.
    pub fn bound(&self) -> impl Iterator<Item = (usize, &Keyslot)> {
        let bound = self.digest().map(|(_, digest)| &digest.keyslots);
        let is_bound =
            move |number: &Word<usize>| bound.is_some_and(|bound| bound.contains(number));
        self.keyslots
            .iter()
            .filter(move |(number, _)| is_bound(number))
            .map(|(n, slot)| (n.0, slot))
    }

    /// Those of them that are tried, the preferred ones first, and where their key material lies. `all`: also those
    /// that are not tried unless somebody asks for them.
    pub fn tried(&self, all: bool) -> Vec<(usize, ByteRange)> {
        let mut tried: Vec<_> =
            self.bound().filter(|(_, slot)| all || slot.priority != Some(0)).collect();
        tried.sort_by_key(|(number, slot)| (slot.priority != Some(2), *number));
        tried.into_iter().map(|(number, slot)| (number, slot.material())).collect()
    }

    /// The whole areas that slots have.
    pub fn areas(&self) -> impl Iterator<Item = ByteRange> {
        self.keyslots.values().map(|slot| slot.area_place())
    }
}

impl Keyslot {
    pub fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes that the encrypted stripes have of the area.
    pub fn material(&self) -> ByteRange {
        ByteRange::new(self.area.offset.0, (self.key_size * STRIPES as usize) as u64)
    }

    pub fn area_place(&self) -> ByteRange {
        ByteRange::new(self.area.offset.0, self.area.size.0)
    }

    /// The cipher of its key material.
    pub fn area_cipher(&self) -> Result<CipherSpec, CryptoError> {
        cipher(&self.area.encryption, self.area.key_size)
    }

    /// The hash by which the key is split.
    pub fn hash(&self) -> Result<Hash, CryptoError> {
        Hash::named(&self.af.hash)
    }
}

impl Digest {
    pub fn cost(&self) -> Result<Cost, CryptoError> {
        Ok(Cost::Pbkdf2 { hash: Hash::named(&self.hash)?, iterations: self.iterations })
    }
}
