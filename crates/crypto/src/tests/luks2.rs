//! LUKS2: passphrases that come and go, writes that are torn, headers that somebody made to do harm.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::numbers;
use crate::pieces::at_once;
use crate::{
    CipherSpec, Cost, Hash, Luks2, Luks2Options, Materials, Secret, SlotChange, Step, Volume,
};

const FEW: Cost = Cost::Pbkdf2 { hash: Hash::Sha256, iterations: 2 };
const ARGON: Cost = Cost::Argon2 { id: true, time: 1, memory: 32, lanes: 2 };
/// Room for three slots with a short key.
const ROOM: u64 = 3 * (64 << 10);
const HEADERS: usize = 32 << 10;
const PAYLOAD: usize = HEADERS + ROOM as usize;

fn options() -> Luks2Options {
    let cipher = CipherSpec::from_words("aes", "cbc-essiv:sha256", 16);
    Luks2Options {
        cipher: cipher.expect("it is known"),
        sector_size: 512,
        hash: Hash::Sha256,
        cost: FEW,
        digest_iterations: 2,
        keyslots_size: ROOM,
        detached: false,
    }
}

#[derive(Clone)]
struct Image(Vec<u8>);

impl Image {
    fn new(options: &Luks2Options) -> Self {
        let mut random = numbers(1);
        let made = Luks2::create(options, b"first", &mut random);
        let mut image = Self(vec![0; options.payload_offset() as usize]);
        made.expect("the options are fine").0.iter().for_each(|step| image.write(step));
        image
    }

    fn write(&mut self, step: &Step) {
        self.0[step.offset as usize..][..step.bytes.len()].copy_from_slice(&step.bytes);
    }

    fn volume(&self) -> Result<Volume, String> {
        let wanted = Volume::wanted(&self.0[..4096]).min(self.0.len() as u64) as usize;
        let parsed = Volume::parse(&self.0[..wanted], self.0.len() as u64, false);
        parsed.map_err(|error| error.to_string())
    }

    fn header(&self) -> Luks2 {
        match self.volume().expect("what was written is fine") {
            Volume::V2(header) => *header,
            Volume::V1(_) => panic!("another version"),
        }
    }

    fn materials(&self, volume: &Volume) -> Materials {
        let places = volume.key_materials(true).into_iter();
        let of = |start: u64, end: u64| self.0[start as usize..end as usize].to_vec();
        places.map(|(slot, place)| (slot, of(place.start(), place.end()))).collect()
    }

    /// The slots that a passphrase opens.
    fn slots(&self, passphrase: &str) -> Vec<usize> {
        let volume = self.volume().expect("what was written is fine");
        let opens = |slot, material: &[u8]| {
            let passphrase = passphrase.as_bytes();
            let tried = at_once(|pause| volume.unlock_in_pieces(slot, passphrase, material, pause));
            tried.expect("the length is right").is_some()
        };
        let materials = self.materials(&volume).into_iter();
        materials.filter(|(slot, material)| opens(*slot, material)).map(|(slot, _)| slot).collect()
    }

    fn steps(&self, change: &SlotChange) -> Result<Vec<Step>, String> {
        let volume = self.volume()?;
        let (materials, mut random) = (self.materials(&volume), numbers(2));
        let amended = at_once(|pause| volume.amend(change, &materials, &mut random, pause));
        amended.map_err(|error| error.to_string())
    }

    fn amend(&mut self, change: &SlotChange) -> Result<(), String> {
        self.steps(change)?.iter().for_each(|step| self.write(step));
        Ok(())
    }
}

fn secret(text: &str) -> Arc<Secret> {
    Arc::new(Secret::new(text.as_bytes().into()))
}

fn add(slot: Option<usize>, new: &str, opens: &str, force: bool) -> SlotChange {
    let (new, opens) = (secret(new), secret(opens));
    SlotChange::Add { slot, new, opens, iterations: 3, force }
}

fn erase(slot: Option<usize>, old: Option<&str>, force: bool) -> SlotChange {
    SlotChange::Erase { slot, old: old.map(secret), force }
}

