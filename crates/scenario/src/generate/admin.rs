//! The administrator's part of a scenario: nodes that come and go, edges that lead elsewhere, and verbs for the
//! mirror.

use serde_json::{Value, json};

use super::render::{Device, SECTOR, Waits, attempt};
use super::{AdminStep, Filter, Place};

impl Device<'_> {
    /// The steps of its administrator.
    pub fn admin(&self) -> Vec<Value> {
        let mut admin = Admin {
            device: self,
            nodes: self.nodes(),
            waits: Waits::new(self),
            steps: Vec::new(),
            made: Vec::new(),
        };
        for (index, step) in self.plan.admin.iter().enumerate() {
            admin.step(format!("a{}-{index}", self.number), *step);
        }
        admin.steps
    }

    fn has_mirror_alone(&self) -> bool {
        self.alone && !self.plan.mirrors.is_empty()
    }

    /// The edge at a place, if there is one; and what is known to be below it, as long as nobody else changes it.
    fn edge(&self, place: Place, nodes: &[String]) -> Option<EdgeAt> {
        let mirrored = !self.plan.mirrors.is_empty();
        let top = nodes.last().filter(|_| !mirrored).cloned();
        let root = |below| EdgeAt { parent: self.id(), child: "root", expected: None, below };
        match place {
            Place::Root => Some(root(top)),
            Place::OverMirror if mirrored => {
                // Where the filter still is, it shows what the device shows.
                let filter = Some(self.mirror_filter(0));
                Some(EdgeAt { expected: filter.clone(), ..root(filter) })
            }
            Place::OverMirror => None,
            Place::Below(index) => {
                let index = 1 + index.checked_rem(nodes.len() - 1)?;
                let below = Some(nodes[index - 1].clone()).filter(|_| !mirrored);
                let parent = nodes[index].clone();
                let child = self.plan.filters[index - 1].child();
                Some(EdgeAt { parent, child, expected: None, below })
            }
        }
    }

    fn remove(&self, made: &Made) -> Option<Value> {
        let edge = made.edge.as_ref()?;
        // A second mirror may be about to begin over it.
        let below = edge.below.as_ref().filter(|_| self.plan.mirrors.len() < 2)?;
        Some(edge.replace(Some(&made.name), "fail", json!(below)))
    }
}

/// The administrator, as far as he has come.
struct Admin<'d> {
    device: &'d Device<'d>,
    /// What the device begins with.
    nodes: Vec<String>,
    waits: Waits<'d>,
    steps: Vec<Value>,
    /// What he made and has not deleted; some of it may have been refused.
    made: Vec<Made>,
}

struct Made {
    name: String,
    edge: Option<EdgeAt>,
    /// It shows what the device shows.
    shows: bool,
}

impl Admin<'_> {
    fn step(&mut self, name: String, step: AdminStep) {
        let mirrored = !self.device.plan.mirrors.is_empty();
        match step {
            AdminStep::Insert { place, retry, filter } => {
                let Some(edge) = self.device.edge(place, &self.nodes) else { return };
                if place == Place::OverMirror {
                    self.steps.extend(self.waits.running());
                }
                // Its child cannot be left out.
                let filter = match filter {
                    Filter::Blkdebug(_) => Filter::Throttle { limited: false },
                    filter => filter,
                };
                self.steps.push(edge.insert(retry, filter.options(&name)));
                self.made.push(Made { name, edge: Some(edge), shows: true });
            }
            AdminStep::Beside { over, filter, read_only } => {
                let filter = self.device.harmless(filter);
                let mut options = filter.options(&name);
                options[filter.child()] = json!(self.showing(over));
                if read_only {
                    options["read-only"] = json!(true);
                }
                self.steps.push(attempt("blockdev-add", options));
                self.made.push(Made { name, edge: None, shows: !read_only });
            }
            AdminStep::Redirect { place, to } if !mirrored => {
                let edge = self.device.edge(place, &self.nodes);
                let to = json!(self.showing(to));
                self.steps.extend(edge.map(|edge| edge.replace(None, "fail", to)));
            }
            AdminStep::Spare => {
                let options = json!({ "driver": "memory", "node-name": name, "size": 4096 });
                self.steps.push(attempt("blockdev-add", options));
                self.made.push(Made { name, edge: None, shows: false });
            }
            AdminStep::Remove => {
                let made = self.made.iter().rfind(|made| made.edge.is_some());
                self.steps.extend(made.and_then(|made| self.device.remove(made)));
            }
            // A second mirror may be about to begin over it.
            AdminStep::Delete if self.device.plan.mirrors.len() < 2 => {
                let name = self.made.pop().map(|made| json!({ "node-name": made.name }));
                self.steps.extend(name.map(|name| attempt("blockdev-del", name)));
            }
            AdminStep::Resize { sectors } if !mirrored => {
                let size = SECTOR * (1 + sectors % (self.device.capacity() / SECTOR));
                let arguments = json!({ "device": self.device.id(), "size": size });
                self.steps.push(attempt("block_resize", arguments));
            }
            AdminStep::Query => {
                self.steps.push(json!({ "execute": "query-jobs" }));
                self.steps.push(json!({ "execute": "query-named-block-nodes" }));
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
        }
    }

    /// The node of this index: one that the device begins with, or without mirrors one that was made since.
    fn showing(&self, index: usize) -> &str {
        let mirrored = !self.device.plan.mirrors.is_empty();
        let made = self.made.iter().filter(|made| made.shows && !mirrored);
        let mut names = self.nodes.iter().chain(made.map(|made| &made.name));
        names.nth(index % names.clone().count()).expect("a-device-has-nodes")
    }
}

struct EdgeAt {
    parent: String,
    child: &'static str,
    expected: Option<String>,
    below: Option<String>,
}

impl EdgeAt {
    fn insert(&self, retry: bool, filter: Value) -> Value {
        let on_mismatch = if retry { "retry" } else { "fail" };
        self.replace(self.expected.as_deref(), on_mismatch, filter)
    }

    fn replace(&self, expected: Option<&str>, on_mismatch: &str, new: Value) -> Value {
        let mut arguments = json!({ "parent": self.parent, "child": self.child, "new": new,
                                    "on-mismatch": on_mismatch });
        if let Some(expected) = expected {
            arguments["expected"] = json!(expected);
        }
        attempt("x-blockdev-replace-child", arguments)
    }
}
