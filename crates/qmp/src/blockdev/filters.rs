//! Filters with more than a child `file`: `blklogwrites`, `blkverify` and `preallocate`.
//!
//! Source: QEMU's QMP reference, BlockdevOptionsBlklogwrites, BlockdevOptionsBlkverify and BlockdevOptionsPreallocate,
//! with their defaults.

use blockyard_drivers::{LogOptions, PreallocateOptions};
use serde::Deserialize;
use serde::de::Error as _;

use super::{Child, General, Kind};
use crate::value::Reference;
use crate::visitor::{Mode, Size, VisitError};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BlklogwritesOptions {
    file: Reference,
    log: Reference,
    log_sector_size: Option<u32>,
    log_append: Option<bool>,
    log_super_update_interval: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BlkverifyOptions {
    raw: Reference,
    test: Reference,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PreallocOptions {
    file: Option<Reference>,
    prealloc_align: Option<Size>,
    prealloc_size: Option<Size>,
}

pub(super) fn blklogwrites(
    options: BlklogwritesOptions,
    general: General,
    mode: Mode,
) -> Result<Kind, VisitError> {
    let BlklogwritesOptions { file, log, log_sector_size, log_append, .. } = options;
    let custom = |key, said: &str| Err(VisitError::custom(said).within(key));
    let possible = |size: &u32| size.is_power_of_two() && LogOptions::SECTORS.contains(size);
    if log_sector_size.is_some_and(|size| !possible(&size)) {
        let said = "must be a power of two from 512 bytes to 64 KiB";
        return custom("log-sector-size", said);
    }
    let super_interval = options.log_super_update_interval.unwrap_or(LogOptions::INTERVAL);
    if super_interval == 0 {
        return custom("log-super-update-interval", "must be at least 1");
    }
    let append = log_append.unwrap_or(false);
    Ok(Kind::Blklogwrites {
        file: Child::parse("file", Some(file), general, mode)?,
        log: Child::parse("log", Some(log), general, mode)?,
        options: LogOptions { sector_size: log_sector_size, append, super_interval },
    })
}

pub(super) fn blkverify(
    options: BlkverifyOptions,
    general: General,
    mode: Mode,
) -> Result<Kind, VisitError> {
    let BlkverifyOptions { raw, test } = options;
    Ok(Kind::Blkverify {
        raw: Child::parse("raw", Some(raw), general, mode)?,
        test: Child::parse("test", Some(test), general, mode)?,
    })
}

pub(super) fn preallocate(
    options: PreallocOptions,
    general: General,
    mode: Mode,
) -> Result<Kind, VisitError> {
    let PreallocOptions { file, prealloc_align, prealloc_size } = options;
    let default = PreallocateOptions::default();
    let options = PreallocateOptions {
        align: prealloc_align.map_or(default.align, |size| size.0),
        size: prealloc_size.map_or(default.size, |size| size.0),
    };
    if options.align == 0 || !options.align.is_multiple_of(512) {
        let said = "must be a multiple of 512 bytes";
        return Err(VisitError::custom(said).within("prealloc-align"));
    }
    Ok(Kind::Preallocate { file: Child::parse("file", file, general, mode)?, options })
}
