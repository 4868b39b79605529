//! Passphrases that come and go while an image is in use.
//!
//! Source: LUKS2 5.2 and 5.3 for what is written in which order. Differs: a slot that is replaced gets another area,
//! and the old one is overwritten when nobody points there any more, so that one of the two passphrases opens the
//! image at any moment; a further slot costs and is encrypted as the one that opened the image.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use blockyard_units::ByteRange;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cost::Cost;
use super::metadata::{Keyslot, Metadata, Word};
use super::slots::area_cipher;
use super::{ALIGNMENT, Luks2, SLOTS};
use crate::error::CryptoError;
use crate::hash::Hash;
use crate::luks::STRIPES;
use crate::pieces::Pause;
use crate::secret::MasterKey;
use crate::slots::{Opened, Random, SlotChange, Step, check_slot, gone, place, refuse};
use crate::spec::CipherSpec;
use crate::split;

const SALT_LEN: usize = 32;

/// How a slot is made, but for its place.
pub(super) struct Form {
    pub cost: Cost,
    /// By which the key is split.
    pub hash: Hash,
    /// Of the key material.
    pub cipher: CipherSpec,
}

impl Luks2 {
    /// What is to be written, one after another. `opened`: the slots that the given passphrase opens.
    ///
    /// # Yields
    /// `pause`, between pieces.
    pub(crate) async fn amend(
        &self,
        change: &SlotChange,
        opened: &[Opened],
        random: Random<'_>,
        pause: Pause,
    ) -> Result<Vec<Step>, CryptoError> {
        match change {
            SlotChange::Add { slot, new, iterations, force, .. } => {
                let (by, key) = opened.first().expect("who-adds-has-opened");
                let form = self.form_of(*by, *iterations)?;
                self.add_slot(*slot, *force, key, new.bytes(), &form, random, pause).await
            }
            SlotChange::Erase { slot, old, force } => {
                let opened = old.as_ref().map(|_| opened);
                // Without these it is not opened any more.
                let enabled: Vec<usize> =
                    self.key_materials(false).into_iter().map(|(number, _)| number).collect();
                let gone = gone(*slot, opened, &enabled, *force)?;
                self.erase_slots(&gone, random)
            }
        }
    }

    fn form_of(&self, slot: usize, iterations: u32) -> Result<Form, CryptoError> {
        let keyslot = &self.metadata.keyslots[&Word(slot)];
        let cost = match Cost::of(&keyslot.kdf)? {
            Cost::Pbkdf2 { hash, .. } => Cost::Pbkdf2 { hash, iterations },
            argon2 @ Cost::Argon2 { .. } => argon2,
        };
        Ok(Form { cost, hash: keyslot.hash()?, cipher: keyslot.area_cipher()? })
    }

    /// Lets a further passphrase open the image; in place of another's by force.
    #[expect(clippy::too_many_arguments, reason = "the key, its passphrase, and where from")]
    pub(super) async fn add_slot(
        &self,
        slot: Option<usize>,
        force: bool,
        key: &MasterKey,
        passphrase: &[u8],
        form: &Form,
        random: Random<'_>,
        pause: Pause,
    ) -> Result<Vec<Step>, CryptoError> {
        form.cost.check()?;
        let taken = |number: usize| self.metadata.keyslots.get(&Word(number));
        let may_go = |number: usize| force && slot == Some(number);
        let number = place(slot, SLOTS, |number| taken(number).is_none() || may_go(number))?;
        let mut salt = [0; SALT_LEN];
        random(&mut salt);
        let len = (key.0.len() * STRIPES as usize) as u64;
        let area = self.free_area(len.next_multiple_of(ALIGNMENT))?;
        let described = described(key.0.len(), area, form, &salt);
        let keyslot = Keyslot::deserialize(&described).expect("a-slot-that-is-made-can-be-read");
        let mut document = self.document.clone();
        without_slot(&mut document, number);
        document["keyslots"][number.to_string()] = described;
        let (digest, _) = self.metadata.digest().expect("a-checked-header-has-its-digest");
        if let Value::Array(slots) = &mut document["digests"][digest.to_string()]["keyslots"] {
            slots.push(number.to_string().into());
        }
        // Before anybody waits for a key.
        let header = self.header_steps(document, random)?;
        let mut material = split::split(form.hash, &key.0, STRIPES as usize, random);
        let cipher = area_cipher(&keyslot, form.cost, &salt, passphrase, pause).await?;
        cipher.encrypt(0, &mut material);
        let mut steps = vec![Step { offset: area.start(), bytes: material.to_vec() }];
        steps.extend(header);
        steps.extend(taken(number).map(|old| overwritten(old.area_place(), random)));
        Ok(steps)
    }

