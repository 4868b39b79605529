//! What `blockdev-add` is told about a node, typed and checked, before anything is opened.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use blockyard_drivers::Overlay;
use serde::Deserialize;

use crate::blkdebug::{BlkdebugOptions, DebugRules};
use crate::error::QmpError;
use crate::value::{Dict, Reference, ReferenceOrNull, Value};
use crate::visitor::{Mode, Size, VisitError, take, visit};

/// The drivers that `blockdev-add` knows.
pub const DRIVERS: &[&str] =
    &["blkdebug", "copy-on-read", "file", "memory", "null-co", "overlay", "raw", "throttle"];

/// A node's options.
pub(crate) struct Blockdev {
    pub driver: &'static str,
    pub name: Option<String>,
    pub read_only: bool,
    pub kind: Kind,
}

/// What a driver asks for.
pub(crate) enum Kind {
    Blkdebug { image: Child, rules: DebugRules },
    CopyOnRead { file: Child, bottom: Option<String> },
    File { filename: String, locking: bool },
    Memory { size: u64 },
    Null { size: u64 },
    Overlay { size: Option<u64>, cluster_size: u64, backing: Option<Child> },
    Raw { file: Child },
    Throttle { file: Child, bps_total: u64, iops_total: u64 },
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
struct OverlayOptions {
    size: Option<Size>,
    cluster_size: Option<Size>,
    backing: Option<ReferenceOrNull>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ThrottleOptions {
    file: Option<Reference>,
    limits: Option<Limits>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Limits {
    bps_total: Option<Size>,
    iops_total: Option<u64>,
}

impl Blockdev {
    /// Reads and checks options.
    pub fn parse(mut options: Dict, mode: Mode) -> Result<Self, QmpError> {
        let driver = known_driver(&take::<String>(&mut options, "driver", mode)?)?;
        let name = take::<Option<String>>(&mut options, "node-name", mode)?;
        let name = name.map(check_name).transpose()?;
        let read_only = take::<Option<bool>>(&mut options, "read-only", mode)?.unwrap_or(false);
        let kind = Kind::parse(driver, &Value::Dict(options), mode)?;
        Ok(Self { driver, name, read_only, kind })
    }
}

impl Kind {
    fn parse(driver: &str, options: &Value, mode: Mode) -> Result<Self, QmpError> {
        let size =
            || -> Result<u64, VisitError> { Ok(visit::<SizeOptions>(options, mode)?.size.0) };
        Ok(match driver {
            "blkdebug" => {
                let options: BlkdebugOptions = visit(options, mode)?;
                let rules = options.rules()?;
                Self::Blkdebug { image: Child::parse(Some(options.image), mode)?, rules }
            }
            "copy-on-read" => {
                let CopyOnReadOptions { file, bottom } = visit(options, mode)?;
                Self::CopyOnRead { file: Child::parse(file, mode)?, bottom }
            }
            "file" => {
                let FileOptions { filename, locking } = visit(options, mode)?;
                Self::File { filename, locking: locking != Some(OnOffAuto::Off) }
            }
            "memory" => Self::Memory { size: size()? },
            "null-co" => Self::Null { size: size()? },
            "overlay" => Self::overlay(visit(options, mode)?, mode)?,
            "raw" => {
                let ChildOptions { file } = visit(options, mode)?;
                Self::Raw { file: Child::parse(file, mode)? }
            }
            _ => {
                let ThrottleOptions { file, limits } = visit(options, mode)?;
                let limits = limits.unwrap_or_default();
                Self::Throttle {
                    file: Child::parse(file, mode)?,
                    bps_total: limits.bps_total.map_or(0, |size| size.0),
                    iops_total: limits.iops_total.unwrap_or(0),
                }
            }
        })
    }

    fn overlay(options: OverlayOptions, mode: Mode) -> Result<Self, QmpError> {
        let OverlayOptions { size, cluster_size, backing } = options;
        let cluster_size = cluster_size.map_or(Overlay::CLUSTER, |size| size.0);
        if !Overlay::is_cluster_size(cluster_size) {
            let desc = "cluster-size: must be a power of two from 512 bytes to 2 MiB";
            return Err(QmpError::generic(desc));
        }
        let backing = match backing {
            Some(ReferenceOrNull::Reference(reference)) => {
                Some(Child::parse(Some(reference), mode)?)
            }
            None | Some(ReferenceOrNull::Null) => None,
        };
        Ok(Self::Overlay { size: size.map(|size| size.0), cluster_size, backing })
    }
}

impl Child {
    fn parse(reference: Option<Reference>, mode: Mode) -> Result<Self, QmpError> {
        Ok(match reference {
            None => Self::LeftOut,
            Some(Reference::Name(name)) => Self::Named(name),
            Some(Reference::Definition(options)) => {
                Self::Defined(Box::new(Blockdev::parse(options, mode)?))
            }
        })
    }
}

fn known_driver(name: &str) -> Result<&'static str, QmpError> {
    DRIVERS.iter().copied().find(|known| *known == name).ok_or_else(|| {
        QmpError::generic(format!("unknown driver '{name}'; known are {}", DRIVERS.join(", ")))
    })
}

/// A node-name that a user may give.
pub(crate) fn check_name(name: String) -> Result<String, QmpError> {
    let rest = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let fine = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(rest)
        && name.len() < 32;
    if fine { Ok(name) } else { Err(QmpError::generic(format!("invalid node-name '{name}'"))) }
}
