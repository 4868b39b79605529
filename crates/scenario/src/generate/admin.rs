//! The administrator's part of a scenario: throttles that come and go, and verbs for the mirror.

use serde_json::{Value, json};

use super::render::{Device, Waits, attempt, throttle};
use super::{AdminStep, Place};

impl Device<'_> {
    /// The steps of its administrator.
    pub fn admin(&self) -> Vec<Value> {
        let nodes = self.nodes();
        let mut waits = Waits::new(self);
        let mut steps = Vec::new();
        let mut made: Option<Made> = None;
        for (index, step) in self.plan.admin.iter().enumerate() {
            let name = format!("th{}-{index}", self.number);
            match *step {
                AdminStep::Insert { place, retry, limited } => {
                    let Some(edge) = self.edge(place, &nodes) else { continue };
                    if place == Place::OverMirror {
                        steps.extend(waits.running());
                    }
                    steps.push(edge.insert(retry, throttle(&name, limited)));
                    made = Some(Made { name, edge: Some(edge) });
                }
                AdminStep::Beside(below) => {
                    let mut options = throttle(&name, false);
                    options["file"] = json!(nodes[below % nodes.len()]);
                    steps.push(attempt("blockdev-add", options));
                    made = Some(Made { name, edge: None });
                }
                AdminStep::Remove => {
                    let removal = made.as_ref().and_then(|made| self.remove(made));
                    steps.extend(removal);
                }
                // A second mirror may be about to begin over it.
                AdminStep::Delete if self.plan.mirrors.len() < 2 => {
                    let name = made.take().map(|made| json!({ "node-name": made.name }));
                    steps.extend(name.map(|name| attempt("blockdev-del", name)));
                }
                AdminStep::Delete => {}
                AdminStep::Query => {
                    steps.push(json!({ "execute": "query-jobs" }));
                    steps.push(json!({ "execute": "query-named-block-nodes" }));
                }
                AdminStep::PauseMirror if self.has_mirror_alone() => {
                    steps.extend(waits.running());
                    steps.extend(self.pause(0));
                }
                AdminStep::CancelMirror { force } if self.has_mirror_alone() => {
                    steps.extend(waits.running());
                    steps.push(self.cancel(0, force));
                }
                AdminStep::PauseMirror | AdminStep::CancelMirror { .. } => {}
            }
        }
        steps
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
                Some(EdgeAt { parent, child: "file", expected: None, below })
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

/// The throttle that was made last.
struct Made {
    name: String,
    edge: Option<EdgeAt>,
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
