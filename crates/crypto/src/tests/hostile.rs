//! Headers that somebody made to do harm.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::numbers;
use crate::{CipherSpec, Hash, Header, Iterations, MAX_MATERIAL, SLOTS};

const SPACE: u64 = 4040 * 512;

fn good() -> Vec<u8> {
    let cipher = CipherSpec::from_options(None, None, None, None).expect("defaults are known");
    let few = Iterations { slot: 2, digest: 2 };
    let created = Header::create(cipher, Hash::Sha256, b"x", few, &mut numbers(1));
    created.expect("the arguments are fine").update.header.to_bytes().to_vec()
}

fn said(bytes: &[u8], space: u64) -> String {
    Header::parse(bytes, space).map(drop).map_or_else(|e| e.to_string(), |()| "fine".into())
}

/// Where, what is put there, and what is said about it.
const MUTATIONS: &[(usize, &[u8], &str)] = &[
    (0, b"l", "luks header, magic at byte 0"),
    (6, &[0, 2], "luks version '2'"),
    (6, &[0, 0], "luks version '0'"),
    (8, b"AES", "cipher 'AES'"),
    (8, &[b'a'; 32], "cipher-name at byte 8"),
    (8, &[0xFF, 0xFE, 0], "cipher-name at byte 8"),
    (8, b"a\n", "cipher-name at byte 8"),
    (40, b"xts-plain64:", "hash ''"),
    (40, &[b'x'; 32], "cipher-mode at byte 40"),
    (40, b"xts-plain64\0", "fine"),
    (40, b"xts\0", "iv generator 'none'"),
    (40, b"-\0", "cipher mode ''"),
    (40, b"xts-:\0", "hash ''"),
    (40, b"xts-essiv\0", "hash of the iv generator essiv 'none'"),
    (40, b"ecb-plain64\0", "cipher mode 'ecb'"),
    (40, b"cbc-plain64\0", "key length in bytes '64'"),
    (72, b"whirlpool\0", "hash 'whirlpool'"),
    (104, &[0; 4], "key-material-offset at byte 248"),
    (104, &[0, 0, 0x0F, 0xC9], "payload-offset at byte 104"),
    (104, &[0xFF; 4], "payload-offset at byte 104"),
    (108, &[0; 4], "key length in bytes '0'"),
    (108, &[0xFF; 4], "key length in bytes '4294967295'"),
    (108, &[0, 0, 0, 63], "key length in bytes '63'"),
    (108, &[0, 0, 0, 32], "fine"),
    (164, &[0; 4], "mk-digest-iter at byte 164: 0"),
    (164, &[0xFF; 4], "mk-digest-iter at byte 164: 4294967295"),
    (164, &[4, 0, 0, 1], "mk-digest-iter at byte 164: 67108865"),
    (168, &[b'-'; 40], "uuid at byte 168"),
    (208, &[0; 4], "key slot state at byte 208: 0x00000000"),
    (212, &[0; 4], "iterations at byte 212: 0"),
    (212, &[0xFF; 4], "iterations at byte 212: 4294967295"),
    (260, &[0xFF; 4], "fine"),
    (248, &[0; 4], "key-material-offset at byte 248: bytes 0+"),
    (248, &[0, 0, 0, 1], "key-material-offset at byte 248: bytes 512+"),
    (248, &[0, 0, 0, 2], "fine"),
    (248, &[0xFF; 4], "key-material-offset at byte 248"),
    (248, &[0, 0, 2, 0], "key-material-offset at byte 296: bytes 262144+256000, which slot 0 has"),
    (296, &[0, 0, 0, 8], "key-material-offset at byte 296: bytes 4096+256000, which slot 0 has"),
    (584, &[0, 0, 0x0D, 0xD4], "fine"),
    (584, &[0, 0, 0x0D, 0xD5], "key-material-offset at byte 584"),
    (252, &[0; 4], "stripes at byte 252: 0"),
    (588, &[0xFF; 4], "stripes at byte 588: 4294967295"),
];

#[test]
fn what_is_wrong_is_named_and_what_is_odd_is_not_refused() {
    let good = good();
    assert_eq!(said(&good, SPACE), "fine");
    for (at, bytes, expected) in MUTATIONS {
        let mut header = good.clone();
        header[*at..at + bytes.len()].copy_from_slice(bytes);
        let found = said(&header, SPACE);
        let right = if *expected == "fine" { found == "fine" } else { found.contains(expected) };
        assert!(right, "{at}: {bytes:?}: {found}");
    }
}

#[test]
fn no_header_that_is_cut_off_is_read() {
    let header = good();
    for len in 0..Header::LEN {
        let found = said(&header[..len], SPACE);
        assert!(found.contains("length at byte 0"), "{len}: {found}");
    }
    for space in [0, 592, SPACE - 1] {
        assert!(said(&header, space).contains("payload-offset at byte 104"), "{space}");
    }
}

/// What is accepted keeps what is promised, and what follows from it ends.
#[test]
fn no_byte_that_is_changed_does_harm() {
    let (mut random, good) = (numbers(9), good());
    for round in 0..60_000 {
        let mut header = good.clone();
        let mut drawn = [0; 8];
        random(&mut drawn);
        let [first, second, rest @ ..] = drawn;
        // Fields one after the other, then several at once.
        let places = if round < 592 * 4 { 1 } else { 1 + first as usize % 3 };
        for place in rest.chunks_exact(2).take(places) {
            let at = match places {
                1 if round < 592 * 4 => round / 4,
                _ => (usize::from(place[0]) * 256 + usize::from(second)) % Header::LEN,
            };
            header[at] = place[1];
        }
        let Ok(header) = Header::parse(&header, SPACE) else { continue };
        assert!(header.payload_offset() <= SPACE);
        for slot in 0..SLOTS {
            let place = header.key_material(slot);
            assert!(place.len().0 <= MAX_MATERIAL && place.end() <= header.payload_offset());
        }
        assert_eq!(Header::parse(&header.to_bytes(), SPACE).as_ref(), Ok(&header));
    }
}

#[test]
fn what_all_slots_ask_for_together_is_bounded() {
    let at = |slot: usize| 208 + 48 * slot;
    let with = |slots: usize, rounds: u32| {
        let mut bytes = good();
        for slot in 0..slots {
            bytes[at(slot)..at(slot) + 4].copy_from_slice(&0x00AC_71F3_u32.to_be_bytes());
            bytes[at(slot) + 4..at(slot) + 8].copy_from_slice(&rounds.to_be_bytes());
        }
        said(&bytes, SPACE)
    };
    assert_eq!(with(8, 10_000_000), "fine");
    assert_eq!(with(1, 1 << 26), "fine");
    // Each is fine alone.
    let refused = with(8, 1 << 26);
    assert!(refused.contains("iterations at byte 212: 536870928"), "{refused}");
}
