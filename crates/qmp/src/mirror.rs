//! `blockdev-mirror`: what it is told, and the mirror made ready.

use alloc::format;
use alloc::string::String;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::OnError;
use blockyard_jobs::{MirrorOptions, MirrorPolicies, MirrorStart, SyncMode, check_job_id};
use blockyard_units::{ByteLen, CopyMode};
use serde::Deserialize;

use crate::blockdev::check_name;
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::node_or_root;
use crate::visitor::Size;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sync {
    Full,
    Top,
    None,
    Incremental,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MirrorCopyMode {
    Background,
    WriteBlocking,
}

impl From<MirrorCopyMode> for CopyMode {
    fn from(word: MirrorCopyMode) -> Self {
        match word {
            MirrorCopyMode::Background => Self::Passive,
            MirrorCopyMode::WriteBlocking => Self::Active,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevMirror {
    job_id: Option<String>,
    device: String,
    target: String,
    sync: Sync,
    /// Only of ours: which bitmap says what an incremental one copies.
    bitmap: Option<String>,
    replaces: Option<String>,
    speed: Option<u64>,
    buf_size: Option<Size>,
    on_source_error: Option<OnErrorWord>,
    on_target_error: Option<OnErrorWord>,
    granularity: Option<Size>,
    copy_mode: Option<MirrorCopyMode>,
    filter_node_name: Option<String>,
    auto_finalize: Option<bool>,
    auto_dismiss: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnErrorWord {
    Report,
    Ignore,
    Enospc,
    Stop,
    Auto,
}

pub(crate) fn on_error(word: Option<OnErrorWord>) -> OnError {
    match word {
        None | Some(OnErrorWord::Report) => OnError::Report,
        Some(OnErrorWord::Ignore) => OnError::Ignore,
        // So QEMU's jobs take it, whatever the device does.
        Some(OnErrorWord::Enospc | OnErrorWord::Auto) => OnError::Enospc,
        Some(OnErrorWord::Stop) => OnError::Stop,
    }
}

/// QEMU's default, for targets without clusters of their own.
const DEFAULT_GRANULARITY: ByteLen = ByteLen(65536);
/// QEMU's limit: a chunk is copied at once.
const MOST_GRANULARITY: ByteLen = ByteLen(64 << 20);
/// QEMU's default.
const DEFAULT_BUFFER: ByteLen = ByteLen(16 << 20);

pub(crate) fn granularity(asked: Option<&Size>) -> ByteLen {
    asked.map_or(DEFAULT_GRANULARITY, |size| ByteLen(size.0))
}

pub(crate) fn check_granularity(granularity: ByteLen) -> Result<(), QmpError> {
    DirtyBitmap::check_granularity(granularity)
        .map_err(|error| QmpError::generic(format!("granularity: {error}")))?;
    if granularity > MOST_GRANULARITY {
        let why = format!("granularity: it is at most {MOST_GRANULARITY} bytes");
        return Err(QmpError::generic(why));
    }
    Ok(())
}

pub(crate) fn check_filter_name(told: Option<&str>) -> Result<(), QmpError> {
    let named = told.map_or(Ok(()), check_name);
    Ok(named.map_err(|error| error.within("filter-node-name"))?)
}

/// Of 0 bytes it is the default.
pub(crate) fn buffer(asked: Option<&Size>) -> ByteLen {
    asked.map(|size| ByteLen(size.0)).filter(|bytes| bytes.0 > 0).unwrap_or(DEFAULT_BUFFER)
}

/// What every job is told, or is if it is not told.
macro_rules! job_options {
    ($arguments:expr) => {
        blockyard_jobs::JobOptions {
            name: $arguments.job_id().into(),
            auto_finalize: $arguments.auto_finalize.unwrap_or(true),
            auto_dismiss: $arguments.auto_dismiss.unwrap_or(true),
            speed: $arguments.speed.unwrap_or(0),
        }
    };
}
pub(crate) use job_options;

impl BlockdevMirror {
    fn job_id(&self) -> &str {
        self.job_id.as_deref().unwrap_or(&self.device)
    }

    fn sync(&self) -> Result<SyncMode, QmpError> {
        match (&self.sync, &self.bitmap) {
            (Sync::Full, None) => Ok(SyncMode::Full),
            (Sync::Top, None) => Ok(SyncMode::Top),
            (Sync::None, None) => Ok(SyncMode::None),
            (Sync::Incremental, Some(bitmap)) => {
                Ok(SyncMode::Incremental { bitmap: bitmap.clone() })
            }
            (Sync::Incremental, None) => {
                let desc =
                    "sync: to copy what has changed, give the bitmap that knows it as 'bitmap'";
                Err(QmpError::generic(desc))
            }
            (_, Some(_)) => {
                Err(QmpError::generic("bitmap: it is of use with sync 'incremental' only"))
            }
        }
    }

    /// Checks what needs no layer.
    pub fn check(&self) -> Result<(), QmpError> {
        check_job_id(self.job_id())?;
        self.sync()?;
        check_granularity(granularity(self.granularity.as_ref()))?;
        check_filter_name(self.filter_node_name.as_deref())
    }
}

impl Monitor {
    pub(crate) fn mirror(&self, arguments: BlockdevMirror) -> Result<MirrorStart, QmpError> {
        arguments.check()?;
        let (job, sync) = (job_options!(arguments), arguments.sync()?);
        let copy_mode =
            match (arguments.copy_mode.map(CopyMode::from), self.layer().design().mirror) {
                (None, by_default) => by_default,
                (Some(CopyMode::Passive), CopyMode::SourceBitmap) => CopyMode::SourceBitmap,
                (Some(mode), _) => mode,
            };
        let graph = self.layer().graph();
        let source = node_or_root(&graph, &arguments.device)?;
        let options = MirrorOptions {
            job,
            source: graph.node(source).map(|node| node.name.clone()).unwrap_or_default(),
            target: arguments.target,
            sync,
            copy_mode,
            granularity: granularity(arguments.granularity.as_ref()),
            buffer: buffer(arguments.buf_size.as_ref()),
            replaces: arguments.replaces,
            commit: None,
            policies: MirrorPolicies {
                source: on_error(arguments.on_source_error),
                target: on_error(arguments.on_target_error),
            },
            filter_name: self.filter_name(arguments.filter_node_name),
        };
        Ok(MirrorStart::new(self.layer(), self.jobs(), options)?)
    }

    pub(crate) fn filter_name(&self, told: Option<String>) -> String {
        told.unwrap_or_else(|| self.layer().generate_name())
    }
}
