//! Sectors, encrypted in place.
//!
//! The blocks of several sectors, and their tweaks, go through the cipher together: the machine works on many at a time
//! and waits for one.
//!
//! Source: IEEE 1619, 5.3 and 5.4, for XTS; LUKS 2.1 and appendix A for the initial vectors, which are made of numbers
//! of 512 bytes also where sectors are longer.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use aes::cipher::Array;

use crate::aes::{Aes, BLOCK, Block};
use crate::hash::Hash;
use crate::spec::{CipherSpec, IvGenerator, Mode};

/// Bytes of a sector, where nobody says otherwise.
pub const SECTOR: usize = 512;

/// Blocks of such a sector.
const BLOCKS: usize = SECTOR / BLOCK;

/// Such sectors that are done together; as long as the longest sector.
const BATCH: usize = 8;

/// Bytes that a sector may have.
pub(crate) const SECTOR_SIZES: [usize; 4] = [512, 1024, 2048, BATCH * SECTOR];

/// A cipher with its key.
pub struct SectorCipher {
    data: Aes,
    /// Of XTS.
    tweak: Option<Aes>,
    iv: Iv,
    /// Bytes, one of [`SECTOR_SIZES`]; more than [`SECTOR`] with XTS only.
    sector: usize,
}

enum Iv {
    Plain,
    Plain64,
    Essiv(Box<Aes>),
}

#[derive(Clone, Copy)]
enum Direction {
    Encrypt,
    Decrypt,
}

impl fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SectorCipher")
    }
}

impl SectorCipher {
    /// `key`: as many bytes as `spec` says.
    ///
    /// # Panics
    /// `keys-have-their-length`
    pub fn new(spec: &CipherSpec, key: &[u8]) -> Self {
        assert_eq!(key.len(), spec.key_len(), "keys-have-their-length");
        let aes = |key: &[u8]| Aes::new(key).expect("keys-have-their-length");
        let iv = match spec.iv() {
            IvGenerator::Plain => Iv::Plain,
            IvGenerator::Plain64 => Iv::Plain64,
            IvGenerator::Essiv => Iv::Essiv(Box::new(aes(&Hash::Sha256.digest(&[key])))),
        };
        match spec.mode() {
            Mode::Cbc => Self { data: aes(key), tweak: None, iv, sector: SECTOR },
            Mode::Xts => {
                let (data, tweak) = key.split_at(key.len() / 2);
                Self { data: aes(data), tweak: Some(aes(tweak)), iv, sector: SECTOR }
            }
        }
    }

    /// The same over longer sectors.
    ///
    /// # Panics
    /// `long-sectors-are-xts`
    pub(crate) fn over_sectors(self, sector: usize) -> Self {
        let possible = SECTOR_SIZES.contains(&sector) && (sector == SECTOR || self.tweak.is_some());
        assert!(possible, "long-sectors-are-xts: {sector} bytes");
        Self { sector, ..self }
    }

    /// Bytes of a sector.
    pub fn sector(&self) -> usize {
        self.sector
    }

    /// Encrypts `data`, which lies at `offset` bytes from where sectors are counted.
    ///
    /// # Panics
    /// `whole-sectors`: if one of the two is no multiple of a sector.
    pub fn encrypt(&self, offset: u64, data: &mut [u8]) {
        self.apply(Direction::Encrypt, offset, data);
    }

    /// Decrypts `data`, which lies at `offset` bytes from where sectors are counted.
    ///
    /// # Panics
    /// `whole-sectors`: if one of the two is no multiple of a sector.
    pub fn decrypt(&self, offset: u64, data: &mut [u8]) {
        self.apply(Direction::Decrypt, offset, data);
    }

    /// The same of bytes that stay as they are.
    ///
    /// # Panics
    /// The same.
    pub fn encrypted(&self, offset: u64, data: &[u8]) -> Vec<u8> {
        self.applied(Direction::Encrypt, offset, data)
    }

    /// The same of bytes that stay as they are.
    ///
    /// # Panics
    /// The same.
    pub fn decrypted(&self, offset: u64, data: &[u8]) -> Vec<u8> {
        self.applied(Direction::Decrypt, offset, data)
    }

