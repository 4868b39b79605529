//! The administrator's part of a scenario: nodes that come and go, edges that lead elsewhere, and verbs for the
//! mirror.

use serde_json::{Value, json};

use super::render::{Device, SECTOR, Waits, attempt};
use super::{AdminStep, Filter, Place};

impl Device<'_> {
    /// What its administrator does.
    pub fn admin(&self) -> Admin<'_> {
        let mut admin = Admin {
            device: self,
            nodes: self.nodes(),
            filters: self.plan.filters.iter().map(|filter| self.harmless(*filter)).collect(),
            overlay: self.first_overlay(),
            is_lost: false,
            waits: Waits::new(self),
            steps: Vec::new(),
            made: Vec::new(),
            media: Vec::new(),
        };
        for (index, step) in self.plan.admin.iter().enumerate() {
            admin.step(format!("a{}-{index}", self.number), step);
        }
        admin
    }

    pub fn has_mirror_alone(&self) -> bool {
        self.alone && !self.plan.mirrors.is_empty()
    }
}

/// The administrator, as far as he has come.
pub(super) struct Admin<'d> {
    pub device: &'d Device<'d>,
    /// What the device consists of, from below, as far as that is known: filters that he put in may be between.
    pub nodes: Vec<String>,
    /// What each of these is, without the lowest.
    pub filters: Vec<Filter>,
    /// The last overlay, and what is known to be below it.
    pub overlay: Option<OverlayAt>,
    /// Something has changed that, or was refused.
    pub is_lost: bool,
    pub waits: Waits<'d>,
    pub steps: Vec<Value>,
    /// What he made and has not deleted; some of it may have been refused.
    pub made: Vec<Made>,
    /// The disks that he needs.
    pub media: Vec<String>,
}

pub(super) struct OverlayAt {
    pub name: String,
    pub backing: String,
    pub cluster: u64,
}

pub(super) struct Made {
    pub name: String,
    pub filter: Option<Filter>,
    pub edge: Option<EdgeAt>,
    /// It shows what the device shows.
    pub shows: bool,
}

/// Nanoseconds.
const BOUNDARIES: [u64; 3] = [1, 1000, 1_000_000];

