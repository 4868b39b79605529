//! Sectors, against another implementation and by laws.

use alloc::vec;
use alloc::vec::Vec;

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, KeyInit};
use xts_mode::{Xts128, get_tweak_default};

use super::numbers;
use crate::aes::{Aes, Block};
use crate::sector::SECTOR_SIZES;
use crate::{CipherSpec, SECTOR, SectorCipher};

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    numbers(seed)(&mut bytes);
    bytes
}

fn cipher(mode: &str, key: &[u8]) -> SectorCipher {
    let spec = CipherSpec::from_words("aes", mode, key.len()).expect("the test's words are known");
    SectorCipher::new(&spec, key)
}

/// More than a batch, and no multiple of one.
const LEN: usize = 21 * SECTOR;

fn by_another<C>(key: &[u8], number: u128, sector: usize, data: &mut [u8])
where
    C: KeyInit + BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let (data_key, tweak_key) = key.split_at(key.len() / 2);
    let new = |key: &[u8]| C::new_from_slice(key).expect("the key has its length");
    let xts = Xts128::new(new(data_key), new(tweak_key));
    // Numbers count sectors of 512 bytes, however long these are.
    let tweak = |index: u128| get_tweak_default(number + index * (sector / SECTOR) as u128);
    xts.encrypt_area(data, sector, 0, tweak);
}

#[test]
fn xts_is_what_another_implementation_says() {
    for first in [0, 1, 7, u64::from(u32::MAX), (1 << 54) + 5] {
        for key_len in [32, 48, 64] {
            let (key, plain) = (bytes(1, key_len), bytes(2, LEN));
            let mut ours = plain.clone();
            cipher("xts-plain64", &key).encrypt(first * SECTOR as u64, &mut ours);
            let mut theirs = plain.clone();
            match key_len {
                32 => by_another::<aes::Aes128>(&key, first.into(), SECTOR, &mut theirs),
                48 => by_another::<aes::Aes192>(&key, first.into(), SECTOR, &mut theirs),
                _ => by_another::<aes::Aes256>(&key, first.into(), SECTOR, &mut theirs),
            }
            assert!(ours == theirs, "sector {first}, {key_len} bytes of key");
            cipher("xts-plain64", &key).decrypt(first * SECTOR as u64, &mut ours);
            assert!(ours == plain, "sector {first}, {key_len} bytes of key, back");
        }
    }
}

#[test]
fn long_sectors_are_what_another_implementation_says() {
    for sector in SECTOR_SIZES {
        let (key, plain) = (bytes(1, 64), bytes(2, 7 * 4096));
        let number = 8 * 77;
        let cipher = cipher("xts-plain64", &key).over_sectors(sector);
        let mut ours = plain.clone();
        cipher.encrypt(number * SECTOR as u64, &mut ours);
        let mut theirs = plain.clone();
        by_another::<aes::Aes256>(&key, number.into(), sector, &mut theirs);
        assert!(ours == theirs, "{sector}");
        cipher.decrypt(number * SECTOR as u64, &mut ours);
        assert!(ours == plain, "{sector}, back");
    }
}

/// CBC, a block at a time, with the initial vector that the specification names.
fn cbc_by_blocks(key: &[u8], vector: Block, sector: &mut [u8]) {
    let aes = Aes::new(key).expect("the key has its length");
    let mut before = vector;
    for place in sector.chunks_mut(16) {
        let mixed: Vec<u8> = place.iter().zip(&before).map(|(a, b)| a ^ b).collect();
        let mut block = [Block::try_from(mixed.as_slice()).expect("a block is 16 bytes")];
        aes.encrypt(&mut block);
        before = block[0];
        place.copy_from_slice(&before);
    }
}

#[test]
fn cbc_chains_from_the_vector_of_each_generator() {
    const NUMBER: u64 = (3 << 32) + 9;
    let key = bytes(3, 32);
    let number = |number: u64| {
        let mut block = Block::default();
        block[..8].copy_from_slice(&number.to_le_bytes());
        block
    };
    let mut essiv = [number(NUMBER)];
    let salt = Aes::new(&crate::Hash::Sha256.digest(&[&key])).expect("a digest is 32 bytes");
    salt.encrypt(&mut essiv);
    for (mode, vector) in
        [("cbc-plain", number(9)), ("cbc-plain64", number(NUMBER)), ("cbc-essiv:sha256", essiv[0])]
    {
        let (plain, cipher) = (bytes(4, SECTOR), cipher(mode, &key));
        let mut ours = plain.clone();
        cipher.encrypt(NUMBER * SECTOR as u64, &mut ours);
        let mut expected = plain.clone();
        cbc_by_blocks(&key, vector, &mut expected);
        assert!(ours == expected, "{mode}");
        cipher.decrypt(NUMBER * SECTOR as u64, &mut ours);
        assert!(ours == plain, "{mode}, back");
    }
}

#[test]
fn sectors_do_not_depend_on_their_neighbours() {
    for (mode, key_len) in [("xts-plain64", 64), ("xts-essiv:sha256", 32), ("cbc-plain64", 16)] {
        let (cipher, plain) = (cipher(mode, &bytes(5, key_len)), bytes(6, LEN));
        let mut together = plain.clone();
        cipher.encrypt(0, &mut together);
        let mut apart = plain.clone();
        for (number, sector) in apart.chunks_mut(SECTOR).enumerate() {
            cipher.encrypt((number * SECTOR) as u64, sector);
        }
        assert!(together == apart, "{mode}");
    }
}

#[test]
#[should_panic(expected = "whole-sectors: 100 bytes at 512")]
fn a_part_of_a_sector_is_not_encrypted() {
    cipher("xts-plain64", &bytes(7, 64)).encrypt(512, &mut [0; 100]);
}
