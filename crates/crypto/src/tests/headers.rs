//! Images made, opened, and given other passphrases.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::numbers;
use crate::{CipherSpec, CryptoError, Hash, Header, Iterations, MasterKey, SlotUpdate, split};

const FEW: Iterations = Iterations { slot: 7, digest: 3 };

/// The bytes before the payload.
struct Image(Vec<u8>);

impl Image {
    fn new(cipher: CipherSpec, hash: Hash) -> (Self, MasterKey) {
        let created = Header::create(cipher, hash, b"first", FEW, &mut numbers(1));
        let created = created.expect("the arguments are fine");
        let mut image = Self(vec![0; created.update.header.payload_offset() as usize]);
        image.write(&created.update);
        (image, created.key)
    }

    fn write(&mut self, update: &SlotUpdate) {
        let at = update.offset as usize;
        self.0[at..at + update.material.len()].copy_from_slice(&update.material);
        self.0[..Header::LEN].copy_from_slice(&update.header.to_bytes());
    }

    fn header(&self) -> Header {
        Header::parse(&self.0, self.0.len() as u64).expect("what was written is fine")
    }

    /// The slots that a passphrase opens, and what the payload's first sector is then.
    fn open(&self, passphrase: &[u8]) -> Vec<(usize, [u8; 512])> {
        let header = self.header();
        let open = |slot| {
            let place = header.key_material(slot);
            let material = &self.0[place.start() as usize..place.end() as usize];
            let key = header.unlock(slot, passphrase, material).expect("the length is right")?;
            let mut sector = [0; 512];
            header.sector_cipher(&key).encrypt(0, &mut sector);
            Some((slot, sector))
        };
        header.enabled_slots().filter_map(open).collect()
    }

    fn slots(&self, passphrase: &[u8]) -> Vec<usize> {
        self.open(passphrase).iter().map(|(slot, _)| *slot).collect()
    }
}

fn default_cipher() -> CipherSpec {
    CipherSpec::from_options(None, None, None, None).expect("defaults are known")
}

#[test]
fn a_new_image_is_opened_by_its_passphrase_alone() {
    let hashes = ["ripemd160", "sha1", "sha224", "sha256", "sha384", "sha512"];
    let ciphers = [
        (None, None, None),
        (Some("aes-128"), Some("xts"), Some("plain")),
        (Some("aes-192"), None, None),
        (Some("aes-256"), Some("cbc"), Some("essiv")),
        (Some("aes-128"), Some("cbc"), Some("plain64")),
    ];
    for (alg, mode, generator) in ciphers {
        for hash in hashes.map(|hash| Hash::named(hash).expect("it is known")) {
            let cipher = CipherSpec::from_options(alg, mode, generator, None);
            let (image, key) = Image::new(cipher.expect("it is known"), hash);
            let mut sector = [0; 512];
            image.header().sector_cipher(&key).encrypt(0, &mut sector);
            assert_eq!(image.open(b"first"), [(0, sector)], "{alg:?} {mode:?} {hash:?}");
            assert_eq!(image.open(b"First"), []);
        }
    }
}

#[test]
fn a_header_lies_where_qemu_img_puts_it() {
    let (image, _) = Image::new(default_cipher(), Hash::Sha256);
    let header = image.header();
    assert_eq!(header.payload_offset(), 4040 * 512);
    let places = (0..8).map(|slot| header.key_material(slot).start() / 512);
    assert!(places.eq([8, 512, 1016, 1520, 2024, 2528, 3032, 3536]));
    assert_eq!(header.to_bytes(), image.0[..Header::LEN]);
    let uuid: Vec<usize> = header.uuid().split('-').map(str::len).collect();
    assert_eq!(uuid, [8, 4, 4, 4, 12]);
}

#[test]
fn passphrases_come_and_go() {
    let (mut image, key) = Image::new(default_cipher(), Hash::Sha256);
    let mut random = numbers(2);
    for (slot, taken) in [(None, 1), (Some(6), 6), (None, 2)] {
        let passphrase = format!("number {taken}");
        let update = image.header().add_slot(slot, &key, passphrase.as_bytes(), 5, &mut random);
        image.write(&update.expect("there is room"));
        assert_eq!(image.slots(passphrase.as_bytes()), [taken]);
    }
    let refused = image.header().add_slot(Some(6), &key, b"x", 5, &mut random);
    let said =
        |result: Result<SlotUpdate, CryptoError>| result.map(drop).map_err(|e| e.to_string());
    assert_eq!(
        said(refused),
        Err(String::from("refused: slot 6 is in use; erase a passphrase first"))
    );
    for slot in [0, 6, 1] {
        let update = image.header().erase_slot(slot, false, &mut random);
        image.write(&update.expect("others are left"));
    }
    assert!(image.slots(b"first").is_empty());
    assert_eq!(image.slots(b"number 2"), [2]);
    let last = image.header().erase_slot(2, false, &mut random);
    assert_eq!(
        said(last),
        Err(String::from(
            "refused: slot 2 is the only one in use, without it the data are lost; add another first"
        ))
    );
    image.write(&image.header().erase_slot(2, true, &mut random).expect("by force"));
    assert!(image.slots(b"number 2").is_empty());
    let none = image.header().erase_slot(2, true, &mut random);
    assert_eq!(said(none), Err(String::from("refused: slot 2 is not in use")));
    let none = image.header().erase_slot(8, true, &mut random);
    assert_eq!(
        said(none),
        Err(String::from("refused: there is no slot 8; there are slots 0 to 7"))
    );
}