impl Admin<'_> {
    fn step(&mut self, name: String, step: &AdminStep) {
        let mirrored = self.device.is_mirrored();
        match *step {
            AdminStep::Insert { place, retry, filter } => {
                let Some(edge) = self.edge(place) else { return };
                if place == Place::OverMirror {
                    self.steps.extend(self.waits.running());
                }
                let filter = insertable(filter);
                self.steps.push(edge.insert(retry, filter.options(&name)));
                self.made.push(Made { name, filter: Some(filter), edge: Some(edge), shows: true });
            }
            AdminStep::Beside { over, filter, read_only } => {
                let filter = self.device.harmless(filter);
                let mut options = filter.options(&name);
                options[filter.child()] = json!(self.showing(over));
                if read_only {
                    options["read-only"] = json!(true);
                }
                self.steps.push(attempt("blockdev-add", options));
                let filter = Some(filter);
                self.made.push(Made { name, filter, edge: None, shows: !read_only });
            }
            AdminStep::Redirect { place, to } if self.is_known() => {
                let edge = self.edge(place);
                let to = json!(self.showing(to));
                self.steps.extend(edge.map(|edge| edge.replace(None, "fail", to)));
            }
            AdminStep::Spare => {
                let options = json!({ "driver": "memory", "node-name": name, "size": 4096 });
                self.steps.push(attempt("blockdev-add", options));
                self.made.push(Made { name, filter: None, edge: None, shows: false });
            }
            AdminStep::Remove => {
                let made = self.made.iter().rfind(|made| made.edge.is_some());
                self.steps.extend(made.and_then(|made| self.remove(made)));
            }
            // A second mirror may be about to begin over it.
            AdminStep::Delete if self.device.plan.mirrors.len() < 2 => {
                let name = self.made.pop().map(|made| json!({ "node-name": made.name }));
                self.steps.extend(name.map(|name| attempt("blockdev-del", name)));
            }
            AdminStep::Resize { sectors, by_node } if !mirrored => {
                let size = SECTOR * (1 + sectors % (self.device.capacity() / SECTOR));
                let arguments = match by_node && self.is_known() {
                    true => json!({ "node-name": self.nodes[0], "size": size }),
                    false => json!({ "device": self.device.id(), "size": size }),
                };
                self.steps.push(attempt("block_resize", arguments));
            }
            AdminStep::Query => {
                self.steps.push(json!({ "execute": "query-jobs" }));
                self.steps.push(json!({ "execute": "query-named-block-nodes" }));
                self.steps.push(json!({ "execute": "x-debug-query-block-graph" }));
                self.steps.push(json!({ "execute": "query-blockstats" }));
                let nodes = json!({ "query-nodes": true });
                self.steps.push(attempt("query-blockstats", nodes));
            }
            AdminStep::StandStill => {
                self.steps.extend(["stop", "cont"].map(|verb| json!({ "execute": verb })));
            }
            AdminStep::Threshold { over, sectors } => {
                let arguments =
                    json!({ "node-name": self.showing(over), "write-threshold": sectors * SECTOR });
                self.steps.push(attempt("block-set-write-threshold", arguments));
            }
            AdminStep::Histogram { boundaries, writes } => {
                let mut arguments = json!({ "id": self.device.id() });
                let boundaries = &BOUNDARIES[..boundaries % (BOUNDARIES.len() + 1)];
                if !boundaries.is_empty() {
                    let key = if writes { "boundaries-write" } else { "boundaries" };
                    arguments[key] = json!(boundaries);
                }
                self.steps.push(attempt("block-latency-histogram-set", arguments));
            }
            AdminStep::CopyOnRead { over, on } => {
                let overlay = self.overlay.as_ref().filter(|_| over % 2 == 0);
                let node = overlay.map_or_else(|| self.showing(over), |overlay| &overlay.name);
                let arguments = json!({ "node-name": node, "enable": on });
                self.steps.push(attempt("x-block-set-copy-on-read", arguments));
            }
            AdminStep::Secret => {
                let secret = json!({ "qom-type": "secret", "id": name, "data": "word" });
                self.steps.push(json!({ "execute": "object-add", "arguments": secret }));
                let id = json!({ "id": name });
                self.steps.push(json!({ "execute": "object-del", "arguments": id }));
            }
            AdminStep::PauseMirror if self.device.has_mirror_alone() => {
                self.steps.extend(self.waits.running());
                self.steps.extend(self.device.pause(0));
            }
            AdminStep::CancelMirror { force } if self.device.has_mirror_alone() => {
                self.steps.extend(self.waits.running());
                self.steps.push(self.device.cancel(0, force));
            }
            AdminStep::Redirect { .. }
            | AdminStep::Resize { .. }
            | AdminStep::Delete
            | AdminStep::PauseMirror
            | AdminStep::CancelMirror { .. } => {}
            // A mirror that another's administrator waits for must not fail.
            _ if mirrored && !self.device.alone => {}
            AdminStep::Transaction(ref actions) => self.transaction(&name, actions),
            AdminStep::Reopen(ref nodes) if mirrored => self.reopen_above(name, nodes),
            AdminStep::Reopen(ref nodes) if self.is_known() => self.reopen(nodes),
            AdminStep::Reopen(_) => {}
            AdminStep::ReopenBacking => self.reopen_backing(name),
            AdminStep::Snapshot { base, small } => self.snapshot(name, base, small),
            AdminStep::ChangeMedium { away, back } => self.change_medium(away, back),
            AdminStep::SetActive { over, all } => self.set_active(over, all),
        }
    }

    /// Whether the device consists of what he thinks.
    pub fn is_known(&self) -> bool {
        !self.is_lost && !self.device.is_mirrored()
    }

    /// The edge at a place, if there is one; and what is known to be below it, as long as nobody else changes it.
    pub fn edge(&self, place: Place) -> Option<EdgeAt> {
        let mirrored = self.device.is_mirrored();
        let top = self.nodes.last().filter(|_| self.is_known()).cloned();
        let id = self.device.id();
        let root = |below| EdgeAt { parent: id, child: "root", expected: None, below };
        match place {
            Place::Root => Some(root(top)),
            Place::OverMirror if mirrored => {
                // Where the filter still is, it shows what the device shows.
                let filter = Some(self.device.mirror_filter(0));
                let below = filter.clone().filter(|_| !self.is_lost);
                Some(EdgeAt { expected: filter, ..root(below) })
            }
            Place::OverMirror => None,
            Place::Below(index) => {
                let index = 1 + index.checked_rem(self.nodes.len() - 1)?;
                let below = Some(self.nodes[index - 1].clone()).filter(|_| self.is_known());
                let parent = self.nodes[index].clone();
                let child = self.filters[index - 1].child();
                Some(EdgeAt { parent, child, expected: None, below })
            }
        }
    }

    fn remove(&self, made: &Made) -> Option<Value> {
        let edge = made.edge.as_ref()?;
        // A second mirror may be about to begin over it.
        let below = edge.below.as_ref().filter(|_| self.device.plan.mirrors.len() < 2)?;
        Some(edge.replace(Some(&made.name), "fail", json!(below)))
    }

    /// The node of this index: one that the device begins with, or without mirrors one that was made since.
    pub fn showing(&self, index: usize) -> &str {
        let made = self.made.iter().filter(|made| made.shows && self.is_known());
        let mut names = self.nodes.iter().chain(made.map(|made| &made.name));
        names.nth(index % names.clone().count()).expect("a-device-has-nodes")
    }
}

/// A filter that may be defined without its child.
pub(super) fn insertable(filter: Filter) -> Filter {
    match filter {
        Filter::Blkdebug(_) => Filter::Throttle { limited: false },
        filter => filter,
    }
}

pub(super) struct EdgeAt {
    parent: String,
    child: &'static str,
    pub expected: Option<String>,
    pub below: Option<String>,
}

impl EdgeAt {
    fn insert(&self, retry: bool, filter: Value) -> Value {
        let on_mismatch = if retry { "retry" } else { "fail" };
        self.replace(self.expected.as_deref(), on_mismatch, filter)
    }

    fn replace(&self, expected: Option<&str>, on_mismatch: &str, new: Value) -> Value {
        attempt("x-blockdev-replace-child", self.replacement(expected, on_mismatch, new))
    }

    /// The arguments.
    pub fn replacement(&self, expected: Option<&str>, on_mismatch: &str, new: Value) -> Value {
        let mut arguments = json!({ "parent": self.parent, "child": self.child, "new": new,
                                    "on-mismatch": on_mismatch });
        if let Some(expected) = expected {
            arguments["expected"] = json!(expected);
        }
        arguments
    }
}