    /// The key material goes first: a header that still names it opens nothing.
    fn erase_slots(&self, gone: &[usize], random: Random<'_>) -> Result<Vec<Step>, CryptoError> {
        let mut document = self.document.clone();
        let mut steps = Vec::new();
        for &number in gone {
            check_slot(number, SLOTS)?;
            let Some(keyslot) = self.metadata.keyslots.get(&Word(number)) else {
                return refuse(alloc::format!("slot {number} is not in use"));
            };
            steps.push(overwritten(keyslot.area_place(), random));
            without_slot(&mut document, number);
        }
        steps.extend(self.header_steps(document, random)?);
        Ok(steps)
    }

    /// Both copies, the one that is believed now as the last.
    fn header_steps(&self, document: Value, random: Random<'_>) -> Result<Vec<Step>, CryptoError> {
        let text = document.to_string().into_bytes();
        let mut binary = self.binary.clone();
        if text.len() as u64 > binary.room() {
            return refuse("there is no room for another key slot in the header".into());
        }
        let next = Metadata::deserialize(&document);
        next.expect("metadata-that-are-made-can-be-read").check_costs()?;
        binary.sequence = binary.sequence.saturating_add(1);
        let mut step = |which| Step {
            offset: super::binary::Which::offset(which, binary.size),
            bytes: binary.copy(which, &text, &mut *random),
        };
        Ok(vec![step(self.used.other()), step(self.used)])
    }

    /// A place for that much key material.
    fn free_area(&self, len: u64) -> Result<ByteRange, CryptoError> {
        let room = self.metadata.room(self.binary.size).expect("a-checked-header-has-its-room");
        let mut areas: Vec<ByteRange> = self.metadata.areas().collect();
        areas.sort_by_key(ByteRange::start);
        let mut start = room.start();
        for area in areas {
            if area.start() >= start + len {
                break;
            }
            start = start.max(area.end().next_multiple_of(ALIGNMENT));
        }
        if start + len > room.end() {
            return refuse("there is no room for the key material of another slot".into());
        }
        Ok(ByteRange::new(start, len))
    }
}

fn overwritten(place: ByteRange, random: Random<'_>) -> Step {
    let mut bytes = vec![0; place.len().as_usize()];
    random(&mut bytes);
    Step { offset: place.start(), bytes }
}

/// Takes a slot out, and whatever names it.
fn without_slot(document: &mut Value, number: usize) {
    let word = number.to_string();
    if let Some(slots) = document["keyslots"].as_object_mut() {
        slots.remove(&word);
    }
    for key in ["digests", "tokens"] {
        let all = document.get_mut(key).and_then(Value::as_object_mut);
        for member in all.into_iter().flat_map(|all| all.values_mut()) {
            if let Some(slots) = member.get_mut("keyslots").and_then(Value::as_array_mut) {
                slots.retain(|slot| slot.as_str() != Some(&word));
            }
        }
    }
}

/// A slot as the metadata describe it.
fn described(key_size: usize, area: ByteRange, form: &Form, salt: &[u8]) -> Value {
    let salt: String = Base64::encode_string(salt);
    let kdf = match form.cost {
        Cost::Pbkdf2 { hash, iterations } => {
            json!({"type": "pbkdf2", "hash": hash.word(), "iterations": iterations, "salt": salt})
        }
        Cost::Argon2 { id, time, memory, lanes } => {
            let kind = if id { "argon2id" } else { "argon2i" };
            json!({"type": kind, "time": time, "memory": memory, "cpus": lanes, "salt": salt})
        }
    };
    json!({
        "type": "luks2",
        "key_size": key_size,
        "af": {"type": "luks1", "stripes": STRIPES, "hash": form.hash.word()},
        "area": {
            "type": "raw",
            "offset": area.start().to_string(),
            "size": area.len().0.to_string(),
            "encryption": form.cipher.words(),
            "key_size": form.cipher.key_len(),
        },
        "kdf": kdf,
    })
}
