//! What management is told and asks for: errors and what was done about them, thresholds, what was counted, guests that
//! stand still.
//!
//! Invariant `judged-in-every-order`: none of this leaves a footprint, so only that is judged which holds whichever of
//! two independent steps came first: what was noted after a command is what is true at least from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockyard_block::{
    Account, BlockError, BlockLayer, ChildVote, Corrupted, Counted, ErrorPolicies, GuestError,
    LayerEvents, Node, OnError,
};
use blockyard_graph::{Parent, ROOT};
use blockyard_models::{Property, Violation};
use blockyard_qmp::{Dict, EventHub, Mode, Size, Value, take};
use blockyard_runtime::IoErrorKind;
use blockyard_sync::door::world::Quiet;
use blockyard_units::ByteRange;

use crate::checks::Checks;
use crate::request::Request;
use crate::stage::Devices;
use crate::tally::Tally;

/// Passes on what the layer tells, and judges it.
pub(crate) struct Told {
    pub hub: Arc<EventHub>,
    pub checks: Arc<Checks>,
    pub devices: Arc<Devices>,
    pub tally: Arc<Tally>,
    pub state: Quiet<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Those that were set, perhaps, and have not been told, with their nodes.
    thresholds: Vec<(String, u64)>,
    /// Of these, those that no write had passed when they were set, and that none was about to.
    untold: BTreeMap<String, u64>,
    /// By node: for each kind, behind how many requests all durations are counted.
    timed: BTreeMap<String, Vec<u64>>,
    /// By device: requests that failed and counted as done.
    ignored: BTreeMap<String, u64>,
    /// The guests were stopped by a command.
    stopped: bool,
    /// Commands for them to go on, under way and ever begun.
    going_on: u64,
    went_on: u64,
}

/// Counters by node and key, as somebody saw them last.
pub(crate) type Seen = BTreeMap<(String, String), u64>;

/// What is known when a guest's request begins.
pub(crate) struct Begun {
    ignored: u64,
    /// It has to wait for a command that has not begun, behind so many others.
    behind: Option<u64>,
}

/// Of one that fails again, with other effects seen in between, nothing is known; more would make too many states.
const EFFECTS_MAX: u64 = 2;

fn wrong(message: String) -> Violation {
    Violation { property: Property::Accounting, message }
}

/// What it is called.
pub(crate) fn word(policy: OnError) -> &'static str {
    match policy {
        OnError::Report => "report",
        OnError::Ignore => "ignore",
        OnError::Stop => "stop",
        OnError::Enospc => "enospc",
    }
}

fn threshold_of(arguments: &Dict) -> Option<(String, u64)> {
    let node = arguments.get("node-name")?.as_str()?.into();
    let size = take::<Size>(&mut arguments.clone(), "write-threshold", Mode::Strings).ok()?;
    Some((node, size.0))
}

/// The node whose durations are to be counted.
fn timed_node(layer: &BlockLayer, arguments: &Dict) -> Option<Arc<Node>> {
    let (graph, id) = (layer.graph(), arguments.get("id")?.as_str()?);
    layer.node_by_id(graph.child(Parent::Backend(graph.backend_by_name(id)?), ROOT)?)
}

fn ended(account: &Account) -> u64 {
    account.operations + account.failed + account.invalid
}

impl Told {
    fn policies(&self, device: &str) -> ErrorPolicies {
        let policies = |device: &Arc<crate::stage::Device>| device.backend.policies();
        self.devices.with(|devices| devices.get(device).map(policies)).unwrap_or_default()
    }

    fn ignored(&self, device: &str) -> u64 {
        self.state.with(|state| state.ignored.get(device).copied().unwrap_or_default())
    }

    /// Before a command is carried out.
    pub fn command_begins(&self, layer: &BlockLayer, command: &str, arguments: &Dict) {
        match command {
            "block-set-write-threshold" => {
                let Some((node, threshold)) = threshold_of(arguments) else { return };
                self.state.with(|state| {
                    state.untold.remove(&node);
                    state.thresholds.push((node, threshold));
                });
            }
            "block-latency-histogram-set" => {
                let node = timed_node(layer, arguments);
                self.state.with(|state| node.map(|node| state.timed.remove(node.name())));
            }
            "cont" => self.state.with(|state| {
                state.stopped = false;
                (state.going_on, state.went_on) = (state.going_on + 1, state.went_on + 1);
            }),
            _ => {}
        }
    }

    /// When it was.
    pub fn command_ends(&self, layer: &BlockLayer, command: &str, arguments: &Dict, well: bool) {
        match command {
            "block-set-write-threshold" if well => {
                let Some((name, threshold)) = threshold_of(arguments) else { return };
                let Ok(node) = layer.node(&name) else { return };
                let below = node.stats().write_highest_offset <= threshold;
                if threshold > 0 && below && node.in_flight() == 0 {
                    self.state.with(|state| state.untold.insert(name, threshold));
                }
            }
            "block-latency-histogram-set" if well => {
                let Some(node) = timed_node(layer, arguments) else { return };
                // Those under way may have begun before it.
                let in_flight = node.in_flight() as u64;
                // After that: what ends in between counts twice, and not never.
                let stats = node.stats();
                let behind = |kind: &Counted| ended(stats.of(*kind)) + in_flight;
                let behind = Counted::ALL.iter().map(behind).collect();
                self.state.with(|state| state.timed.insert(node.name().into(), behind));
            }
            "cont" => self.state.with(|state| state.going_on -= 1),
            "stop" => {
                let stopped = !layer.is_running();
                self.state.with(|state| state.stopped = stopped);
            }
            _ => {}
        }
    }

