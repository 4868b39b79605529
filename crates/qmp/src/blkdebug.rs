//! The options of `blkdebug`, and the commands for its breakpoints, which QEMU has in `qemu-io` only.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{DebugEvent, Debugger, Limits, Node};
use blockyard_drivers::{DebugLimits, InjectError, IoType, SetState};
use blockyard_runtime::IoErrorKind;
use serde::Deserialize;
use serde::de::Error as _;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::value::Reference;
use crate::visitor::VisitError;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlkdebugOptions {
    pub image: Reference,
    config: Option<String>,
    align: Option<u64>,
    max_transfer: Option<u64>,
    opt_write_zero: Option<u64>,
    max_write_zero: Option<u64>,
    opt_discard: Option<u64>,
    max_discard: Option<u64>,
    #[serde(default)]
    inject_error: Vec<InjectErrorOptions>,
    #[serde(default)]
    set_state: Vec<SetStateOptions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InjectErrorOptions {
    event: String,
    state: Option<u64>,
    iotype: Option<IoTypeWord>,
    errno: Option<i32>,
    sector: Option<u64>,
    once: Option<bool>,
    immediately: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetStateOptions {
    event: String,
    state: Option<u64>,
    new_state: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum IoTypeWord {
    Read,
    Write,
    WriteZeroes,
    Discard,
    Flush,
    BlockStatus,
}

/// What a node does.
#[derive(Debug)]
pub(crate) struct DebugRules {
    pub limits: DebugLimits,
    pub inject_error: Vec<InjectError>,
    pub set_state: Vec<SetState>,
}

impl BlkdebugOptions {
    /// Checks them.
    pub fn rules(&self) -> Result<DebugRules, VisitError> {
        if self.config.is_some() {
            let desc = "config: there are no configuration files; give the rules as 'inject-error' and 'set-state'";
            return Err(VisitError::custom(desc));
        }
        Ok(DebugRules {
            limits: self.limits()?,
            inject_error: self
                .inject_error
                .iter()
                .map(InjectErrorOptions::rule)
                .collect::<Result<_, _>>()?,
            set_state: self
                .set_state
                .iter()
                .map(SetStateOptions::rule)
                .collect::<Result<_, _>>()?,
        })
    }

    fn limits(&self) -> Result<DebugLimits, VisitError> {
        // 0 stands for the default, as in QEMU.
        let given = |limit: Option<u64>| limit.filter(|bytes| *bytes > 0);
        let align = given(self.align);
        let max = u64::from(Limits::MAX_ALIGNMENT);
        if align.is_some_and(|align| !align.is_power_of_two() || align > max) {
            let desc = format!("align: must be a power of two up to {max} bytes");
            return Err(VisitError::custom(desc));
        }
        let multiple = |name: &str, limit: Option<u64>| match given(limit) {
            Some(bytes) if !bytes.is_multiple_of(align.unwrap_or(1)) => {
                Err(VisitError::custom(format!("{name}: must be a multiple of 'align'")))
            }
            limit => Ok(limit),
        };
        Ok(DebugLimits {
            align: align.and_then(|align| u32::try_from(align).ok()),
            max_transfer: multiple("max-transfer", self.max_transfer)?,
            opt_write_zero: multiple("opt-write-zero", self.opt_write_zero)?,
            max_write_zero: multiple("max-write-zero", self.max_write_zero)?,
            opt_discard: multiple("opt-discard", self.opt_discard)?,
            max_discard: multiple("max-discard", self.max_discard)?,
        })
    }
}

fn event(word: &str) -> Result<DebugEvent, VisitError> {
    let unknown = || VisitError::custom(format!("event: there is no event '{word}'"));
    DebugEvent::named(word).ok_or_else(unknown)
}

/// 0 is any state.
fn state(state: Option<u64>) -> Option<u64> {
    state.filter(|state| *state > 0)
}

impl InjectErrorOptions {
    fn rule(&self) -> Result<InjectError, VisitError> {
        let io_type = self.iotype.as_ref().map(|word| match word {
            IoTypeWord::Read => IoType::Read,
            IoTypeWord::Write => IoType::Write,
            IoTypeWord::WriteZeroes => IoType::WriteZeroes,
            IoTypeWord::Discard => IoType::Discard,
            IoTypeWord::Flush => IoType::Flush,
            IoTypeWord::BlockStatus => IoType::BlockStatus,
        });
        let outside = || VisitError::custom("sector: is too large");
        let offset = self.sector.map(|sector| sector.checked_mul(512).ok_or_else(outside));
        Ok(InjectError {
            event: event(&self.event)?,
            state: state(self.state),
            io_type,
            error: error(self.errno.unwrap_or(5))?,
            offset: offset.transpose()?,
            once: self.once.unwrap_or(false),
            immediately: self.immediately.unwrap_or(false),
        })
    }
}

/// Linux's numbers of those errors that disks have here; 0 is none.
fn error(errno: i32) -> Result<Option<IoErrorKind>, VisitError> {
    Ok(Some(match errno {
        0 => return Ok(None),
        5 => IoErrorKind::Io,
        22 => IoErrorKind::InvalidInput,
        28 => IoErrorKind::NoSpace,
        30 => IoErrorKind::ReadOnly,
        95 => IoErrorKind::Unsupported,
        _ => {
            let known = "0, 5 (EIO), 22 (EINVAL), 28 (ENOSPC), 30 (EROFS), 95 (ENOTSUP)";
            return Err(VisitError::custom(format!("errno: {errno} is none of {known}")));
        }
    }))
}

impl SetStateOptions {
    fn rule(&self) -> Result<SetState, VisitError> {
        let (event, state) = (event(&self.event)?, state(self.state));
        Ok(SetState { event, state, new_state: self.new_state })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Break {
    node: String,
    event: String,
    tag: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stopped {
    node: String,
    tag: String,
}

impl Break {
    pub fn check(&self) -> Result<(), QmpError> {
        Ok(event(&self.event).map(drop)?)
    }
}

fn debugger(node: &Node) -> Result<&dyn Debugger, QmpError> {
    let none = || QmpError::generic(format!("node '{}' is no blkdebug node", node.name()));
    node.debugger().ok_or_else(none)
}

impl Monitor {
    pub(crate) fn blkdebug_break(&self, arguments: &Break) -> Result<(), QmpError> {
        let node = self.layer().node(&arguments.node)?;
        let event = event(&arguments.event)?;
        debugger(&node)?.set_breakpoint(event, arguments.tag.clone());
        Ok(())
    }

    pub(crate) fn blkdebug_resume(&self, Stopped { node, tag }: &Stopped) -> Result<(), QmpError> {
        let found = self.layer().node(node)?;
        let none = || QmpError::generic(format!("no request has stopped as '{tag}' in '{node}'"));
        debugger(&found)?.resume(tag).then_some(()).ok_or_else(none)
    }

    pub(crate) async fn blkdebug_wait(&self, arguments: Stopped) -> Result<(), QmpError> {
        let node = self.layer().node(&arguments.node)?;
        debugger(&node)?.wait_stopped(arguments.tag).await;
        Ok(())
    }
}
