//! LUKS images, and the headers that qcow2 images have.
//!
//! Source: QEMU's QMP reference, BlockdevCreateOptionsLUKS and QCryptoBlockCreateOptionsLUKS, with its defaults.
//! Differs: QEMU makes version 1 alone; `x-version`, and what begins so beside it, are ours.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use blockyard_block::{Preallocation, Truncate, Write};
use blockyard_crypto::{
    CipherSpec, Cost, Created, Hash, Header, Iterations, Luks2, Luks2Options, Secret, Step,
};
use blockyard_runtime::Storage;
use blockyard_units::ByteLen;
use serde::Deserialize;
use serde::de::Error as _;

use super::{NodeStorage, PreallocMode, pause, preallocation};
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Size, VisitError, visit};

/// The options of a cipher and of its key.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Encrypt {
    #[serde(rename = "format")]
    _format: Luks,
    key_secret: String,
    cipher_alg: Option<String>,
    cipher_mode: Option<String>,
    ivgen_alg: Option<String>,
    ivgen_hash_alg: Option<String>,
    hash_alg: Option<String>,
    /// Milliseconds that the passphrase shall take.
    iter_time: Option<u64>,
}

/// Its keys, where they stand beside others.
const ENCRYPT: &[&str] = &[
    "key-secret",
    "cipher-alg",
    "cipher-mode",
    "ivgen-alg",
    "ivgen-hash-alg",
    "hash-alg",
    "iter-time",
];

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Luks {
    Luks,
}

