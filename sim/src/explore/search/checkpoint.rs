//! A search put down between executions, to be taken up later, by another process: what is left to do in its tree.
//!
//! Kept are the places on the ways of the work items, as a trie, and what is to be done there. What else is known of a
//! step (what was possible, who slept, what happens before it) is found again by going the way once more; a program
//! that has changed is noticed there, if it takes another way. Each event with its footprint is kept once, and paths
//! keep their numbers.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use blockyard_sync::door::world::Quiet;
use blockyard_sync::door::{Access, Kind};
use blockyard_units::Id;
use serde::{Deserialize, Serialize};

use super::place::{Place, Shared, Todo};
use super::wakeup::{Seen, Wakeup};
use super::{DepthFirst, Reduction, WorkItem};
use crate::event::Event;
use crate::explore::chooser::{Chooser, Pick};
use crate::explore::{Limits, Program, run_once};
use crate::paths::{Numbers, PathId};
use crate::world::World;

/// The work items of a search; see the module.
#[derive(Serialize, Deserialize)]
pub struct Checkpoint {
    pub(in crate::explore) reduction: Reduction,
    /// Of each path its creator, its name and which child of that name it is; numbered from one.
    paths: Vec<(PathId, Box<str>, u32)>,
    /// Nothing was run yet.
    whole: bool,
    steps: Vec<SavedStep>,
    /// Each behind the one that it comes from.
    places: Vec<SavedPlace>,
}

/// An event and what it touched.
type SavedStep = (Event, Vec<SavedAccess>);
/// The object's creator and index, the kind's letter, and the range.
type SavedAccess = (u32, u32, char, u64, u64);
/// Numbers of steps.
type SavedSequence = Vec<usize>;
/// How deep each is, and its number; as [`Wakeup::walk`] goes.
type SavedTree = Vec<(usize, usize)>;

#[derive(Serialize, Deserialize)]
struct SavedPlace {
    /// The place before, and the event that leads here.
    from: Option<(usize, Event)>,
    entered: SavedSequence,
    todo: SavedTodo,
    /// With what is to be explored behind it.
    entering: Option<(Event, SavedTree)>,
    waiting: Vec<SavedSequence>,
}

#[derive(Serialize, Deserialize)]
enum SavedTodo {
    Events(Vec<Event>),
    Sequences(SavedTree),
}

/// Why a search cannot be taken up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRestored(String);

impl fmt::Display for NotRestored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for NotRestored {}

impl Checkpoint {
    /// Of all work items that there are; nobody may be at work.
    pub(in crate::explore) fn new(
        reduction: Reduction,
        paths: &Numbers,
        items: &[WorkItem],
    ) -> Self {
        let mut saver = Saver::default();
        items.iter().for_each(|item| saver.save(item));
        let whole = items.iter().any(|item| item.levels.is_empty());
        let Saver { steps, places, .. } = saver;
        Self { reduction, paths: paths.list(), whole, steps, places }
    }

    /// Whether nothing is left to do.
    pub fn is_end(&self) -> bool {
        !self.whole && self.places.is_empty()
    }

    /// The paths, with the numbers that they had.
    pub(in crate::explore) fn paths(&self) -> Numbers {
        Numbers::from_list(&self.paths)
    }

    /// The work items. Each way is gone once more in `world`, which must number paths as the checkpoint does, by
    /// `search`, which must be at no work.
    ///
    /// # Errors
    /// If the program does not go the way that it went, or the checkpoint contradicts itself.
    pub(in crate::explore) fn items(
        &self,
        world: &mut World,
        program: &dyn Program,
        search: &mut DepthFirst,
        limits: Limits,
    ) -> Result<Vec<WorkItem>, NotRestored> {
        if self.whole {
            return Ok(Vec::from([WorkItem::whole()]));
        }
        let damaged = || NotRestored("it contradicts itself".into());
        let loader = Loader::new(&self.steps).ok_or_else(damaged)?;
        let places = loader.places(&self.places).ok_or_else(damaged)?;
        let mut items = Vec::new();
        for (last, place) in self.places.iter().enumerate() {
            let Some((event, guide)) = &place.entering else { continue };
            let guide = loader.tree(guide).ok_or_else(damaged)?;
            let mut way = Vec::from([(places[last].clone(), *event)]);
            let mut from = place.from;
            while let Some((before, event)) = from {
                way.push((places[before].clone(), event));
                from = self.places[before].from;
            }
            way.reverse();
            search.adopt(WorkItem::whole());
            let mut retrace = Retrace { search, way: &way, guide };
            run_once(world, program, &mut retrace, limits, &mut |_, _| ());
            let gone = search.levels.len();
            if gone < way.len() {
                return Err(NotRestored(format!("step {} of its way is not possible", gone + 1)));
            }
            items.push(search.leave());
        }
        Ok(items)
    }
}

/// Goes the way of a work item, and notes what the one who has it knows of it.
struct Retrace<'a> {
    search: &'a mut DepthFirst,
    way: &'a [(Shared, Event)],
    /// What is to be explored behind its end.
    guide: Wakeup,
}

