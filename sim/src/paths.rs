//! Who is who in every interleaving: a process is named by its path of creation.
//!
//! A path is (creator's path, name, how-manieth child of that name): the same in every schedule. Its number is the same
//! in all worlds of one exploration; numbers differ from one exploration to the next, and nothing that leaves the world
//! (order, tape, hash) uses them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::world::Quiet;

use crate::hash::Rolling;

/// A path's number.
pub type PathId = u32;

/// The path of the world itself, whose children are the actors.
pub const ROOT: PathId = 0;

/// The numbers of all paths of an exploration; clones are the same.
#[derive(Clone, Default)]
pub struct Numbers(Arc<Quiet<BTreeMap<Birth, PathId>>>);

/// The parent's number, the name, and which child of that name it is.
pub type Birth = (PathId, Box<str>, u32);

impl Numbers {
    fn of(&self, parent: PathId, name: &str, occurrence: u32) -> PathId {
        self.0.with(|numbers| {
            let next = PathId::try_from(numbers.len() + 1).expect("paths-are-few");
            *numbers.entry((parent, name.into(), occurrence)).or_insert(next)
        })
    }

    /// The paths in the order of their numbers, which begin with one: each one's parent, name, and which child of that
    /// name it is.
    pub fn list(&self) -> Vec<Birth> {
        self.0.with(|numbers| {
            let mut births: Vec<_> = numbers.iter().collect();
            births.sort_unstable_by_key(|(_, number)| **number);
            births.into_iter().map(|(birth, _)| birth.clone()).collect()
        })
    }

    /// The numbers of a list.
    pub fn from_list(births: &[Birth]) -> Self {
        Self(Arc::new(Quiet::new(births.iter().cloned().zip(1..).collect())))
    }
}

#[derive(Default)]
struct Entry {
    /// Children by name, then by occurrence.
    families: Vec<(Box<str>, Vec<PathId>)>,
    label: String,
    hash: u64,
}

/// The paths that one world has met.
pub struct PathTable {
    numbers: Numbers,
    /// By number; those of paths that only other worlds have met are empty.
    entries: Vec<Entry>,
}

impl PathTable {
    pub fn new(numbers: Numbers) -> Self {
        Self { numbers, entries: Vec::from([Entry::default()]) }
    }

    /// The number of `name` among the names that children of `parent` have in this world.
    pub fn family(&mut self, parent: PathId, name: &str) -> u32 {
        let families = &mut self.entries[parent as usize].families;
        let index = families.iter().position(|(known, _)| &**known == name).unwrap_or_else(|| {
            families.push((name.into(), Vec::new()));
            families.len() - 1
        });
        u32::try_from(index).expect("names-are-few")
    }

    /// The `occurrence`-th child of `parent` in this family. Occurrences are met in order.
    pub fn intern(&mut self, parent: PathId, family: u32, occurrence: u32) -> PathId {
        let (name, siblings) = &self.entries[parent as usize].families[family as usize];
        if let Some(id) = siblings.get(occurrence as usize) {
            return *id;
        }
        assert_eq!(siblings.len(), occurrence as usize, "children-are-counted-from-zero");
        let label = self.label_of_child(parent, name, occurrence);
        let hash = Rolling::of_text(&label);
        let id = self.numbers.of(parent, name, occurrence);
        self.entries[parent as usize].families[family as usize].1.push(id);
        if self.entries.len() <= id as usize {
            self.entries.resize_with(id as usize + 1, Entry::default);
        }
        self.entries[id as usize] = Entry { families: Vec::new(), label, hash };
        id
    }

    /// Tasks are `creator/name`; what a task submits is numbered behind a sign: `creator#3`.
    fn label_of_child(&self, parent: PathId, name: &str, occurrence: u32) -> String {
        let creator = &self.entries[parent as usize].label;
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
        &self.entries[path as usize].label
    }

    /// The hash of the label.
    pub fn hash(&self, path: PathId) -> u64 {
        self.entries[path as usize].hash
    }
}
