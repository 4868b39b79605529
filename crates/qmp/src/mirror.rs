//! `blockdev-mirror`: what it is told, and the mirror made ready.

use alloc::string::String;

use blockyard_jobs::{JobOptions, MirrorOptions, MirrorStart, SyncMode};
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
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MirrorCopyMode {
    Background,
    WriteBlocking,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevMirror {
    job_id: Option<String>,
    device: String,
    target: String,
    sync: Sync,
    granularity: Option<Size>,
    copy_mode: Option<MirrorCopyMode>,
    filter_node_name: Option<String>,
    auto_finalize: Option<bool>,
    auto_dismiss: Option<bool>,
}

/// QEMU's default, for targets without clusters of their own.
const DEFAULT_GRANULARITY: u64 = 65536;

impl Monitor {
    pub(crate) fn mirror(&self, arguments: BlockdevMirror) -> Result<MirrorStart, QmpError> {
        let name = arguments.job_id.unwrap_or_else(|| arguments.device.clone());
        let copy_mode = match arguments.copy_mode {
            Some(MirrorCopyMode::Background) => CopyMode::Passive,
            Some(MirrorCopyMode::WriteBlocking) => CopyMode::Active,
            None => self.layer().design().mirror,
        };
        let graph = self.layer().graph();
        let source = node_or_root(&graph, &arguments.device)?;
        let options = MirrorOptions {
            job: JobOptions {
                name,
                auto_finalize: arguments.auto_finalize.unwrap_or(true),
                auto_dismiss: arguments.auto_dismiss.unwrap_or(true),
            },
            source: graph.node(source).map(|node| node.name.clone()).unwrap_or_default(),
            target: arguments.target,
            sync: match arguments.sync {
                Sync::Full => SyncMode::Full,
                Sync::None => SyncMode::None,
            },
            copy_mode,
            granularity: ByteLen(arguments.granularity.map_or(DEFAULT_GRANULARITY, |size| size.0)),
            filter_name: match arguments.filter_node_name {
                Some(name) => check_name(name)?,
                None => self.layer().generate_name(),
            },
        };
        Ok(MirrorStart::new(self.layer(), self.jobs(), options)?)
    }
}
