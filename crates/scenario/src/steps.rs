//! The shape of a scenario file, and its steps as they are run.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockyard_block::{ErrorPolicies, OnError, WriteFlags};
use blockyard_crypto::{CipherSpec, Cost, CryptoError, Hash, Luks2, Luks2Options};
use blockyard_drivers::dedup::{Dedup, DedupHeader};
use blockyard_models::data;
use blockyard_qcow2::{CreateOptions, ImageError, Piece, layout};
use blockyard_qmp::{Dict, Mode, Size, Value, VisitError, check_command, take, visit};
use blockyard_units::{ByteLen, ByteRange};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Deserialize;

use crate::latency::{DiskLatency, LatencyOptions};
use crate::request::{Asked, Request, words};

/// A disk as every run finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// Bytes; with none it is a file which is not there until a command makes it.
    pub size: u64,
    /// Bytes that it can grow to, where it is simulated; not less than its size.
    pub capacity: u64,
    /// Bytes, a power of two up to 64 KiB: what a simulated one takes requests in.
    pub alignment: u32,
    /// The tag of the data it is filled with; 0 for zeroes.
    pub fill_tag: u64,
    /// The image that it begins with, instead.
    pub image: Option<Arc<Vec<u8>>>,
    /// The key of the payload whose header that is.
    pub luks_key: Option<LuksKey>,
    /// How long a simulated one takes, in timed runs.
    pub latency: DiskLatency,
}

/// Of AES with 128 bits.
pub(crate) type LuksKey = [u8; 16];

impl DiskSpec {
    /// Whether it is there before a command makes it.
    pub fn is_there(&self) -> bool {
        self.size > 0
    }

    /// Whether there are only zeroes on it.
    pub fn is_blank(&self) -> bool {
        self.fill_tag == 0 && self.image.is_none()
    }