#[test]
fn a_new_image_is_opened_by_its_passphrase_alone() {
    for (words, key_len, sector_size, cost) in [
        ("xts-plain64", 64, 4096, ARGON),
        ("xts-plain64", 32, 512, FEW),
        ("cbc-essiv:sha256", 32, 512, Cost::Pbkdf2 { hash: Hash::Sha512, iterations: 9 }),
    ] {
        let cipher = CipherSpec::from_words("aes", words, key_len).expect("it is known");
        let keyslots_size = 256 << 10;
        let image =
            Image::new(&Luks2Options { cipher, sector_size, cost, keyslots_size, ..options() });
        assert_eq!(image.slots("first"), [0], "{words}");
        assert!(image.slots("First").is_empty(), "{words}");
        let header = image.header();
        assert_eq!(header.payload_offset(), (HEADERS as u64) + keyslots_size);
        assert_eq!((header.sector_size(), header.cipher()), (sector_size, &cipher));
    }
}

#[test]
fn passphrases_come_and_go() {
    let mut image = Image::new(&options());
    let said = |result: Result<(), String>| result.expect_err("it is refused");
    image.amend(&add(None, "second", "first", false)).expect("there is room");
    image.amend(&add(Some(31), "third", "second", false)).expect("there is room");
    assert_eq!((image.slots("second"), image.slots("third")), (vec![1], vec![31]));
    let full = said(image.amend(&add(None, "fourth", "first", false)));
    assert_eq!(full, "refused: there is no room for the key material of another slot");
    let taken = said(image.amend(&add(Some(31), "fourth", "first", false)));
    assert_eq!(taken, "refused: slot 31 is in use; erase a passphrase first");
    let none = said(image.amend(&add(Some(32), "fourth", "first", false)));
    assert_eq!(none, "refused: there is no slot 32; there are slots 0 to 31");
    let wrong = said(image.amend(&add(None, "fourth", "Fourth", false)));
    assert_eq!(wrong, "refused: the passphrase opens none of the key slots");
    image.amend(&erase(None, Some("first"), false)).expect("others are left");
    image.amend(&erase(Some(31), None, false)).expect("another is left");
    assert_eq!((image.slots("first"), image.slots("second")), (vec![], vec![1]));
    let last = said(image.amend(&erase(None, Some("second"), false)));
    assert!(last.contains("the data are lost"), "{last}");
    let unused = said(image.amend(&erase(Some(7), None, false)));
    assert_eq!(unused, "refused: slot 7 is not in use");
    image.amend(&add(Some(1), "fourth", "second", true)).expect("by force");
    assert_eq!((image.slots("second"), image.slots("fourth")), (vec![], vec![1]));
    image.amend(&erase(Some(1), Some("fourth"), true)).expect("by force");
    assert!(image.slots("fourth").is_empty());
}

/// Key material that was given up is nowhere, whichever header names it.
#[test]
fn an_old_header_opens_nothing_by_a_slot_that_is_gone() {
    let mut image = Image::new(&options());
    image.amend(&add(None, "second", "first", false)).expect("there is room");
    let before = image.0[..HEADERS].to_vec();
    image.amend(&erase(None, Some("first"), false)).expect("another is left");
    image.amend(&add(Some(1), "third", "second", true)).expect("by force");
    image.0[..HEADERS].copy_from_slice(&before);
    assert!(image.slots("first").is_empty() && image.slots("second").is_empty());
}