/// An image of its own.
pub(super) struct LuksOptions {
    image: ImageOptions,
    encrypt: Encrypt,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ImageOptions {
    file: Option<String>,
    header: Option<String>,
    size: Size,
    preallocation: Option<PreallocMode>,
    x_version: Option<u32>,
    x_pbkdf: Option<Pbkdf>,
    x_pbkdf_memory: Option<u32>,
    x_sector_size: Option<u32>,
    x_keyslots_size: Option<Size>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pbkdf {
    Pbkdf2,
    Argon2id,
}

impl LuksOptions {
    pub fn parse(mut options: Dict, mode: Mode) -> Result<Self, VisitError> {
        let mut encrypt = Dict::new();
        encrypt.insert("format", Value::Str("luks".into()));
        for key in ENCRYPT {
            if let Some(value) = options.remove(key) {
                encrypt.insert(*key, value);
            }
        }
        let image: ImageOptions = visit(&Value::Dict(options), mode)?;
        let encrypt = visit(&Value::Dict(encrypt), mode)?;
        image.check()?;
        Ok(Self { image, encrypt })
    }
}

impl ImageOptions {
    fn check(&self) -> Result<(), VisitError> {
        let custom = |key, said: &str| Err(VisitError::custom(said).within(key));
        let second = [
            ("x-pbkdf", self.x_pbkdf.is_some()),
            ("x-pbkdf-memory", self.x_pbkdf_memory.is_some()),
            ("x-sector-size", self.x_sector_size.is_some()),
            ("x-keyslots-size", self.x_keyslots_size.is_some()),
        ];
        match self.x_version.unwrap_or(1) {
            1 => {
                if let Some((key, _)) = second.into_iter().find(|(_, given)| *given) {
                    return custom(key, "is for images of 'x-version' 2");
                }
            }
            2 => {}
            _ => return custom("x-version", "there are 1 and 2"),
        }
        if self.x_pbkdf == Some(Pbkdf::Pbkdf2) && self.x_pbkdf_memory.is_some() {
            return custom("x-pbkdf-memory", "is for argon2id");
        }
        if self.file.is_none() && self.header.is_none() {
            return Err(VisitError::missing_field("file"));
        }
        let sector = self.x_sector_size.unwrap_or(512);
        if sector == 0 || !self.size.0.is_multiple_of(u64::from(sector)) {
            return custom("size", "is no whole number of sectors");
        }
        Ok(())
    }
}

/// What is to be written before the payload.
struct Beginning {
    steps: Vec<Step>,
    /// Bytes that it has in all.
    len: u64,
}

impl Monitor {
    pub(super) async fn create_luks(
        &self,
        job: &str,
        options: &LuksOptions,
    ) -> Result<(), QmpError> {
        let LuksOptions { image, encrypt } = options;
        let beginning = self.beginning(image, encrypt).await?;
        let detached = image.header.is_some();
        if let Some(node) = &image.header {
            self.write_luks(job, "header", node, Some(&beginning), None).await?;
        }
        let Some(node) = &image.file else { return Ok(()) };
        let before = if detached { 0 } else { beginning.len };
        let Some(len) = image.size.0.checked_add(before) else {
            return Err(QmpError::generic("size: there is no image of that size"));
        };
        let how = preallocation(image.preallocation);
        let payload = Truncate { len: ByteLen(len), preallocation: how };
        let beginning = (!detached).then_some(&beginning);
        self.write_luks(job, "file", node, beginning, Some(payload)).await
    }

    /// Gives a node what a new image has there; what was there is gone.
    async fn write_luks(
        &self,
        job: &str,
        child: &str,
        node: &str,
        beginning: Option<&Beginning>,
        payload: Option<Truncate>,
    ) -> Result<(), QmpError> {
        let storage = self.writable(&format!("{job}.{child}"), node).await?;
        let done = storage.begin_luks(beginning, payload).await;
        let failed = |kind| QmpError::generic(format!("node '{node}': {kind}"));
        done.map_err(failed).and(self.release(storage).await)
    }

    async fn beginning(
        &self,
        image: &ImageOptions,
        encrypt: &Encrypt,
    ) -> Result<Beginning, QmpError> {
        let detached = image.header.is_some();
        if image.x_version != Some(2) {
            let Created { mut update, .. } = self.luks1(encrypt).await?;
            let len = update.header.payload_offset();
            if detached {
                update.header = update.header.detached();
            }
            return Ok(Beginning { steps: update.steps().into(), len });
        }
        let said = |error| QmpError::generic(format!("{error}"));
        let secret = self.secret(&encrypt.key_secret)?;
        let hash = encrypt.hash()?;
        let wanted_ms = encrypt.iter_time.unwrap_or(2000);
        let cost = match image.x_pbkdf.unwrap_or(Pbkdf::Argon2id) {
            Pbkdf::Pbkdf2 => {
                let iterations = self.iterations(hash, &secret, wanted_ms).await;
                Cost::Pbkdf2 { hash, iterations }
            }
            Pbkdf::Argon2id => self.argon2(&secret, wanted_ms, image.x_pbkdf_memory).await?,
        };
        let options = Luks2Options {
            cipher: encrypt.cipher()?,
            sector_size: image.x_sector_size.unwrap_or(512),
            hash,
            cost,
            // An eighth of the time is for the digest, as in version 1.
            digest_iterations: self.iterations(hash, &secret, wanted_ms / 8).await,
            keyslots_size: image.x_keyslots_size.map_or(Luks2Options::KEYSLOTS_SIZE, |size| size.0),
            detached,
        };
        let runtime = self.layer().runtime();
        let mut random = |bytes: &mut [u8]| runtime.fill_random(bytes);
        let made = Luks2::create_in_pieces(&options, secret.bytes(), &mut random, pause);
        Ok(Beginning { steps: made.await.map_err(said)?.0, len: options.payload_offset() })
    }

    /// A LUKS1 header and its key material, with a key that nobody can guess.
    pub(super) async fn luks_header(&self, encrypt: &Encrypt) -> Result<Vec<u8>, QmpError> {
        let update = self.luks1(encrypt).await?.update;
        let mut area = vec![0; ByteLen(update.header.payload_offset()).as_usize()];
        for Step { offset, bytes } in update.steps() {
            area[ByteLen(offset).as_usize()..][..bytes.len()].copy_from_slice(&bytes);
        }
        Ok(area)
    }

    async fn luks1(&self, encrypt: &Encrypt) -> Result<Created, QmpError> {
        let (cipher, hash) = (encrypt.cipher()?, encrypt.hash()?);
        let secret = self.secret(&encrypt.key_secret)?;
        let runtime = self.layer().runtime();
        let mut random = |bytes: &mut [u8]| runtime.fill_random(bytes);
        let slot = self.iterations(hash, &secret, encrypt.iter_time.unwrap_or(2000)).await;
        // An eighth of it is for the digest, as QEMU has it.
        let iterations = Iterations { slot, digest: (slot / 8).max(1000) };
        let (passphrase, random) = (secret.bytes(), &mut random);
        let made =
            Header::create_in_pieces(cipher, hash, passphrase, iterations, random, pause).await;
        made.map_err(|error| QmpError::generic(format!("{error}")))
    }

    /// How many rounds take so long here, and 1000 at least: in a world whose clock stands still, so many.
    pub(crate) async fn iterations(&self, hash: Hash, secret: &Secret, wanted_ms: u64) -> u32 {
        const TRIED: u32 = 1 << 14;
        let began = self.layer().runtime().now_ns();
        drop(hash.derive_in_pieces(secret.bytes(), &[0; 32], TRIED, 32, pause).await);
        let took_ns = self.layer().runtime().now_ns().saturating_sub(began);
        let rounds = u128::from(wanted_ms) * 1_000_000 * u128::from(TRIED);
        let rounds = rounds.checked_div(u128::from(took_ns)).unwrap_or(0);
        let most = u128::from(blockyard_crypto::MAX_ITERATIONS);
        u32::try_from(rounds.clamp(1000, most)).unwrap_or(blockyard_crypto::MAX_ITERATIONS)
    }

    /// What of Argon2id takes so long here: `most` KiB or 1 GiB, so often that it lasts, and less if four times take
    /// longer; in a world whose clock stands still, what is given, or the least that there is.
    async fn argon2(
        &self,
        secret: &Secret,
        wanted_ms: u64,
        most: Option<u32>,
    ) -> Result<Cost, QmpError> {
        const LANES: u32 = 4;
        const LEAST: u32 = 8 * LANES;
        const PASSES: u32 = 4;
        let said = |error| QmpError::generic(format!("x-pbkdf-memory: {error}"));
        let cost = |time, memory| Cost::Argon2 { id: true, time, memory, lanes: LANES };
        let most_memory = most.unwrap_or(1 << 20);
        cost(1, most_memory).check().map_err(said)?;
        let tried = most_memory.min(1 << 14);
        let began = self.layer().runtime().now_ns();
        let key = cost(1, tried).derive_in_pieces(secret.bytes(), &[0; 32], 32, pause).await;
        key.map_err(said)?;
        let took_ns = self.layer().runtime().now_ns().saturating_sub(began);
        let kib = u128::from(wanted_ms) * 1_000_000 * u128::from(tried);
        let Some(kib) = kib.checked_div(u128::from(took_ns)) else {
            return Ok(cost(PASSES, most.unwrap_or(LEAST)));
        };
        let memory = (kib / u128::from(PASSES)).clamp(LEAST.into(), most_memory.into());
        let passes = (kib / memory).clamp(PASSES.into(), 1 << 10);
        Ok(cost(passes as u32, memory as u32))
    }
}

impl Encrypt {
    fn cipher(&self) -> Result<CipherSpec, QmpError> {
        let Self { cipher_alg, cipher_mode, ivgen_alg, ivgen_hash_alg, .. } = self;
        let words = [cipher_alg, cipher_mode, ivgen_alg, ivgen_hash_alg].map(Option::as_deref);
        let [cipher_alg, cipher_mode, ivgen_alg, ivgen_hash_alg] = words;
        let cipher = CipherSpec::from_options(cipher_alg, cipher_mode, ivgen_alg, ivgen_hash_alg);
        cipher.map_err(|error| QmpError::generic(format!("{error}")))
    }

    fn hash(&self) -> Result<Hash, QmpError> {
        let hash = Hash::named(self.hash_alg.as_deref().unwrap_or("sha256"));
        hash.map_err(|error| QmpError::generic(format!("{error}")))
    }
}

impl NodeStorage {
    async fn begin_luks(
        &self,
        beginning: Option<&Beginning>,
        payload: Option<Truncate>,
    ) -> blockyard_runtime::Io<()> {
        self.truncate(ByteLen(0), false).await?;
        let len = ByteLen(beginning.map_or(0, |beginning| beginning.len));
        let whole = payload.unwrap_or(Truncate { len, preallocation: Preallocation::Off });
        self.send(Write::truncate(whole)).await?;
        for Step { offset, bytes } in beginning.into_iter().flat_map(|beginning| &beginning.steps) {
            self.write(*offset, bytes.clone().into(), false).await?;
        }
        self.flush().await
    }
}
