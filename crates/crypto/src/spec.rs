//! Which cipher: its mode, where the initial vectors come from, and how long the key is; in QEMU's words and in those
//! of headers.
//!
//! Source: LUKS, appendix A, for the words of headers; QEMU's documented options `cipher-alg`, `cipher-mode`,
//! `ivgen-alg` and `ivgen-hash-alg`, and what `qemu-img` makes of them.

use alloc::format;
use alloc::string::String;

use crate::error::CryptoError;
use crate::hash::Hash;

/// The mode of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Cipher block chaining over the blocks of a sector.
    Cbc,
    /// XEX with a tweak; the key is two keys.
    Xts,
}

/// How the initial vector of a sector is made of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvGenerator {
    /// The number's low 32 bits.
    Plain,
    /// The number, in 64 bits.
    Plain64,
    /// The number, encrypted with the digest of the key.
    Essiv,
}

/// A cipher, without its key. It is AES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSpec {
    mode: Mode,
    iv: IvGenerator,
    /// Of ESSIV; the other generators only carry it.
    iv_hash: Option<Hash>,
    /// Bytes.
    key_len: usize,
}

/// The one cipher that there is.
pub const CIPHER_NAME: &str = "aes";

fn unsupported(what: &'static str, found: &str, known: &'static str) -> CryptoError {
    CryptoError::Unsupported { what, found: found.into(), known }
}

fn mode(word: &str) -> Result<Mode, CryptoError> {
    match word {
        "cbc" => Ok(Mode::Cbc),
        "xts" => Ok(Mode::Xts),
        _ => Err(unsupported("cipher mode", word, "cbc and xts")),
    }
}

fn generator(word: &str) -> Result<IvGenerator, CryptoError> {
    match word {
        "plain" => Ok(IvGenerator::Plain),
        "plain64" => Ok(IvGenerator::Plain64),
        "essiv" => Ok(IvGenerator::Essiv),
        _ => Err(unsupported("iv generator", word, "essiv, plain and plain64")),
    }
}

impl CipherSpec {
    fn new(
        mode: Mode,
        iv: IvGenerator,
        iv_hash: Option<Hash>,
        key_len: usize,
    ) -> Result<Self, CryptoError> {
        // The digest is a key of AES, and of those hashes only this one is as long as one.
        if iv == IvGenerator::Essiv && iv_hash != Some(Hash::Sha256) {
            let hash = iv_hash.map_or("none", Hash::word);
            return Err(unsupported("hash of the iv generator essiv", hash, "sha256"));
        }
        let (lens, known): (&[usize], _) = match mode {
            // With 24 the key material of a slot would not be whole sectors.
            Mode::Cbc => (&[16, 32], "16 and 32, in mode cbc"),
            Mode::Xts => (&[32, 48, 64], "32, 48 and 64, in mode xts"),
        };
        if !lens.contains(&key_len) {
            return Err(unsupported("key length in bytes", &format!("{key_len}"), known));
        }
        Ok(Self { mode, iv, iv_hash, key_len })
    }

    /// The cipher of QEMU's options; each that is missing has QEMU's default.
    ///
    /// # Errors
    /// There is no such cipher here.
    pub fn from_options(
        cipher_alg: Option<&str>,
        cipher_mode: Option<&str>,
        ivgen_alg: Option<&str>,
        ivgen_hash_alg: Option<&str>,
    ) -> Result<Self, CryptoError> {
        let mode = mode(cipher_mode.unwrap_or("xts"))?;
        let keys = if mode == Mode::Xts { 2 } else { 1 };
        let key_len = match cipher_alg.unwrap_or("aes-256") {
            "aes-128" => 16,
            "aes-192" => 24,
            "aes-256" => 32,
            other => return Err(unsupported("cipher", other, "aes-128, aes-192 and aes-256")),
        };
        let iv = generator(ivgen_alg.unwrap_or("plain64"))?;
        let given = ivgen_hash_alg.map(Hash::named).transpose()?;
        let iv_hash = given.or((iv == IvGenerator::Essiv).then_some(Hash::Sha256));
        Self::new(mode, iv, iv_hash, key_len * keys)
    }

    /// The cipher that a header names, as `aes`, `xts-plain64` and 64, or `aes`, `cbc-essiv:sha256` and 32.
    ///
    /// # Errors
    /// There is no such cipher here.
    pub fn from_words(name: &str, mode_word: &str, key_len: usize) -> Result<Self, CryptoError> {
        if name != CIPHER_NAME {
            return Err(unsupported("cipher", name, CIPHER_NAME));
        }
        let (mode_word, iv) = mode_word.split_once('-').unwrap_or((mode_word, "none"));
        let (iv, hash) = iv.split_once(':').map_or((iv, None), |(iv, hash)| (iv, Some(hash)));
        let hash = hash.map(Hash::named).transpose()?;
        Self::new(mode(mode_word)?, generator(iv)?, hash, key_len)
    }

    /// The word for mode and initial vectors in a header.
    pub fn mode_word(&self) -> String {
        let mode = match self.mode {
            Mode::Cbc => "cbc",
            Mode::Xts => "xts",
        };
        let iv = match self.iv {
            IvGenerator::Plain => "plain",
            IvGenerator::Plain64 => "plain64",
            IvGenerator::Essiv => "essiv",
        };
        let hash = self.iv_hash.map_or_else(String::new, |hash| format!(":{}", hash.word()));
        format!("{mode}-{iv}{hash}")
    }

    /// Name and mode in one word, as `aes-xts-plain64`.
    pub fn words(&self) -> String {
        format!("{CIPHER_NAME}-{}", self.mode_word())
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where initial vectors come from.
    pub fn iv(&self) -> IvGenerator {
        self.iv
    }

    /// Bytes of the key.
    pub fn key_len(&self) -> usize {
        self.key_len
    }
}
