//! What `blockdev-add` is told about a node, typed and checked, before anything is opened.
//!
//! Invariant `nothing-is-ignored`: an option that is not implemented is refused, unless it asks for what is done
//! anyway.
//! Source: QEMU's documented options of every node, their names and defaults, and what qemu-storage-daemon 10.0 does:
//! `discard` is `ignore` where it is left out, but `unmap` of a child defined in place; such a child is read-only,
//! auto-read-only and force-share as its parent is, and read and written past the page cache if that is. Differs: the
//! sizes of `memory` and `null-co` and the bytes of a limit take suffixes, where QEMU wants numbers; errors name the
//! whole dotted key.

mod overlap;
mod quorum;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::LONGEST;
use blockyard_drivers::{LogOptions, Overlay, PreallocateOptions, QuorumOptions};
use blockyard_graph::{DetectZeroes, Discard, NodeAttributes, NodeOptions};
use blockyard_qcow2::{OverlapChecks, TableCaches};
use serde::Deserialize;
use serde::de::Error as _;

use crate::blkdebug::{BlkdebugOptions, DebugRules};
use crate::nodes::Aio;
use crate::throttling::{Held, Limits};
use crate::value::{Dict, Reference, ReferenceOrNull, Value};
use crate::visitor::{Mode, Problem, Size, VisitError, take, visit};

mod filters;

/// The drivers that `blockdev-add` knows.
pub const DRIVERS: &[&str] = &[
    "blkdebug",
    "blklogwrites",
    "blkverify",
    "compress",
    "copy-on-read",
    "dedup",
    "file",
    "luks",
    "memory",
    "null-co",
    "overlay",
    "preallocate",
    "qcow2",
    "quorum",
    "raw",
    "snapshot-access",
    "throttle",
];

/// A node's options.
pub(crate) struct Blockdev {
    pub driver: &'static str,
    pub name: Option<String>,
    pub general: General,
    pub kind: Kind,
}

/// What every node may be told, and what a child defined in place has from its parent.
#[derive(Clone, Copy, Default)]
pub(crate) struct General {
    pub read_only: bool,
    pub cache: Cache,
    pub options: NodeOptions,
}

/// What is made of the memory between a file and its disk.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cache {
    /// Nothing.
    pub direct: bool,
    /// Flushes do nothing.
    pub no_flush: bool,
}

/// What a driver asks for.
pub(crate) enum Kind {
    Blkdebug {
        image: Child,
        rules: DebugRules,
    },
    Blklogwrites {
        file: Child,
        log: Child,
        options: LogOptions,
    },
    Blkverify {
        raw: Child,
        test: Child,
    },
    Compress {
        file: Child,
    },
    CopyOnRead {
        file: Child,
        bottom: Option<String>,
    },
    Dedup {
        metadata: Child,
        data: Child,
    },
    File {
        filename: String,
        locking: bool,
        cache: Cache,
        aio: Option<Aio>,
    },
    Luks {
        file: Child,
        header: Child,
        key_secret: String,
    },
    Memory {
        size: u64,
    },
    Null {
        size: u64,
    },
    Overlay {
        size: Option<u64>,
        cluster_size: u64,
        backing: Option<Child>,
    },
    Preallocate {
        file: Child,
        options: PreallocateOptions,
    },
    Qcow2 {
        file: Child,
        data_file: Child,
        backing: Option<Child>,
        caches: TableCaches,
        checks: OverlapChecks,
        read_only: bool,
        key_secret: Option<String>,
    },
    Quorum {
        children: Vec<Child>,
        options: QuorumOptions,
    },
    Raw {
        file: Child,
    },
    SnapshotAccess {
        file: Child,
    },
    Throttle {
        file: Child,
        held: Held,
    },
}

