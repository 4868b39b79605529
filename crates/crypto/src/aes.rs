//! AES with a key of each length, many blocks at once.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, InvalidLength, KeyInit, consts};

/// Bytes in a block.
pub const BLOCK: usize = 16;

/// A block.
pub type Block = Array<u8, consts::U16>;

/// A key, scheduled.
pub enum Aes {
    Aes128(aes::Aes128),
    Aes192(aes::Aes192),
    Aes256(aes::Aes256),
}

impl Aes {
    /// `key`: 16, 24 or 32 bytes.
    pub fn new(key: &[u8]) -> Result<Self, InvalidLength> {
        match key.len() {
            16 => aes::Aes128::new_from_slice(key).map(Self::Aes128),
            24 => aes::Aes192::new_from_slice(key).map(Self::Aes192),
            _ => aes::Aes256::new_from_slice(key).map(Self::Aes256),
        }
    }

    pub fn encrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::Aes128(aes) => aes.encrypt_blocks(blocks),
            Self::Aes192(aes) => aes.encrypt_blocks(blocks),
            Self::Aes256(aes) => aes.encrypt_blocks(blocks),
        }
    }

    pub fn decrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::Aes128(aes) => aes.decrypt_blocks(blocks),
            Self::Aes192(aes) => aes.decrypt_blocks(blocks),
            Self::Aes256(aes) => aes.decrypt_blocks(blocks),
        }
    }
}
