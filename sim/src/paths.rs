//! Who is who in every interleaving: a process is named by its path of creation.
//!
//! A path is (creator's path, name, how-manieth child of that name): the same in every schedule. The table outlives
//! executions, so that a path has one number throughout an exploration; numbers differ from one exploration to the
//! next, and nothing that leaves the world (order, tape, hash) uses them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::hash::Rolling;

/// A path's number in its table.
pub type PathId = u32;

struct Entry {
    /// Children by name, then by occurrence.
    children: Vec<(Box<str>, Vec<PathId>)>,
    label: String,
    hash: u64,
}

/// Every path met so far.
pub struct PathTable(Vec<Entry>);

/// The path of the world itself, whose children are the actors.
pub const ROOT: PathId = 0;

impl PathTable {
    pub fn new() -> Self {
        Self(Vec::from([Entry { children: Vec::new(), label: String::new(), hash: 0 }]))
    }

    /// The `occurrence`-th child of `parent` called `name`. Occurrences are met in order.
    pub fn intern(&mut self, parent: PathId, name: &str, occurrence: u32) -> PathId {
        let family = self.family(parent, name);
        let siblings = &self.0[parent as usize].children[family].1;
        if let Some(id) = siblings.get(occurrence as usize) {
            return *id;
        }
        assert_eq!(siblings.len(), occurrence as usize, "children-are-counted-from-zero");
        let label = self.label_of_child(parent, name, occurrence);
        let hash = Rolling::of_text(&label);
        let id = PathId::try_from(self.0.len()).expect("paths-are-few");
        self.0.push(Entry { children: Vec::new(), label, hash });
        self.0[parent as usize].children[family].1.push(id);
        id
    }

    fn family(&mut self, parent: PathId, name: &str) -> usize {
        let children = &mut self.0[parent as usize].children;
        children.iter().position(|(known, _)| &**known == name).unwrap_or_else(|| {
            children.push((name.into(), Vec::new()));
            children.len() - 1
        })
    }

    /// Tasks are `creator/name`; what a task submits is numbered behind a sign: `creator#3`.
    fn label_of_child(&self, parent: PathId, name: &str, occurrence: u32) -> String {
        let creator = &self.0[parent as usize].label;
        match name {
            "#" | "@" | "?" | "+" => format!("{creator}{name}{occurrence}"),
            _ if occurrence > 0 => {
                self.label_of_child(parent, &format!("{name}~{}", occurrence + 1), 0)
            }
            _ if creator.is_empty() => name.into(),
            _ => format!("{creator}/{name}"),
        }
    }

    /// What people read, and what a tape says.
    pub fn label(&self, path: PathId) -> &str {
        &self.0[path as usize].label
    }

    /// The hash of the label.
    pub fn hash(&self, path: PathId) -> u64 {
        self.0[path as usize].hash
    }
}