    /// A reply to `query-blockstats`: nothing that is counted goes down.
    pub fn counters(seen: &mut Seen, reply: &Value) -> Result<(), Violation> {
        for entry in reply.as_list().unwrap_or_default() {
            let Value::Dict(entry) = entry else { continue };
            let name = entry.get("node-name").and_then(Value::as_str);
            let (Some(name), Some(Value::Dict(stats))) = (name, entry.get("stats")) else {
                continue;
            };
            for (key, value) in stats.iter() {
                let Some(now) = value.as_u64() else { continue };
                let before = seen.insert((name.into(), key.into()), now).unwrap_or_default();
                if now < before {
                    return Err(wrong(format!("{key} of {name} was {before}, and is {now}")));
                }
            }
        }
        Ok(())
    }

    /// How often a request of this device may have an effect: one that failed did perhaps, and is made again.
    pub fn effects(&self, device: &str, kind: Request) -> u64 {
        let repeats = matches!(self.policies(device).write, OnError::Stop | OnError::Enospc);
        if repeats && kind.writes() { EFFECTS_MAX } else { 1 }
    }

    /// A guest's request begins.
    pub fn request_begins(&self, device: &str) -> Begun {
        let ignored = self.ignored(device);
        let stands = |state: &State| state.stopped && state.going_on == 0;
        let behind = self.state.with(|state| stands(state).then_some(state.went_on));
        Begun { ignored, behind }
    }

    /// It has ended; whether it counts as done though it may have failed. `kind`: none for a flush.
    pub fn request_ends(
        &self,
        begun: &Begun,
        device: &str,
        kind: Option<Request>,
        error: Option<&BlockError>,
    ) -> bool {
        if begun.behind == Some(self.state.with(|state| state.went_on)) {
            let message = format!("{device}: a request was carried out while guests stand still");
            self.checks.judge(Err(wrong(message)));
        }
        let ErrorPolicies { read, write } = self.policies(device);
        let policy = match kind {
            Some(Request::Status) => OnError::Report,
            Some(Request::Read) => read,
            _ => write,
        };
        let met = error.and_then(|error| error.io_kind());
        let kept = match policy {
            OnError::Report => false,
            OnError::Enospc => met == Some(IoErrorKind::NoSpace),
            OnError::Ignore | OnError::Stop => met.is_some(),
        };
        if let (true, Some(error)) = (kept, error) {
            let policy = word(policy);
            let message = format!("{device}: its policy is {policy}, and its guest met: {error}");
            self.checks.judge(Err(wrong(message)));
        }
        self.ignored(device) > begun.ignored
    }

    /// At the end: what was to be told was, and what was to be counted.
    pub fn judge_end(&self, layer: &BlockLayer) -> Result<(), Violation> {
        let (untold, timed) = self.state.with(|state| (state.untold.clone(), state.timed.clone()));
        for (name, threshold) in untold {
            let Ok(node) = layer.node(&name) else { continue };
            let highest = node.stats().write_highest_offset;
            if node.write_threshold() == threshold && highest > threshold {
                return Err(wrong(format!(
                    "{name} was written up to {highest}, and its threshold of {threshold} was not told"
                )));
            }
        }
        for (name, behind) in timed {
            let Ok(node) = layer.node(&name) else { continue };
            let stats = node.stats();
            for (kind, behind) in Counted::ALL.iter().zip(behind) {
                let account = stats.of(*kind);
                let Some(histogram) = &account.histogram else { continue };
                let (all, counted) = (ended(account), histogram.bins.iter().sum::<u64>());
                if counted > all || counted + behind < all {
                    return Err(wrong(format!(
                        "{name}: {all} requests have ended, at most {behind} of them too early to be timed, and the \
                         histogram has {counted}"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl LayerEvents for Told {
    fn write_threshold(&self, node: &str, exceeded: u64, threshold: u64) {
        let set = self.state.with(|state| {
            state.untold.remove(node);
            let set = state.thresholds.iter().position(|(at, set)| at == node && *set == threshold);
            set.map(|set| state.thresholds.remove(set))
        });
        if set.is_none() || exceeded == 0 {
            let message = format!(
                "{node}: a threshold of {threshold} is passed by {exceeded}, and was set {} so often",
                if set.is_none() { "not" } else { "just" }
            );
            self.checks.judge(Err(wrong(message)));
        }
        self.hub.write_threshold(node, exceeded, threshold);
    }

    fn guest_error(&self, error: &GuestError<'_>) {
        let ErrorPolicies { read, write } = self.policies(error.device);
        let (kind, policy) = if error.reads { ("rerror", read) } else { ("werror", write) };
        self.tally.met(&format!("{kind}={}", word(policy)));
        if error.action == blockyard_block::ErrorAction::Ignore {
            self.state.with(|state| *state.ignored.entry(error.device.into()).or_default() += 1);
        }
        self.hub.guest_error(error);
    }

    fn bitmap_lost(&self, node: &str, bitmap: &str) {
        self.hub.bitmap_lost(node, bitmap);
    }

    fn quorum_report_bad(&self, vote: &ChildVote<'_>) {
        self.hub.quorum_report_bad(vote);
    }

    fn blkverify_mismatch(&self, node: &str, range: ByteRange) {
        self.hub.blkverify_mismatch(node, range);
    }

    fn quorum_failure(&self, reference: &str, range: ByteRange) {
        self.hub.quorum_failure(reference, range);
    }

    fn running(&self, running: bool) {
        self.hub.running(running);
    }

    fn image_corrupted(&self, met: &Corrupted<'_>) {
        // Nobody makes images that are wrong: one that has become so was written wrongly.
        let message = format!("{}: {}", met.node, met.message);
        let violation = Violation { property: Property::MetadataIntegrity, message };
        self.checks.judge(Err(violation));
        self.hub.image_corrupted(met);
    }
}