impl Chooser for Retrace<'_> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let Self { search, way, guide } = self;
        let (place, event) = &way[search.levels.len()];
        let Some(index) = enabled.iter().position(|other| other == event) else {
            return Pick::Blocked;
        };
        let sleeping = search.sleeping_now();
        let same = |seen: &Seen| seen.event.same(event);
        let elders =
            place.with(|place| place.entered.iter().position(same).unwrap_or(place.entered.len()));
        let is_last = search.levels.len() + 1 == way.len();
        let guide = if is_last { core::mem::take(guide) } else { Wakeup::default() };
        search.push_level(place.clone(), enabled, sleeping, (*event, guide, elders));
        if is_last {
            return Pick::Blocked;
        }
        search.picked(world, *event);
        Pick::Event(index)
    }

    fn ran(&mut self, world: &World, _event: Event, accesses: &[Access]) {
        self.search.note(world, accesses);
        // They were reversed when the step ran first.
        self.search.levels.iter_mut().for_each(|level| level.races.clear());
    }
}

#[derive(Default)]
struct Saver {
    steps: Vec<SavedStep>,
    numbers: BTreeMap<(Event, Arc<[Access]>), usize>,
    places: Vec<SavedPlace>,
    by_origin: BTreeMap<Option<(usize, Event)>, usize>,
}

impl Saver {
    fn save(&mut self, item: &WorkItem) {
        let mut from = None;
        let mut last = None;
        for level in &item.levels {
            let place = match self.by_origin.get(&from) {
                Some(place) => *place,
                None => {
                    let place = level.place.with(|place| self.place(from, place));
                    self.by_origin.insert(from, self.places.len());
                    self.places.push(place);
                    self.places.len() - 1
                }
            };
            from = Some((place, level.event));
            last = Some((place, level));
        }
        if let Some((place, level)) = last {
            self.places[place].entering = Some((level.event, self.tree(&level.guide)));
        }
    }

    fn place(&mut self, from: Option<(usize, Event)>, place: &Place) -> SavedPlace {
        let todo = match &place.todo {
            Todo::Events(events) => SavedTodo::Events(events.clone()),
            Todo::Sequences(sequences) => SavedTodo::Sequences(self.tree(sequences)),
        };
        let waiting = place.waiting.iter().map(|sequence| self.sequence(sequence)).collect();
        SavedPlace { from, entered: self.sequence(&place.entered), todo, entering: None, waiting }
    }

    fn tree(&mut self, tree: &Wakeup) -> SavedTree {
        tree.walk().into_iter().map(|(depth, seen)| (depth, self.step(seen))).collect()
    }

    fn sequence(&mut self, sequence: &[Seen]) -> SavedSequence {
        sequence.iter().map(|seen| self.step(seen)).collect()
    }

    fn step(&mut self, seen: &Seen) -> usize {
        let next = self.steps.len();
        let key = (seen.event, seen.accesses.clone());
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            let accesses = seen.accesses.iter().map(|access| {
                let Access { object, kind, from, to } = *access;
                let letter = match kind {
                    Kind::Read => 'r',
                    Kind::Write => 'w',
                    Kind::Add => 'a',
                };
                (object.creator, object.index, letter, from, to)
            });
            self.steps.push((seen.event, accesses.collect()));
        }
        number
    }
}

struct Loader(Vec<Seen>);

impl Loader {
    fn new(steps: &[SavedStep]) -> Option<Self> {
        let access = |&(creator, index, letter, from, to): &SavedAccess| {
            let kind = match letter {
                'r' => Kind::Read,
                'w' => Kind::Write,
                'a' => Kind::Add,
                _ => return None,
            };
            Some(Access { object: Id { creator, index }, kind, from, to })
        };
        let seen = |(event, accesses): &SavedStep| {
            let accesses = accesses.iter().map(access).collect::<Option<_>>()?;
            Some(Seen { event: *event, accesses })
        };
        steps.iter().map(seen).collect::<Option<_>>().map(Self)
    }

    /// Each place, with what is to be done there.
    fn places(&self, places: &[SavedPlace]) -> Option<Vec<Shared>> {
        let place = |(number, place): (usize, &SavedPlace)| {
            if place.from.is_some_and(|(before, _)| before >= number) {
                return None;
            }
            let todo = match &place.todo {
                SavedTodo::Events(events) => Todo::Events(events.clone()),
                SavedTodo::Sequences(tree) => Todo::Sequences(self.tree(tree)?),
            };
            let waiting = place.waiting.iter().map(|sequence| self.sequence(sequence));
            Some(Arc::new(Quiet::new(Place {
                entered: self.sequence(&place.entered)?,
                todo,
                entering: place.entering.as_ref().map(|(event, _)| *event),
                waiting: waiting.collect::<Option<_>>()?,
            })))
        };
        places.iter().enumerate().map(place).collect()
    }

    fn tree(&self, tree: &SavedTree) -> Option<Wakeup> {
        let walk = tree.iter().map(|&(depth, step)| Some((depth, self.0.get(step)?.clone())));
        Wakeup::from_walk(walk.collect::<Option<_>>()?)
    }

    fn sequence(&self, sequence: &SavedSequence) -> Option<Vec<Seen>> {
        sequence.iter().map(|step| self.0.get(*step).cloned()).collect()
    }
}