    /// Copies a batch, which is near then, and works on that.
    fn applied(&self, direction: Direction, offset: u64, data: &[u8]) -> Vec<u8> {
        let mut done = Vec::with_capacity(data.len());
        for batch in data.chunks(BATCH * SECTOR) {
            let from = done.len();
            done.extend_from_slice(batch);
            self.apply(direction, offset + from as u64, &mut done[from..]);
        }
        done
    }

    fn apply(&self, direction: Direction, offset: u64, data: &mut [u8]) {
        let sector = self.sector;
        let whole = offset.is_multiple_of(sector as u64) && data.len().is_multiple_of(sector);
        assert!(whole, "whole-sectors: {} bytes at {offset}", data.len());
        let mut number = offset / SECTOR as u64;
        for batch in data.chunks_mut(BATCH * SECTOR) {
            let mut vectors = [Block::default(); BATCH];
            let vectors = &mut vectors[..batch.len() / sector];
            self.initial_vectors(number, vectors);
            number += (batch.len() / SECTOR) as u64;
            let (blocks, _) = Array::slice_as_chunks_mut(batch);
            if self.tweak.is_some() {
                match sector {
                    SECTOR => self.xts::<BLOCKS>(direction, vectors, blocks),
                    1024 => self.xts::<{ 2 * BLOCKS }>(direction, vectors, blocks),
                    2048 => self.xts::<{ 4 * BLOCKS }>(direction, vectors, blocks),
                    _ => self.xts::<{ BATCH * BLOCKS }>(direction, vectors, blocks),
                }
                continue;
            }
            for (sector, vector) in blocks.chunks_exact_mut(BLOCKS).zip(vectors) {
                match direction {
                    Direction::Encrypt => self.cbc_encrypt(*vector, sector),
                    Direction::Decrypt => self.cbc_decrypt(*vector, sector),
                }
            }
        }
    }

    /// Those of the sectors from `number` on; for XTS encrypted with its second key already.
    fn initial_vectors(&self, number: u64, vectors: &mut [Block]) {
        for (number, vector) in (number..).step_by(self.sector / SECTOR).zip(vectors.iter_mut()) {
            let number = match self.iv {
                Iv::Plain => number & u64::from(u32::MAX),
                Iv::Plain64 | Iv::Essiv(_) => number,
            };
            vector[..8].copy_from_slice(&number.to_le_bytes());
        }
        if let Iv::Essiv(salt) = &self.iv {
            salt.encrypt(vectors);
        }
        if let Some(tweak) = &self.tweak {
            tweak.encrypt(vectors);
        }
    }

    /// `EACH`: blocks of a sector.
    fn xts<const EACH: usize>(
        &self,
        direction: Direction,
        vectors: &[Block],
        blocks: &mut [Block],
    ) {
        let mut tweaks = [0; BATCH * BLOCKS];
        let mut next = [0; BATCH];
        next.iter_mut().zip(vectors).for_each(|(next, vector)| {
            *next = u128::from_le_bytes((*vector).into());
        });
        // Each tweak waits for the one before, but not for those of other sectors.
        for index in 0..EACH {
            for (tweaks, next) in tweaks.chunks_exact_mut(EACH).zip(&mut next) {
                tweaks[index] = *next;
                // Doubled in GF(2^128).
                let carry = (next.cast_signed() >> 127).cast_unsigned() & 0x87;
                *next = (*next << 1) ^ carry;
            }
        }
        let whiten = |blocks: &mut [Block]| {
            blocks.iter_mut().zip(&tweaks).for_each(|(block, tweak)| {
                let bytes = u128::from_le_bytes((*block).into()) ^ tweak;
                *block = bytes.to_le_bytes().into();
            });
        };
        whiten(blocks);
        match direction {
            Direction::Encrypt => self.data.encrypt(blocks),
            Direction::Decrypt => self.data.decrypt(blocks),
        }
        whiten(blocks);
    }

    fn cbc_encrypt(&self, vector: Block, blocks: &mut [Block]) {
        let mut before = vector;
        for block in blocks {
            xor(block, &before);
            self.data.encrypt(core::slice::from_mut(block));
            before = *block;
        }
    }

    fn cbc_decrypt(&self, vector: Block, blocks: &mut [Block]) {
        let mut before = [vector; BLOCKS];
        before[1..].copy_from_slice(&blocks[..BLOCKS - 1]);
        self.data.decrypt(blocks);
        blocks.iter_mut().zip(&before).for_each(|(block, before)| xor(block, before));
    }
}

fn xor(into: &mut Block, other: &Block) {
    into.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
}
