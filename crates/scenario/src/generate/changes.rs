//! The administrator's larger changes: transactions, reopening, snapshots, other media, images handed over.
//!
//! What they leave is known if nobody else changes the graph and nothing in them may be refused; then what comes after
//! goes on from there. Otherwise it may only do what shows the same wherever the device leads to.

use serde_json::{Value, json};

use super::admin::{Admin, Made, OverlayAt, insertable};
use super::render::{CHUNK, Device, SECTOR, attempt};
use super::{Action, Away, Back, Filter, Medium, Reopened};

impl Device<'_> {
    /// The overlay that its disk is, if it is one.
    pub fn first_overlay(&self) -> Option<OverlayAt> {
        let Medium::Overlay { chain, small } = self.plan.disk.medium else { return None };
        let name = self.nodes().swap_remove(0);
        let backing = match chain % 3 {
            0 => format!("{name}b"),
            below => format!("{name}o{}", below - 1),
        };
        Some(OverlayAt { name, backing, cluster: cluster(small) })
    }

    /// Whether another disk may be its medium: what goes there is known to be its own.
    fn takes_other_media(&self) -> bool {
        self.twin().is_none()
    }
}

/// Bytes.
pub(super) fn cluster(small: bool) -> u64 {
    if small { SECTOR } else { CHUNK }
}

fn reopen(options: &[Value]) -> Value {
    attempt("blockdev-reopen", json!({ "options": options }))
}

