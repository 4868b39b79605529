//! What an encrypted sector says to who has the key.
//!
//! Source: LUKS On-Disk Format Specification, appendix A: AES with a key of 128 bits, in mode `cbc-essiv:sha256`, over
//! sectors of 512 bytes, which is what encrypted disks of scenarios have.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use sha2::{Digest, Sha256};

const BLOCK: usize = 16;

/// Decrypts whole blocks from the beginning of a sector on.
pub fn decrypt(key: &[u8; 16], number: u64, bytes: &mut [u8]) {
    let salt = aes::Aes256::new(&Sha256::digest(key));
    let data = aes::Aes128::new(key.into());
    let mut vector = aes::Block::default();
    vector[..8].copy_from_slice(&number.to_le_bytes());
    salt.encrypt_block(&mut vector);
    for place in bytes.chunks_exact_mut(BLOCK) {
        let mut block = aes::Block::default();
        block.copy_from_slice(place);
        let next = block;
        data.decrypt_block(&mut block);
        place.iter_mut().zip(block.iter().zip(&vector)).for_each(|(byte, (a, b))| *byte = a ^ b);
        vector = next;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::decrypt;

    /// Encrypted with OpenSSL, by way of Python's `cryptography`: bytes that are 0, 7, 14 and so on, in sector 5, with
    /// the key 0 to 15.
    const ENCRYPTED: &str = "5b70f3bd5cb72eaa645d169e91ee3e91d08cef52352cd4b6\
                             6b26edc03abd2af1007d94d8e8657ef781308962ccb3af0e";

    #[test]
    fn a_sector_is_decrypted_as_another_implementation_encrypted_it() {
        let byte = |index: usize| u8::from_str_radix(&ENCRYPTED[index..index + 2], 16);
        let mut bytes: Vec<u8> =
            (0..ENCRYPTED.len()).step_by(2).map(|index| byte(index).expect("digits")).collect();
        decrypt(&core::array::from_fn(|index| index as u8), 5, &mut bytes);
        assert!(bytes.iter().zip(0_u32..).all(|(byte, index)| *byte == (index * 7) as u8));
    }
}
