//! `blockdev-backup`: what it is told, and the backup made ready.
//!
//! Source: QEMU's QMP reference. Differs: `granularity` and `cbw-timeout` are of ours alone; of `x-perf`, `max-workers`
//! and `max-chunk` are known.

use alloc::string::String;

use blockyard_graph::Graph;
use blockyard_jobs::{
    BackupOptions, BackupStart, BitmapMode, BitmapUse, MirrorPolicies, OnCbwError, SyncMode,
    check_job_id,
};
use blockyard_units::ByteLen;
use serde::Deserialize;

use crate::error::QmpError;
use crate::mirror::{
    OnErrorWord, check_filter_name, check_granularity, granularity, job_options, on_error,
};
use crate::monitor::Monitor;
use crate::nodes::node_or_root;
use crate::visitor::Size;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sync {
    Full,
    Top,
    None,
    Incremental,
    Bitmap,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum BitmapModeWord {
    OnSuccess,
    Never,
    Always,
}

impl From<BitmapModeWord> for BitmapMode {
    fn from(word: BitmapModeWord) -> Self {
        match word {
            BitmapModeWord::OnSuccess => Self::OnSuccess,
            BitmapModeWord::Never => Self::Never,
            BitmapModeWord::Always => Self::Always,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnCbwErrorWord {
    BreakGuestWrite,
    BreakSnapshot,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Perf {
    max_workers: Option<u64>,
    max_chunk: Option<Size>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevBackup {
    job_id: Option<String>,
    device: String,
    target: String,
    sync: Sync,
    bitmap: Option<String>,
    bitmap_mode: Option<BitmapModeWord>,
    discard_source: Option<bool>,
    compress: Option<bool>,
    speed: Option<u64>,
    on_source_error: Option<OnErrorWord>,
    on_target_error: Option<OnErrorWord>,
    on_cbw_error: Option<OnCbwErrorWord>,
    /// Only of ours: seconds; 0 is without limit.
    cbw_timeout: Option<u32>,
    /// Only of ours.
    granularity: Option<Size>,
    filter_node_name: Option<String>,
    x_perf: Option<Perf>,
    auto_finalize: Option<bool>,
    auto_dismiss: Option<bool>,
}

/// As many as the design of the new architecture has.
const WORKERS: u64 = 24;
/// More would be of no use.
const MOST_WORKERS: u64 = 1024;
/// Bytes that are copied at once, if nobody says: a guest's request queues behind what all workers have under way.
const MOST: u64 = 256 << 10;
/// Each worker has so much in memory.
const MOST_AT_ONCE: u64 = 64 << 20;
/// Seconds.
const CBW_TIMEOUT: u32 = 5;

impl BlockdevBackup {
    fn job_id(&self) -> &str {
        self.job_id.as_deref().unwrap_or(&self.device)
    }

    fn bitmap(&self) -> Result<Option<BitmapUse>, QmpError> {
        let needs = |what| Err(QmpError::generic(what));
        let mode = match (self.sync, &self.bitmap, self.bitmap_mode) {
            (_, None, Some(_)) => return needs("bitmap-mode: it is of use with a bitmap only"),
            (Sync::Incremental | Sync::Bitmap, None, _) => {
                return needs(
                    "sync: to save what has changed, give the bitmap that knows it as 'bitmap'",
                );
            }
            (_, None, None) => return Ok(None),
            (Sync::None, Some(_), _) => {
                return needs("bitmap: with sync 'none' it would never be done with");
            }
            (Sync::Incremental, _, None | Some(BitmapModeWord::OnSuccess)) => BitmapMode::OnSuccess,
            (Sync::Incremental, ..) => {
                return needs(
                    "bitmap-mode: with sync 'incremental' it is 'on-success'; use sync 'bitmap'",
                );
            }
            (Sync::Full | Sync::Top, _, Some(BitmapModeWord::Never)) => {
                return needs("bitmap-mode: with 'never' the bitmap would have no use");
            }
            (_, _, None) => return needs("bitmap-mode: it has to be given with this sync"),
            (_, _, Some(mode)) => mode.into(),
        };
        Ok(self.bitmap.clone().map(|name| BitmapUse { name, mode }))
    }

    /// Checks what needs no layer.
    pub fn check(&self) -> Result<(), QmpError> {
        check_job_id(self.job_id())?;
        self.bitmap()?;
        check_granularity(granularity(self.granularity.as_ref()))?;
        let workers = self.x_perf.as_ref().and_then(|perf| perf.max_workers);
        if workers.is_some_and(|workers| !(1..=MOST_WORKERS).contains(&workers)) {
            let desc = alloc::format!("x-perf.max-workers: there are 1 to {MOST_WORKERS}");
            return Err(QmpError::generic(desc));
        }
        let most = self.x_perf.as_ref().and_then(|perf| perf.max_chunk.as_ref());
        if most.is_some_and(|most| most.0 > MOST_AT_ONCE) {
            let desc = alloc::format!("x-perf.max-chunk: it is at most {MOST_AT_ONCE} bytes");
            return Err(QmpError::generic(desc));
        }
        check_filter_name(self.filter_node_name.as_deref())
    }
}

impl Monitor {
    /// `graph`: what the device is looked up in.
    pub(crate) fn backup(
        &self,
        arguments: BlockdevBackup,
        graph: &Graph,
    ) -> Result<BackupStart, QmpError> {
        arguments.check()?;
        let (job, bitmap) = (job_options!(arguments), arguments.bitmap()?);
        let source = node_or_root(graph, &arguments.device)?;
        let perf = arguments.x_perf.unwrap_or_default();
        let options = BackupOptions {
            job,
            source: graph.node(source).map(|node| node.name.clone()).unwrap_or_default(),
            target: arguments.target,
            sync: match (arguments.sync, &bitmap) {
                (Sync::Top, _) => SyncMode::Top,
                (Sync::None, _) => SyncMode::None,
                (Sync::Incremental | Sync::Bitmap, Some(bitmap)) => {
                    SyncMode::Incremental { bitmap: bitmap.name.clone() }
                }
                _ => SyncMode::Full,
            },
            bitmap,
            granularity: granularity(arguments.granularity.as_ref()),
            workers: perf.max_workers.unwrap_or(WORKERS),
            most: ByteLen(perf.max_chunk.map_or(MOST, |size| size.0)),
            discard_source: arguments.discard_source.unwrap_or(false),
            compress: arguments.compress.unwrap_or(false),
            policies: MirrorPolicies {
                source: on_error(arguments.on_source_error),
                target: on_error(arguments.on_target_error),
            },
            on_cbw_error: match arguments.on_cbw_error {
                None | Some(OnCbwErrorWord::BreakGuestWrite) => OnCbwError::BreakGuestWrite,
                Some(OnCbwErrorWord::BreakSnapshot) => OnCbwError::BreakSnapshot,
            },
            cbw_timeout: arguments.cbw_timeout.unwrap_or(CBW_TIMEOUT),
            filter_name: self.filter_name(arguments.filter_node_name),
        };
        Ok(BackupStart::new(self.layer(), self.jobs(), options)?)
    }
}