impl Admin<'_> {
    /// What was known of nodes made before no longer is.
    fn forget_made(&mut self) {
        for made in &mut self.made {
            made.shows = false;
            made.edge.iter_mut().for_each(|edge| edge.below = None);
        }
    }

    pub fn transaction(&mut self, name: &str, actions: &[Action]) {
        let aborts = actions.contains(&Action::Abort);
        self.steps.extend(self.waits.running());
        let (mut list, mut taken) = (Vec::new(), Vec::new());
        for (index, action) in actions.iter().enumerate() {
            let name = format!("{name}-{index}");
            let (kind, data) = match *action {
                Action::Abort => ("abort", json!({})),
                Action::Insert { place, filter } => {
                    let Some(edge) = self.edge(place) else { continue };
                    let filter = insertable(filter);
                    let new = filter.options(&name);
                    let data = edge.replacement(edge.expected.as_deref(), "fail", new);
                    if !aborts {
                        let filter = Some(filter);
                        self.made.push(Made { name, filter, edge: Some(edge), shows: true });
                    }
                    ("x-blockdev-replace-child", data)
                }
                // Behind a snapshot, what was there before shows something else.
                Action::Redirect { place, to } if self.is_known() && taken.is_empty() => {
                    let Some(edge) = self.edge(place) else { continue };
                    let to = json!(self.showing(to));
                    ("x-blockdev-replace-child", edge.replacement(None, "fail", to))
                }
                Action::Snapshot { base, small } => {
                    let Some((data, overlay)) = self.new_overlay(name, base, small) else {
                        continue;
                    };
                    taken.push((base, overlay));
                    ("blockdev-snapshot", data)
                }
                Action::Mirror if aborts => ("blockdev-mirror", self.mirror_nowhere(&name)),
                Action::Redirect { .. } | Action::Mirror => continue,
            };
            list.push(json!({ "type": kind, "data": data }));
        }
        let is_alone = list.len() == 1;
        self.steps.push(attempt("transaction", json!({ "actions": list })));
        match taken.pop() {
            Some((base, Some(overlay))) if is_alone => self.note_snapshot(base, overlay),
            Some(_) if !aborts => {
                self.is_lost = true;
                self.overlay = None;
                self.forget_made();
            }
            _ => {}
        }
    }

    /// The start of a mirror that has no place to go, and is not to come to anything.
    fn mirror_nowhere(&mut self, name: &str) -> Value {
        let target = format!("{name}t");
        let options = json!({ "driver": "memory", "node-name": target,
                              "size": self.device.capacity() + CHUNK });
        self.steps.push(attempt("blockdev-add", options));
        json!({ "job-id": name, "device": self.device.id(), "target": target, "sync": "full",
                "filter-node-name": format!("{name}f") })
    }

    pub fn snapshot(&mut self, name: String, base: bool, small: bool) {
        self.steps.extend(self.waits.running());
        let Some((arguments, overlay)) = self.new_overlay(name, base, small) else { return };
        self.steps.push(attempt("blockdev-snapshot", arguments));
        match overlay {
            Some(overlay) => self.note_snapshot(base, overlay),
            None => {
                self.is_lost = true;
                self.forget_made();
            }
        }
    }

    /// Makes an overlay; the arguments that put it above a node, and what is below it then, if that is known.
    fn new_overlay(
        &mut self,
        name: String,
        base: bool,
        small: bool,
    ) -> Option<(Value, Option<OverlayAt>)> {
        let shared = self.device.twin().is_some();
        let node = match self.is_known() {
            true if base || shared => self.nodes.first().cloned(),
            true => self.nodes.last().cloned(),
            // The other device would not see it.
            false => Some(self.device.id()).filter(|_| !shared),
        }?;
        let size = cluster(small);
        let options = json!({ "driver": "overlay", "node-name": name, "backing": null,
                              "cluster-size": size });
        self.steps.push(attempt("blockdev-add", options));
        let arguments = json!({ "node": node, "overlay": name });
        let overlay = OverlayAt { name, backing: node, cluster: size };
        Some((arguments, Some(overlay).filter(|_| self.is_known())))
    }

    /// Nothing stands in its way; where what is to be flushed before fails, the administrator goes no further, as the
    /// overlay then shows nothing of what was below.
    fn note_snapshot(&mut self, base: bool, overlay: OverlayAt) {
        if let Some(step) = self.steps.last_mut() {
            step["expect"] = json!("or-end");
        }
        let name = overlay.name.clone();
        self.overlay = Some(overlay);
        if base || self.device.twin().is_some() {
            self.nodes[0] = name;
            // What was made over it is over the overlay now.
            self.made.iter_mut().filter_map(|made| made.edge.as_mut()).for_each(|e| e.below = None);
        } else {
            (self.nodes, self.filters) = ([name].into(), Vec::new());
            self.forget_made();
        }
    }

    pub fn reopen(&mut self, nodes: &[Reopened]) {
        let options: Vec<Value> = nodes.iter().filter_map(|node| self.reopened(*node)).collect();
        self.steps.push(reopen(&options));
    }

    fn reopened(&self, reopened: Reopened) -> Option<Value> {
        let Reopened { node, to, read_only, other } = reopened;
        let filters = self.nodes.iter().skip(1).zip(self.filters.iter().copied());
        let made = self.made.iter().filter_map(|made| Some((&made.name, made.filter?)));
        let known: Vec<(&String, Filter)> = filters.chain(made).collect();
        let mut options = match known.get(node % (known.len() + 1)) {
            Some((name, filter)) => {
                let mut options = filter.options(name);
                options[filter.child()] = json!(self.showing(to));
                if other && matches!(filter, Filter::Throttle { .. }) {
                    options["limits"] = json!({ "bps-total": 1 << 20 });
                }
                options
            }
            None => self.disk_options()?,
        };
        if read_only {
            options["read-only"] = json!(true);
        }
        Some(options)
    }

    /// The options of the disk, if it is a file.
    fn disk_options(&self) -> Option<Value> {
        let disk = &self.nodes[0];
        let is_first = self.device.nodes().contains(disk);
        let is_file = is_first && self.device.plan.disk.medium == Medium::File;
        (is_file || self.media.contains(disk))
            .then(|| json!({ "driver": "file", "node-name": disk, "filename": disk }))
    }

    /// Puts a new filter, and takes it out again, between the mirror's filter and a node above it.
    pub fn reopen_above(&mut self, name: String, nodes: &[Reopened]) {
        let Some((above, filter)) = self.above_mirror() else { return };
        let Some(Reopened { to, read_only, .. }) = nodes.first().copied() else { return };
        self.steps.extend(self.waits.running());
        let below = self.device.mirror_filter(0);
        let mut options = filter.options(&above);
        options[filter.child()] = json!(below);
        if to % 4 != 3 {
            let beside = json!({ "driver": "raw", "node-name": name, "file": below });
            self.steps.push(attempt("blockdev-add", beside));
            options[filter.child()] = json!(name);
        }
        if read_only {
            options["read-only"] = json!(true);
        }
        self.steps.push(reopen(&[options]));
    }

    /// The node that is above the first mirror's filter, if that is there.
    fn above_mirror(&self) -> Option<(String, Filter)> {
        let first = self.device.plan.mirrors.first()?;
        let nodes = self.device.nodes();
        let source = first.source.map_or(nodes.len() - 1, |source| source % nodes.len());
        if let Some(above) = nodes.get(source + 1) {
            return Some((above.clone(), self.device.harmless(self.device.plan.filters[source])));
        }
        let made = self.made_over_mirror()?;
        Some((made.name.clone(), made.filter?))
    }

    /// The last filter that he put above the first mirror's, where nothing else may have come in between.
    fn made_over_mirror(&self) -> Option<&Made> {
        self.made.iter().rfind(|made| {
            let edge = made.edge.as_ref();
            edge.is_some_and(|edge| edge.expected.is_some() && edge.below.is_some())
        })
    }

    pub fn reopen_backing(&mut self, name: String) {
        let Some(OverlayAt { name: overlay, backing, cluster }) = &self.overlay else { return };
        let beside = json!({ "driver": "throttle", "node-name": name, "file": backing });
        let options = json!({ "driver": "overlay", "node-name": overlay, "backing": name,
                              "cluster-size": cluster });
        self.steps.extend([attempt("blockdev-add", beside), reopen(&[options])]);
    }

    pub fn change_medium(&mut self, away: Away, back: Back) {
        let same = match back {
            Back::Same(index) => self.shows_surely(index),
            Back::Other => None,
        };
        let others = self.device.takes_other_media();
        if same.is_none() && !others {
            return;
        }
        self.steps.extend(self.waits.running());
        let id = self.device.id();
        self.steps.push(attempt("blockdev-remove-medium", json!({ "id": id })));
        match away {
            Away::Nothing => {}
            Away::ReadOnly => {
                if let Some(options) = self.disk_options() {
                    let mut read_only = options.clone();
                    read_only["read-only"] = json!(true);
                    self.steps.extend([reopen(&[read_only]), reopen(&[options])]);
                }
            }
            Away::Inactive => {
                let top = self.nodes.len() - 1;
                self.set_active(top, false);
            }
        }
        let node = same.unwrap_or_else(|| {
            let medium = format!("d{}m{}", self.device.number, self.media.len());
            self.media.push(medium.clone());
            (self.nodes, self.filters, self.overlay) = ([medium.clone()].into(), Vec::new(), None);
            self.is_lost = self.device.is_mirrored();
            self.forget_made();
            medium
        });
        let arguments = json!({ "id": id, "node-name": node });
        self.steps.push(attempt("blockdev-insert-medium", arguments));
    }

    /// A node that shows what the device shows, whatever has become of the mirror.
    fn shows_surely(&self, index: usize) -> Option<String> {
        if self.is_known() {
            return Some(self.showing(index).into());
        }
        let [mirror] = &self.device.plan.mirrors[..] else { return None };
        let nodes = self.device.nodes();
        let below = mirror.source.is_some_and(|source| source % nodes.len() + 1 < nodes.len());
        if below && !self.is_lost {
            return nodes.last().cloned();
        }
        Some(self.made_over_mirror()?.name.clone())
    }

    /// Hands over and takes back.
    pub fn set_active(&mut self, over: usize, all: bool) {
        let named = !all || !self.device.only;
        let node = named.then(|| self.showing(over).to_string());
        for active in [false, true] {
            let mut arguments = json!({ "active": active });
            if let Some(node) = &node {
                arguments["node-name"] = json!(node);
            }
            self.steps.push(attempt("blockdev-set-active", arguments));
        }
    }
}