#[test]
fn material_without_its_header_opens_nothing_more_and_nothing_less() {
    let (mut image, key) = Image::new(default_cipher(), Hash::Sha256);
    let add = image.header().add_slot(None, &key, b"second", 5, &mut numbers(3));
    let old = image.0[..Header::LEN].to_vec();
    image.write(&add.expect("there is room"));
    image.0[..Header::LEN].copy_from_slice(&old);
    assert_eq!((image.slots(b"first"), image.slots(b"second")), (vec![0], vec![]));
}

#[test]
fn a_split_key_is_merged_and_any_stripe_lost_loses_it() {
    for (hash, len) in [(Hash::Sha1, 64), (Hash::Sha256, 32), (Hash::Sha512, 16)] {
        let key: Vec<u8> = (0..len as u8).collect();
        let whole = split::split(hash, &key, 20, &mut numbers(4));
        assert_eq!(*split::merge(hash, &whole, len), key);
        for stripe in 0..20 {
            let mut broken = whole.to_vec();
            broken[stripe * len] ^= 1;
            assert_ne!(*split::merge(hash, &broken, len), key, "stripe {stripe}");
        }
    }
}

/// Keys merged from five stripes of that many bytes, 3, 10, 17 and so on, by a few lines of Python over its `hashlib`.
const MERGED: &[(Hash, usize, &str)] = &[
    (Hash::Sha1, 32, "940172d68ed8b5f266b370c897cf2eb23a6a02320a724776ab881de4043b9ab9"),
    (
        Hash::Sha256,
        64,
        "73912f5a0b968c8f185248e9a37f54a83c5a6d23e94ffba3b5847d91ce2e3634\
         9c71dcb8aa9b8a0393f7c696cc8bdf07399b193ee0b2f26ab21341a425615eed",
    ),
    (Hash::Sha512, 16, "d8341eada37bb993b736f612804db1a0"),
];

#[test]
fn stripes_are_merged_as_another_implementation_does() {
    for (hash, len, merged) in MERGED {
        let stripes: Vec<u8> = (0..5 * len).map(|index| (index * 7 + 3) as u8).collect();
        let key = split::merge(*hash, &stripes, *len);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, *merged, "{hash:?}");
    }
}

#[test]
fn rounds_are_bounded_and_nothing_printed_holds_a_key() {
    for slot in [0, crate::MAX_ITERATIONS + 1] {
        for iterations in [Iterations { slot, digest: 1 }, Iterations { slot: 1, digest: slot }] {
            let made =
                Header::create(default_cipher(), Hash::Sha256, b"x", iterations, &mut numbers(5));
            assert!(matches!(made, Err(CryptoError::Refused(_))), "{iterations:?}");
        }
    }
    let (image, key) = Image::new(default_cipher(), Hash::Sha256);
    let cipher = image.header().sector_cipher(&key);
    assert_eq!(format!("{key:?} {cipher:?}"), "MasterKey SectorCipher");
}

#[test]
fn options_that_are_not_there_are_named() {
    let said = |alg: Option<&str>, mode: Option<&str>, iv: Option<&str>, hash: Option<&str>| {
        let refused = CipherSpec::from_options(alg, mode, iv, hash).map(drop);
        refused.map_err(|error| error.to_string()).expect_err("it is not there")
    };
    assert_eq!(
        said(Some("serpent-256"), None, None, None),
        "not implemented: cipher 'serpent-256'; there is aes-128, aes-192 and aes-256"
    );
    assert_eq!(
        said(None, Some("ecb"), None, None),
        "not implemented: cipher mode 'ecb'; there is cbc and xts"
    );
    assert_eq!(
        said(None, None, Some("random"), None),
        "not implemented: iv generator 'random'; there is essiv, plain and plain64"
    );
    assert_eq!(
        said(None, Some("cbc"), Some("essiv"), Some("sha1")),
        "not implemented: hash of the iv generator essiv 'sha1'; there is sha256"
    );
    assert_eq!(
        said(Some("aes-192"), Some("cbc"), None, None),
        "not implemented: key length in bytes '24'; there is 16 and 32, in mode cbc"
    );
    let hash = Hash::named("md5").map_err(|error| error.to_string());
    assert_eq!(
        hash.expect_err("it is not there"),
        "not implemented: hash 'md5'; there is ripemd160, sha1, sha224, sha256, sha384 and sha512"
    );
}