    /// What stands in `range`, which is inside.
    pub fn bytes(&self, range: ByteRange) -> Vec<u8> {
        let at = |offset: u64| ByteLen(offset).as_usize();
        match &self.image {
            Some(image) => image[at(range.start())..at(range.end())].to_vec(),
            None => {
                let mut bytes = vec![0; range.len().as_usize()];
                data::fill_pattern(self.fill_tag, range, &mut bytes);
                bytes
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DiskOptions {
    pub size: Option<Size>,
    pub capacity: Option<Size>,
    pub alignment: Option<Size>,
    pub fill: Option<Fill>,
    pub qcow2: Option<ImageOptions>,
    pub dedup: Option<DedupOptions>,
    pub luks: Option<LuksOptions>,
    pub latency: Option<LatencyOptions>,
}

/// An empty image, as `qemu-img create` has its options.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ImageOptions {
    pub size: Size,
    pub version: Option<Size>,
    pub cluster_size: Option<Size>,
    pub refcount_bits: Option<Size>,
    pub extended_l2: Option<bool>,
    pub backing_file: Option<String>,
    pub backing_fmt: Option<String>,
}

impl ImageOptions {
    /// The image.
    pub fn bytes(self) -> Result<Vec<u8>, ImageError> {
        let small = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
        let mut options = CreateOptions::new(self.size.0);
        options.version = self.version.map_or(options.version, small);
        options.cluster_size = self.cluster_size.map_or(options.cluster_size, |size| size.0);
        options.refcount_bits = self.refcount_bits.map_or(options.refcount_bits, small);
        options.extended_l2 = self.extended_l2.unwrap_or_default();
        options.backing = self.backing_file.map(|name| (name, self.backing_fmt));
        let mut image = Vec::new();
        for piece in layout(&options)? {
            let range = match &piece {
                Piece::Bytes(at, bytes) => ByteRange::new(*at, bytes.len() as u64),
                Piece::Zeroes(range) => *range,
            };
            let (start, end) = (ByteLen(range.start()).as_usize(), ByteLen(range.end()).as_usize());
            image.resize(image.len().max(end), 0);
            if let Piece::Bytes(_, bytes) = piece {
                image[start..end].copy_from_slice(&bytes);
            }
        }
        Ok(image)
    }
}

/// The metadata of an empty image of the driver `dedup`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DedupOptions {
    pub size: Size,
    pub cluster_size: Option<Size>,
}

impl DedupOptions {
    /// The image.
    pub fn bytes(self) -> Result<Vec<u8>, String> {
        let cluster = self.cluster_size.map_or(Dedup::CLUSTER, |size| size.0);
        let header = DedupHeader::new(cluster, self.size.0)?;
        let mut image = header.to_bytes();
        image.resize(ByteLen(header.metadata_len()).as_usize(), 0);
        Ok(image)
    }
}

/// The header of a LUKS image whose payload is elsewhere; a short one, that takes no time.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LuksOptions {
    pub passphrase: String,
}

impl LuksOptions {
    /// The header and its key material, with the same key each time, and that.
    pub fn bytes(self) -> Result<(Vec<u8>, LuksKey), CryptoError> {
        let hash = Hash::Sha256;
        let options = Luks2Options {
            cipher: CipherSpec::from_words("aes", "cbc-essiv:sha256", 16)?,
            sector_size: 512,
            hash,
            cost: Cost::Pbkdf2 { hash, iterations: 1 },
            digest_iterations: 1,
            keyslots_size: 64 << 10,
            detached: true,
        };
        let mut numbers = ChaCha8Rng::seed_from_u64(0);
        let mut random = |bytes: &mut [u8]| numbers.fill_bytes(bytes);
        let (steps, key) = Luks2::create(&options, self.passphrase.as_bytes(), &mut random)?;
        let mut image = vec![0; ByteLen(options.payload_offset()).as_usize()];
        for step in steps {
            image[ByteLen(step.offset).as_usize()..][..step.bytes.len()]
                .copy_from_slice(&step.bytes);
        }
        let key = key.bytes().try_into().expect("the-options-say-how-long-it-is");
        Ok((image, key))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fill {
    Zero,
    Unique,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BudgetOptions {
    pub faults: Option<u32>,
    pub crashes: Option<u32>,
}

/// A guest load, where a world has one: writes at random places, `every` so many nanoseconds, until the actors have
/// come to their end, or so many writes were made.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LoadOptions {
    pub device: String,
    pub length: Size,
    pub every: u64,
    pub writes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Expect {
    #[default]
    Ok,
    Error,
    Any,
    /// If it is refused, the actor ends.
    OrEnd,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ExecuteOptions {
    execute: String,
    arguments: Option<Dict>,
    expect: Option<Expect>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RequestOptions {
    device: String,
    offset: Size,
    length: Size,
    from: Option<Size>,
    fua: Option<bool>,
    unmap: Option<bool>,
    no_fallback: Option<bool>,
    serialising: Option<bool>,
    cancel_after: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FlushOptions {
    device: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DeviceOptions {
    id: String,
    node: String,
    resizes: Option<bool>,
    rerror: Option<OnErrorWord>,
    werror: Option<OnErrorWord>,
    expect: Option<Expect>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnErrorWord {
    Report,
    Ignore,
    Stop,
    Enospc,
}

fn on_error(word: Option<OnErrorWord>) -> OnError {
    match word {
        None | Some(OnErrorWord::Report) => OnError::Report,
        Some(OnErrorWord::Ignore) => OnError::Ignore,
        Some(OnErrorWord::Stop) => OnError::Stop,
        Some(OnErrorWord::Enospc) => OnError::Enospc,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WaitOptions {
    wait: String,
    data: Option<Dict>,
    or_end: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct OrEnd {
    event: String,
    data: Dict,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PathOptions {
    device: String,
    when: Option<BTreeMap<String, String>>,
    path: Vec<String>,
}

/// One thing that an actor does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Execute {
        command: String,
        arguments: Dict,
        expect: Expect,
    },
    Request {
        device: String,
        asked: Asked,
    },
    Flush {
        device: String,
    },
    Device {
        id: String,
        node: String,
        resizes: bool,
        policies: ErrorPolicies,
        expect: Expect,
    },
    /// Waits for an event; if one of the others comes first, the actor ends. Each is a name, and what its data contain.
    Wait {
        event: String,
        data: Dict,
        or_end: Vec<(String, Dict)>,
    },
    WaitLoad {
        writes: u64,
    },
    Either {
        branches: Vec<Vec<Step>>,
    },
    /// Again and again, until one of them ends the actor; nobody waits for its end.
    Always {
        steps: Vec<Step>,
    },
    CheckPath {
        device: String,
        when: BTreeMap<String, String>,
        path: Vec<String>,
    },
}

/// The keys by which a step is known.
const KINDS: &[&str] = &[
    "execute",
    "write",
    "read",
    "write-zeroes",
    "discard",
    "write-compressed",
    "copy-range",
    "block-status",
    "flush",
    "device",
    "wait",
    "wait-load",
    "either",
    "always",
    "check-path",
];

impl Step {
    /// Reads one step.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let Value::Dict(step) = value else { return Err("a step is an object".into()) };
        let kind = KINDS.iter().find(|kind| step.contains_key(kind));
        let kind = kind.ok_or_else(|| format!("a step has one of {}", KINDS.join(", ")))?;
        Self::parse_kind(kind, step.clone(), value)
    }

    fn parse_kind(kind: &str, mut step: Dict, whole: &Value) -> Result<Self, String> {
        let text = |error: VisitError| error.to_string();
        match kind {
            "execute" => {
                let ExecuteOptions { execute, arguments, expect } =
                    visit(whole, Mode::Strings).map_err(text)?;
                return Self::execute(&execute, arguments.unwrap_or_default(), expect);
            }
            "wait" => {
                let WaitOptions { wait, data, or_end } =
                    visit(whole, Mode::Strings).map_err(text)?;
                let or_end = or_end.unwrap_or_default().into_iter().map(|event| match event {
                    Value::Str(name) => Ok((name, Dict::new())),
                    event => {
                        let OrEnd { event, data } = visit(&event, Mode::Strings)?;
                        Ok((event, data))
                    }
                });
                let or_end = or_end.collect::<Result<_, VisitError>>();
                let or_end = or_end.map_err(|error| error.within("or-end").to_string())?;
                return Ok(Self::Wait { event: wait, data: data.unwrap_or_default(), or_end });
            }
            _ => {}
        }
        let inner: Value = step.remove(kind).unwrap_or(Value::Null);
        if let Some((other, _)) = step.iter().next() {
            return Err(format!("{other}: unexpected beside '{kind}'"));
        }
        let within = |error: VisitError| error.within(kind).to_string();
        Ok(match kind {
            "device" => {
                let DeviceOptions { id, node, resizes, rerror, werror, expect } =
                    visit(&inner, Mode::Strings).map_err(within)?;
                let policies = ErrorPolicies { read: on_error(rerror), write: on_error(werror) };
                let (resizes, expect) = (resizes.unwrap_or(false), expect.unwrap_or_default());
                // Whoever goes on without the device would have none.
                if matches!(expect, Expect::Any | Expect::Error) {
                    return Err("device: expect: 'ok' or 'or-end' is needed".into());
                }
                Self::Device { id, node, resizes, policies, expect }
            }
            "flush" => {
                let FlushOptions { device } = visit(&inner, Mode::Strings).map_err(within)?;
                Self::Flush { device }
            }
            "wait-load" => Self::WaitLoad { writes: visit(&inner, Mode::Strings).map_err(within)? },
            "check-path" => {
                let PathOptions { device, when, path } =
                    visit(&inner, Mode::Strings).map_err(within)?;
                Self::CheckPath { device, when: when.unwrap_or_default(), path }
            }
            "either" => Self::parse_either(&inner)?,
            "always" => Self::parse_always(&inner)?,
            _ => {
                let options: RequestOptions = visit(&inner, Mode::Strings).map_err(within)?;
                let device = options.device.clone();
                let asked = options.asked(request_kind(kind));
                let asked = asked.map_err(|error| format!("{kind}.{error}"))?;
                Self::Request { device, asked }
            }
        })
    }

    fn parse_either(inner: &Value) -> Result<Self, String> {
        let Value::List(branches) = inner else { return Err("either: a list of lists".into()) };
        if branches.is_empty() {
            return Err("either: at least one branch".into());
        }
        let branch =
            |branch: &Value| parse_steps(branch).map_err(|error| format!("either: {error}"));
        Ok(Self::Either { branches: branches.iter().map(branch).collect::<Result<_, _>>()? })
    }

    fn parse_always(inner: &Value) -> Result<Self, String> {
        let steps = parse_steps(inner).map_err(|error| format!("always: {error}"))?;
        let waits = |step: &Self| match step {
            Self::Wait { .. } => true,
            Self::Execute { command, .. } => command == "x-blkdebug-wait",
            _ => false,
        };
        if !steps.iter().any(waits) {
            return Err("always: a step is needed that waits".into());
        }
        Ok(Self::Always { steps })
    }

    /// A command whose arguments are in order.
    pub fn execute(command: &str, arguments: Dict, expect: Option<Expect>) -> Result<Self, String> {
        let checked = check_command(command, &arguments, Mode::Strings);
        checked.map_err(|error| format!("{command}: {error}"))?;
        Ok(Self::Execute { command: command.into(), arguments, expect: expect.unwrap_or_default() })
    }

    /// Calls `see` with this step, and with those inside it.
    pub fn visit_all(&self, see: &mut dyn FnMut(&Step)) {
        see(self);
        if let Self::Either { branches } = self {
            branches.iter().flatten().for_each(|step| step.visit_all(see));
        }
        if let Self::Always { steps } = self {
            steps.iter().for_each(|step| step.visit_all(see));
        }
    }
}

impl RequestOptions {
    fn asked(self, kind: Request) -> Result<Asked, String> {
        let (offset, length) = (self.offset.0, self.length.0);
        let behind = |start: u64| start.checked_add(length).is_none();
        if behind(offset) || self.from.is_some_and(|from| behind(from.0)) {
            return Err("offset: with the length it passes the end of all disks".into());
        }
        check_length(length).map_err(|error| format!("length: {error}"))?;
        let from = match (kind, self.from) {
            (Request::Copy, Some(from)) if from.0.abs_diff(offset).is_multiple_of(data::WORD) => {
                from.0
            }
            (Request::Copy, Some(_)) => {
                let word = data::WORD;
                return Err(format!("from: not a multiple of {word} bytes away from the offset"));
            }
            (Request::Copy, None) => return Err("from: missing".into()),
            (_, Some(_)) => return Err("from: unexpected".into()),
            (_, None) => 0,
        };
        let flags = WriteFlags {
            fua: self.fua.unwrap_or(false),
            serialising: self.serialising.unwrap_or(false),
            may_unmap: self.unmap.unwrap_or(false),
            no_fallback: self.no_fallback.unwrap_or(false),
            unchanged: false,
        };
        if let Some(flag) = words(flags).find(|flag| !kind.takes(flag)) {
            return Err(format!("{flag}: unexpected"));
        }
        let range = ByteRange::new(offset, length);
        Ok(Asked { kind, range, from, flags, cancel_after: self.cancel_after })
    }
}

/// No guest asks for more in one request; QEMU's limit too.
const REQUEST_MAX: u64 = (1 << 31) - 512;

/// Whether a guest's request may be so long.
pub(crate) fn check_length(length: u64) -> Result<(), String> {
    if length <= REQUEST_MAX {
        return Ok(());
    }
    Err(format!("{length} bytes; a request has {REQUEST_MAX} at most"))
}

fn request_kind(word: &str) -> Request {
    let kind = Request::ALL.iter().find(|kind| kind.word() == word);
    *kind.expect("every-other-kind-of-step-has-its-arm")
}

/// Reads a list of steps; errors say which.
pub(crate) fn parse_steps(value: &Value) -> Result<Vec<Step>, String> {
    let Value::List(steps) = value else { return Err("a list of steps is needed".into()) };
    let step =
        |(index, step)| Step::parse(step).map_err(|error| format!("step {}: {error}", index + 1));
    steps.iter().enumerate().map(step).collect()
}

/// Takes a member of a scenario's top level, if it is there.
pub(crate) fn member<T: serde::de::DeserializeOwned>(
    dict: &mut Dict,
    key: &'static str,
) -> Result<Option<T>, String> {
    take::<Option<T>>(dict, key, Mode::Strings).map_err(|error| error.to_string())
}