/// A power loss leaves some steps done, one of them in part, sector by sector in any order, and the rest undone.
#[test]
fn a_change_that_is_torn_leaves_the_image_open_to_who_stays() {
    let both = {
        let mut image = Image::new(&options());
        image.amend(&add(None, "second", "first", false)).expect("there is room");
        image
    };
    let damaged = |copy: usize| {
        let mut image = both.clone();
        image.0[copy * HEADERS / 2 + 5000] ^= 1;
        image
    };
    let starts = [both.clone(), damaged(0), damaged(1)];
    let replaced = add(Some(1), "third", "first", true);
    for (change, stays, comes) in [
        (add(None, "third", "first", false), ["first", "second"].as_slice(), Some("third")),
        (erase(None, Some("first"), false), &["second"], None),
        (replaced, &["first"], Some("third")),
    ] {
        for (index, start) in starts.iter().enumerate() {
            let steps = start.steps(&change).expect("it is allowed");
            let mut image = start.clone();
            for step in &steps {
                let mut random = numbers(step.offset);
                for _ in 0..20 {
                    let mut torn = image.clone();
                    for (number, sector) in step.bytes.chunks(512).enumerate() {
                        let mut drawn = [0];
                        random(&mut drawn);
                        if drawn[0] & 1 == 1 {
                            let at = step.offset as usize + number * 512;
                            torn.0[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                    for passphrase in stays {
                        assert!(!torn.slots(passphrase).is_empty(), "{index}: {passphrase}");
                    }
                    let one =
                        ["second", "third"].into_iter().any(|one| !torn.slots(one).is_empty());
                    assert!(one, "{index}: neither the old nor the new one");
                }
                image.write(step);
            }
            assert!(comes.is_none_or(|comes| !image.slots(comes).is_empty()), "{index}");
            // And both copies are whole again.
            for copy in 0..2 {
                let mut one = image.clone();
                one.0[copy * HEADERS / 2..][..HEADERS / 2].fill(0);
                assert!(stays.iter().all(|stays| !one.slots(stays).is_empty()), "{index}");
            }
        }
    }
}

#[test]
fn what_is_not_understood_stays_and_the_number_rises() {
    let mut image = Image::new(&options());
    let tokens = r#""tokens":{"0":{"type":"another","keyslots":["0"],"deep":{"er":[1,"2",null]}}}"#;
    rewrite(&mut image, |text| text.replace(r#""tokens":{}"#, tokens));
    let before = image.header().sequence();
    image.amend(&add(None, "second", "first", false)).expect("there is room");
    let text = text_of(&image);
    assert!(text.contains(r#""deep":{"er":[1,"2",null]}"#), "{text}");
    assert_eq!(image.header().sequence(), before + 1);
    image.amend(&erase(None, Some("first"), false)).expect("another is left");
    assert!(text_of(&image).contains(r#""keyslots":[],"type":"another""#), "{}", text_of(&image));
}

#[test]
fn tokens_that_are_odd_stay_as_they_are() {
    for odd in [r#""tokens":{"0":5,"1":{"type":"x"}}"#, r#""tokens":[1]"#] {
        let mut image = Image::new(&options());
        rewrite(&mut image, |text| text.replace(r#""tokens":{}"#, odd));
        image.amend(&add(None, "second", "first", false)).expect("there is room");
        image.amend(&erase(None, Some("first"), false)).expect("another is left");
        assert!(text_of(&image).contains(odd), "{}", text_of(&image));
    }
}

/// Slots that are not tried when the image is opened do not keep it open, and do not keep a passphrase either.
#[test]
fn slots_of_no_priority_count_as_who_opens_it_sees_them() {
    let mut image = Image::new(&options());
    image.amend(&add(None, "second", "first", false)).expect("there is room");
    let rare = "\"type\":\"luks2\",\"priority\":0}},\"segments\"";
    rewrite(&mut image, |text| text.replace("\"type\":\"luks2\"}},\"segments\"", rare));
    let header = image.header();
    let slots = |all| header.key_materials(all).into_iter().map(|(slot, _)| slot).collect();
    assert_eq!((slots(false), slots(true)), (vec![0], vec![0, 1]));
    let last = image.amend(&erase(None, Some("first"), false)).expect_err("it is the last one");
    assert!(last.contains("the data are lost"), "{last}");
    image.amend(&erase(None, Some("second"), false)).expect("it is known all the same");
    assert!(image.slots("second").is_empty());
}

fn text_of(image: &Image) -> String {
    let area = &image.0[4096..HEADERS / 2];
    let end = area.iter().position(|byte| *byte == 0).expect("it ends");
    String::from_utf8(area[..end].to_vec()).expect("it is text")
}

/// Puts other metadata into the primary copy, with the checksum that belongs to it; the other copy is gone.
fn rewrite(image: &mut Image, change: impl Fn(String) -> String) {
    let text = change(text_of(image));
    let area = &mut image.0[4096..HEADERS / 2];
    area.fill(0);
    area[..text.len()].copy_from_slice(text.as_bytes());
    checksum(image);
}

fn checksum(image: &mut Image) {
    image.0[HEADERS / 2..HEADERS].fill(0);
    image.0[448..512].fill(0);
    let sum = Hash::Sha256.digest(&[&image.0[..HEADERS / 2]]);
    image.0[448..480].copy_from_slice(&sum);
}

/// What is put in place of what, and what is said about it.
const WRONG: &[(&str, &str, &str)] = &[
    ("{\"config\"", "[\"config\"", "json area at byte 4096"),
    ("\"json_size\":\"12288\"", "\"json_size\":\"12289\"", "json_size at byte 4096: 12289"),
    ("\"json_size\":\"12288\"", "\"json_size\":12288", "json area"),
    ("\"keyslots_size\":\"196608\"", "\"keyslots_size\":\"196609\"", "keyslots_size at byte"),
    ("\"keyslots_size\":\"196608\"", "\"keyslots_size\":\"18446744073709551615\"", "keyslots_size"),
    (
        "\"keyslots_size\"",
        "\"requirements\":{\"mandatory\":[\"new\"]},\"keyslots_size\"",
        "requirement 'new'",
    ),
    ("\"type\":\"crypt\"", "\"type\":\"linear\"", "'linear'; there is crypt"),
    ("\"size\":\"dynamic\"", "\"size\":\"512\"", "size of a segment '512'"),
    ("\"iv_tweak\":\"0\"", "\"iv_tweak\":\"8\"", "iv_tweak '8'"),
    ("\"iv_tweak\":\"0\"", "\"integrity\":{},\"iv_tweak\":\"0\"", "integrity"),
    ("\"sector_size\":512", "\"sector_size\":513", "sector_size '513'"),
    ("\"sector_size\":512", "\"sector_size\":4096", "mode 'cbc'"),
    ("\"sector_size\":512", "\"sector_size\":-1", "json area"),
    ("\"offset\":\"229376\"", "\"offset\":\"228864\"", "segment offset"),
    ("\"offset\":\"229376\"", "\"offset\":\"229377\"", "segment offset"),
    ("\"offset\":\"229376\"", "\"offset\":\"0229376\"", "no such number"),
    ("\"offset\":\"32768\"", "\"offset\":\"32767\"", "keyslot area"),
    ("\"offset\":\"32768\"", "\"offset\":\"18446744073709551104\"", "keyslot area"),
    ("\"size\":\"65536\"", "\"size\":\"63999\"", "keyslot key_size"),
    ("\"size\":\"65536\"", "\"size\":\"18446744073709551615\"", "keyslot area"),
    ("\"stripes\":4000", "\"stripes\":4001", "stripes at byte 4096: 4001"),
    ("\"iterations\":2,\"salt\"", "\"iterations\":0,\"salt\"", "0 iterations"),
    ("\"iterations\":2,\"salt\"", "\"iterations\":4294967295,\"salt\"", "4294967295 iterations"),
    ("\"keyslots\":[\"0\"]", "\"keyslots\":[\"9\"]", "fine"),
    ("\"keyslots\":[\"0\"]", "\"keyslots\":[0]", "json area"),
    ("\"segments\":[\"0\"]", "\"segments\":[]", "digests at byte"),
    ("\"segments\":{\"0\"", "\"segments\":{\"1\"", "number of segments '1'"),
    ("{\"0\":{\"af\"", "{\"32\":{\"af\"", "slot 32"),
    ("{\"0\":{\"af\"", "{\"00\":{\"af\"", "no such number"),
    ("\"hash\":\"sha256\",\"stripes\"", "\"hash\":\"md5\",\"stripes\"", "hash 'md5'"),
    ("\"type\":\"luks2\"", "\"type\":\"reencrypt\"", "'reencrypt'; there is luks2"),
    ("\"type\":\"raw\"", "\"type\":\"datashift\"", "area 'datashift'"),
    ("\"key_size\":16,\"type\":\"luks2\"", "\"key_size\":0,\"type\":\"luks2\"", "keyslot key_size"),
    (
        "\"key_size\":16,\"type\":\"luks2\"",
        "\"key_size\":18446744073709551615,\"type\":\"luks2\"",
        "keyslot key_size",
    ),
    ("\"tokens\":{}", "\"tokens\":{\"0\":1}", "fine"),
    ("\"size\":\"65536\"", "\"size\":\"1052672\"", "keyslot area at byte 4096: slot 0: 1052672"),
];

fn argon(memory: u64, time: u64, cpus: u64) -> String {
    let kdf = r#""kdf":{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","type":"argon2id","#;
    alloc::format!("{kdf}\"memory\":{memory},\"time\":{time},\"cpus\":{cpus},\"x\":{{\"hash\"")
}

#[test]
fn what_is_wrong_is_named() {
    let good = Image::new(&options());
    let said = |from: &str, to: &str| {
        let mut image = good.clone();
        let text = text_of(&good);
        assert_eq!(text.matches(from).count(), 1, "{from}: {text}");
        rewrite(&mut image, |text| text.replace(from, to));
        image.volume().map_or_else(|error| error, |_| "fine".into())
    };
    for (from, to, expected) in WRONG {
        let found = said(from, to);
        assert!(found.contains(expected), "{from} -> {to}: {found}");
    }
    for (memory, time, cpus, expected) in [
        (1 << 23, 1, 1, "KiB of memory"),
        (31, 1, 4, "KiB of memory"),
        (32, 0, 4, "one pass"),
        (1 << 20, 65, 4, "68157440 KiB together"),
        (u64::from(u32::MAX), u64::from(u32::MAX), 4, "KiB of memory"),
        (1 << 20, 4, 17, "17 lanes"),
        (1 << 20, 4, 4, "fine"),
    ] {
        let from = "\"kdf\":{\"hash\"";
        let text = text_of(&good).replace(from, &argon(memory, time, cpus));
        // One brace more, for the member that hides the old ones.
        let text =
            text.replacen("\"type\":\"pbkdf2\"},\"key_size\"", "\"type\":\"x\"}},\"key_size\"", 1);
        let mut image = good.clone();
        rewrite(&mut image, |_| text.clone());
        let found = image.volume().map_or_else(|error| error, |_| "fine".into());
        assert!(found.contains(expected), "{memory} {time} {cpus}: {found}");
    }
}

/// What is accepted keeps what is promised, and what follows from it ends.
#[test]
fn no_byte_that_is_changed_does_harm() {
    let (mut random, good) = (numbers(9), Image::new(&options()));
    let end = 4096 + text_of(&good).len();
    for round in 0..6_000 {
        let mut image = Image(good.0[..PAYLOAD].to_vec());
        let mut drawn = [0; 6];
        random(&mut drawn);
        for pair in drawn.chunks_exact(3).take(1 + round % 2) {
            let at = usize::from(u16::from_le_bytes([pair[0], pair[1]]));
            let at = if round % 3 == 0 { at % 512 } else { 4096 + at % (end - 4096) };
            image.0[at] = if round % 4 == 0 { pair[2] } else { pair[2] % 96 + 32 };
        }
        if round % 5 > 0 {
            checksum(&mut image);
        }
        let Ok(volume) = image.volume() else { continue };
        assert!(volume.payload_offset() <= PAYLOAD as u64);
        for (_, place) in volume.key_materials(true) {
            assert!(place.len().0 <= crate::MAX_MATERIAL && place.end() <= PAYLOAD as u64);
        }
        drop(image.steps(&add(None, "second", "first", true)));
    }
}

#[test]
fn no_header_that_is_cut_off_is_read() {
    let image = Image::new(&options());
    for len in [0, 1, 7, 511, 4095, 4096, 16383, HEADERS - 1] {
        let parsed = Volume::parse(&image.0[..len], PAYLOAD as u64, false);
        assert_eq!(parsed.is_ok(), len >= HEADERS / 2, "{len}");
    }
    assert!(Volume::parse(&image.0, PAYLOAD as u64 - 1, false).is_err());
}

/// Keys derived from "correct horse" and a salt of the bytes 0 to 31 with OpenSSL, by way of Python's `cryptography`.
const DERIVED: &[(u32, u32, u32, &str)] = &[
    (
        1,
        32,
        4,
        "53912841d384016aabe9c63c550c258291d40e9524113634676ae4f4106d6da1\
         c028ba2b611b1fde0bec6e7da61f16150653c46097bcb6f4db696e8c5eb61f8f",
    ),
    (3, 64, 1, "3452c9c63d5842407c52e40258fcdeb004f9064434defc62c782f9d548898093"),
];

#[test]
fn argon2id_is_what_another_implementation_says() {
    for (time, memory, lanes, derived) in DERIVED {
        let cost = Cost::Argon2 { id: true, time: *time, memory: *memory, lanes: *lanes };
        let salt: Vec<u8> = (0..32).collect();
        let len = derived.len() / 2;
        let key = at_once(|pause| cost.derive_in_pieces(b"correct horse", &salt, len, pause));
        let key = key.expect("there is memory");
        let hex: String = key.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
        assert_eq!(hex, *derived);
    }
}