/// A child: by name, defined in place, or left out.
pub(crate) enum Child {
    Named(String),
    Defined(Box<Blockdev>),
    LeftOut,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileOptions {
    filename: String,
    locking: Option<OnOffAuto>,
    aio: Option<Aio>,
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnOffAuto {
    On,
    Off,
    Auto,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SizeOptions {
    size: Size,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ChildOptions {
    file: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct CopyOnReadOptions {
    file: Option<Reference>,
    bottom: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DedupOptions {
    metadata: Reference,
    data: Reference,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LuksOptions {
    file: Option<Reference>,
    header: Option<Reference>,
    key_secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct OverlayOptions {
    size: Option<Size>,
    cluster_size: Option<Size>,
    backing: Option<ReferenceOrNull>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Qcow2Options {
    file: Option<Reference>,
    data_file: Option<Reference>,
    backing: Option<ReferenceOrNull>,
    cache_size: Option<Size>,
    l2_cache_size: Option<Size>,
    l2_cache_entry_size: Option<Size>,
    refcount_cache_size: Option<Size>,
    overlap_check: Option<Reference>,
    cache_clean_interval: Option<u64>,
    encrypt: Option<EncryptOptions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EncryptOptions {
    format: Encryption,
    key_secret: Option<String>,
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encryption {
    Aes,
    Luks,
}

impl EncryptOptions {
    /// The id of the secret.
    fn key_secret(self) -> Result<String, VisitError> {
        if self.format == Encryption::Aes {
            let said = Problem::Invalid("not implemented; only 'luks' is".into());
            return Err(VisitError::from(said).within("format"));
        }
        self.key_secret.ok_or_else(|| VisitError::missing_field("key-secret"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ThrottleOptions {
    file: Option<Reference>,
    limits: Option<Limits>,
    throttle_group: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DiscardWord {
    Ignore,
    Unmap,
}

impl From<DiscardWord> for Discard {
    fn from(word: DiscardWord) -> Self {
        match word {
            DiscardWord::Ignore => Self::Ignore,
            DiscardWord::Unmap => Self::Unmap,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DetectZeroesWord {
    Off,
    On,
    Unmap,
}

impl From<DetectZeroesWord> for DetectZeroes {
    fn from(word: DetectZeroesWord) -> Self {
        match word {
            DetectZeroesWord::Off => Self::Off,
            DetectZeroesWord::On => Self::On,
            DetectZeroesWord::Unmap => Self::Unmap,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct CacheOptions {
    direct: Option<bool>,
    no_flush: Option<bool>,
}

impl Blockdev {
    /// Reads and checks what `blockdev-add` is given: a node that has a name, and all of its children.
    pub fn parse(options: Dict, mode: Mode) -> Result<Self, VisitError> {
        let node = Self::parse_filter(options, mode)?;
        match node.name {
            Some(_) => node.whole(),
            None => Err(VisitError::missing_field("node-name")),
        }
    }

    /// Reads and checks options whose `file` may be left out, as a filter's that is put into a graph.
    pub fn parse_filter(options: Dict, mode: Mode) -> Result<Self, VisitError> {
        Self::parse_under(General::default(), options, mode)
    }

    fn parse_under(inherited: General, mut options: Dict, mode: Mode) -> Result<Self, VisitError> {
        let driver = known_driver(&take::<String>(&mut options, "driver", mode)?)?;
        let name = take::<Option<String>>(&mut options, "node-name", mode)?;
        if let Some(name) = &name {
            check_name(name).map_err(|error| error.within("node-name"))?;
        }
        let general = inherited.parse(&mut options, mode)?;
        if general.cache.no_flush && driver != "file" {
            let said = Problem::Invalid("not implemented yet; only 'off' is".into());
            return Err(VisitError::from(said).within("cache.no-flush"));
        }
        let kind = Kind::parse(driver, general, &Value::Dict(options), mode)?;
        Ok(Self { driver, name, general, kind })
    }

    /// Refuses a node whose child was left out.
    fn whole(self) -> Result<Self, VisitError> {
        match self.kind {
            Kind::Raw { file: Child::LeftOut }
            | Kind::SnapshotAccess { file: Child::LeftOut }
            | Kind::Compress { file: Child::LeftOut }
            | Kind::CopyOnRead { file: Child::LeftOut, .. }
            | Kind::Preallocate { file: Child::LeftOut, .. }
            | Kind::Qcow2 { file: Child::LeftOut, .. }
            | Kind::Luks { file: Child::LeftOut, .. }
            | Kind::Throttle { file: Child::LeftOut, .. } => Err(VisitError::missing_field("file")),
            _ => Ok(self),
        }
    }
}

impl General {
    /// What `options` say; `self` where they say nothing.
    fn parse(mut self, options: &mut Dict, mode: Mode) -> Result<Self, VisitError> {
        let mut flag = |key: &'static str, inherited: &mut bool| {
            let said = take::<Option<bool>>(options, key, mode)?;
            *inherited = said.unwrap_or(*inherited);
            Ok::<(), VisitError>(())
        };
        flag("read-only", &mut self.read_only)?;
        flag("auto-read-only", &mut self.options.auto_read_only)?;
        flag("force-share", &mut self.options.force_share)?;
        if self.options.force_share && !self.read_only {
            let said = "only a read-only node can be shared so; 'read-only' is to be on";
            return Err(VisitError::custom(said).within("force-share"));
        }
        if let Some(cache) = take::<Option<CacheOptions>>(options, "cache", mode)? {
            self.cache.direct = cache.direct.unwrap_or(self.cache.direct);
            self.cache.no_flush = cache.no_flush.unwrap_or(self.cache.no_flush);
        }
        if let Some(discard) = take::<Option<DiscardWord>>(options, "discard", mode)? {
            self.options.discard = discard.into();
        }
        let detect = take::<Option<DetectZeroesWord>>(options, "detect-zeroes", mode)?;
        self.options.detect_zeroes = detect.map_or(DetectZeroes::Off, Into::into);
        let NodeOptions { discard, detect_zeroes, .. } = self.options;
        if detect_zeroes == DetectZeroes::Unmap && discard == Discard::Ignore {
            let said = "'unmap' is possible only with discard 'unmap'";
            return Err(VisitError::custom(said).within("detect-zeroes"));
        }
        Ok(self)
    }

    /// The attributes of a node that is told this.
    pub fn over(self, attributes: NodeAttributes) -> NodeAttributes {
        NodeAttributes { read_only: self.read_only, options: self.options, ..attributes }
    }

    /// What a child defined in place has from a node with these: what nobody asked for is not passed down to it.
    fn for_child(mut self) -> Self {
        self.cache.no_flush = false;
        self.options.discard = Discard::Unmap;
        self.options.detect_zeroes = DetectZeroes::Off;
        self
    }
}

impl Kind {
    fn parse(
        driver: &str,
        general: General,
        options: &Value,
        mode: Mode,
    ) -> Result<Self, VisitError> {
        let size =
            || -> Result<u64, VisitError> { Ok(visit::<SizeOptions>(options, mode)?.size.0) };
        Ok(match driver {
            "blkdebug" => {
                let options: BlkdebugOptions = visit(options, mode)?;
                let rules = options.rules()?;
                Self::Blkdebug {
                    image: Child::parse("image", Some(options.image), general, mode)?,
                    rules,
                }
            }
            "blklogwrites" => filters::blklogwrites(visit(options, mode)?, general, mode)?,
            "blkverify" => filters::blkverify(visit(options, mode)?, general, mode)?,
            "compress" => {
                let ChildOptions { file } = visit(options, mode)?;
                Self::Compress { file: Child::parse("file", file, general, mode)? }
            }
            "copy-on-read" => {
                let CopyOnReadOptions { file, bottom } = visit(options, mode)?;
                Self::CopyOnRead { file: Child::parse("file", file, general, mode)?, bottom }
            }
            "dedup" => {
                let DedupOptions { metadata, data } = visit(options, mode)?;
                Self::Dedup {
                    metadata: Child::parse("metadata", Some(metadata), general, mode)?,
                    data: Child::parse("data", Some(data), general, mode)?,
                }
            }
            "file" => {
                let FileOptions { filename, locking, aio } = visit(options, mode)?;
                let locking = locking != Some(OnOffAuto::Off);
                Self::File { filename, locking, cache: general.cache, aio }
            }
            "luks" => {
                let LuksOptions { file, header, key_secret } = visit(options, mode)?;
                let file = Child::parse("file", file, general, mode)?;
                Self::Luks {
                    file,
                    header: Child::parse("header", header, general, mode)?,
                    key_secret,
                }
            }
            "memory" => Self::Memory { size: check_size(size()?, MEMORY_MAX)? },
            "null-co" => Self::Null { size: check_size(size()?, LONGEST)? },
            "overlay" => Self::overlay(visit(options, mode)?, general, mode)?,
            "preallocate" => filters::preallocate(visit(options, mode)?, general, mode)?,
            "qcow2" => Self::qcow2(visit(options, mode)?, general, mode)?,
            "quorum" => quorum::parse(visit(options, mode)?, general, mode)?,
            "raw" => {
                let ChildOptions { file } = visit(options, mode)?;
                Self::Raw { file: Child::parse("file", file, general, mode)? }
            }
            "snapshot-access" => {
                let ChildOptions { file } = visit(options, mode)?;
                Self::SnapshotAccess { file: Child::parse("file", file, general, mode)? }
            }
            _ => {
                let ThrottleOptions { file, limits, throttle_group } = visit(options, mode)?;
                let file = Child::parse("file", file, general, mode)?;
                Self::Throttle { file, held: Held::parse(limits, throttle_group)? }
            }
        })
    }

    fn overlay(options: OverlayOptions, general: General, mode: Mode) -> Result<Self, VisitError> {
        let OverlayOptions { size, cluster_size, backing } = options;
        let cluster_size = cluster_size.map_or(Overlay::CLUSTER, |size| size.0);
        if !Overlay::is_cluster_size(cluster_size) {
            let desc = "must be a power of two from 512 bytes to 2 MiB";
            return Err(VisitError::custom(desc).within("cluster-size"));
        }
        let backing = Child::parse_backing(backing, general, mode)?;
        if let Some(Size(size)) = size {
            check_size(size, LONGEST)?;
        }
        Ok(Self::Overlay { size: size.map(|size| size.0), cluster_size, backing })
    }
}

impl Kind {
    fn qcow2(options: Qcow2Options, general: General, mode: Mode) -> Result<Self, VisitError> {
        let Qcow2Options { file, data_file, backing, .. } = options;
        let Qcow2Options { cache_size, l2_cache_size, l2_cache_entry_size, .. } = options;
        let Qcow2Options { refcount_cache_size, cache_clean_interval, .. } = options;
        let Qcow2Options { overlap_check, encrypt, .. } = options;
        let key_secret = encrypt.map(EncryptOptions::key_secret).transpose();
        let key_secret = key_secret.map_err(|error| error.within("encrypt"))?;
        let checks = overlap::parse(overlap_check, mode);
        let checks = checks.map_err(|error| error.within("overlap-check"))?;
        let bytes = |size: Option<Size>| size.map(|size| size.0);
        let caches = TableCaches {
            all: bytes(cache_size),
            l2: bytes(l2_cache_size),
            refcount: bytes(refcount_cache_size),
            l2_entry: bytes(l2_cache_entry_size),
            clean_interval: cache_clean_interval.unwrap_or(0),
        };
        caches.check().map_err(VisitError::custom)?;
        Ok(Self::Qcow2 {
            file: Child::parse("file", file, general, mode)?,
            data_file: Child::parse("data-file", data_file, general, mode)?,
            // What is below is only read.
            backing: Child::parse_backing(backing, General { read_only: true, ..general }, mode)?,
            caches,
            checks,
            read_only: general.read_only,
            key_secret,
        })
    }
}

impl Blockdev {
    /// Options that an image names for its data file, which has the rest from the image.
    pub fn parse_data_file(image: General, options: Dict, mode: Mode) -> Result<Self, VisitError> {
        Self::parse_under(image.for_child(), options, mode).and_then(Self::whole)
    }
}

impl Child {
    /// The child `backing`; none where there is to be none.
    fn parse_backing(
        backing: Option<ReferenceOrNull>,
        parent: General,
        mode: Mode,
    ) -> Result<Option<Self>, VisitError> {
        Ok(match backing {
            Some(ReferenceOrNull::Reference(reference)) => {
                Some(Self::parse("backing", Some(reference), parent, mode)?)
            }
            None => Some(Self::LeftOut),
            Some(ReferenceOrNull::Null) => None,
        })
    }

    /// `key`: its name at its parent.
    fn parse(
        key: &'static str,
        reference: Option<Reference>,
        parent: General,
        mode: Mode,
    ) -> Result<Self, VisitError> {
        Ok(match reference {
            None => Self::LeftOut,
            Some(Reference::Name(name)) => Self::Named(name),
            Some(Reference::Definition(options)) => {
                let child = Blockdev::parse_under(parent.for_child(), options, mode);
                let child = child.and_then(Blockdev::whole).map_err(|error| error.within(key));
                Self::Defined(Box::new(child?))
            }
        })
    }
}

/// Bytes that a memory node may have.
const MEMORY_MAX: u64 = 1 << 30;

fn check_size(size: u64, max: u64) -> Result<u64, VisitError> {
    if size <= max {
        return Ok(size);
    }
    let message = format!("{size} bytes; such a node has {max} at most");
    Err(VisitError::custom(message).within("size"))
}

fn known_driver(name: &str) -> Result<&'static str, VisitError> {
    DRIVERS
        .iter()
        .copied()
        .find(|known| *known == name)
        .ok_or_else(|| VisitError::unknown_variant(name, DRIVERS).within("driver"))
}

/// Whether a user may call a thing so.
pub(crate) fn is_identifier(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(rest)
}

/// Refuses a node-name that a user may not give.
pub(crate) fn check_name(name: &str) -> Result<(), VisitError> {
    if is_identifier(name) && name.len() < 32 {
        Ok(())
    } else {
        Err(VisitError::custom(format!("invalid node-name '{name}'")))
    }
}
