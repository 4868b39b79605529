//! A place in the tree of all executions: what has been explored from there, and what is yet to be. Several searches
//! may be at work on it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::world::Quiet;

use super::wakeup::{Seen, Wakeup, begins};
use super::{Reduction, listed};
use crate::event::Event;
use crate::paths::PathId;

/// A place that several searches may hold.
pub type Shared = Arc<Quiet<Place>>;

/// An event to explore next, the sequences to explore behind it, and how many events were entered before.
pub type Entered = (Event, Wakeup, usize);

/// What is yet to be explored from a place.
pub enum Todo {
    /// These events, the last one first.
    Events(Vec<Event>),
    /// These sequences.
    Sequences(Wakeup),
}

impl Default for Todo {
    fn default() -> Self {
        Self::Events(Vec::new())
    }
}

/// See the module.
#[derive(Default)]
pub struct Place {
    /// The events entered so far, in order, with the footprints that they have here.
    pub entered: Vec<Seen>,
    pub todo: Todo,
    /// The event that somebody is entering, whose footprint is not known yet; nobody else may enter one meanwhile,
    /// since it will sleep then.
    pub entering: Option<Event>,
    /// Sequences that others ask for meanwhile.
    pub waiting: Vec<Vec<Seen>>,
}

impl Place {
    /// A place whose first event, this one, is being entered.
    pub fn entering(event: Event, todo: Todo) -> Shared {
        let entering = Some(event);
        Arc::new(Quiet::new(Self { todo, entering, ..Self::default() }))
    }

    /// Takes out what to explore next.
    pub fn enter(&mut self, enabled: &[Event], sleeping: &[Seen]) -> Option<Entered> {
        if self.entering.is_some() {
            return None;
        }
        let Self { entered, todo, .. } = self;
        let slept = |event: &Event| listed(entered, event) || listed(sleeping, event);
        let (event, behind) = match todo {
            Todo::Events(events) => loop {
                let event = events.pop()?;
                if !slept(&event) {
                    break (event, Wakeup::default());
                }
            },
            Todo::Sequences(sequences) => {
                let (event, behind) = sequences.take(enabled, slept)?;
                let alternatives = enabled.iter().filter(|other| other.path == event.path);
                for other in alternatives.filter(|other| **other != event && !slept(other)) {
                    sequences.insert_first(Seen { event: *other, accesses: Arc::from([]) });
                }
                (event, behind)
            }
        };
        self.entering = Some(event);
        Some((event, behind, self.entered.len()))
    }

    /// The event that was being entered has run.
    pub fn ran(&mut self, sleeping: &[Seen], seen: Seen, reduction: Reduction) {
        self.entering = None;
        if reduction != Reduction::Plain {
            self.entered.push(seen);
        }
        for sequence in core::mem::take(&mut self.waiting) {
            self.insert_sequence(sleeping, sequence);
        }
    }

    /// Whether the event was explored, or somebody is about to.
    fn began(&self, event: &Event) -> bool {
        listed(&self.entered, event) || self.entering.is_some_and(|other| other.same(event))
    }

    /// Sees to it that an event is explored, if it was not.
    pub fn insert(&mut self, event: Seen) {
        let began = self.began(&event.event);
        if let Todo::Sequences(sequences) = &mut self.todo
            && !began
        {
            sequences.insert_one(event);
        }
    }

    /// Sees to it that a sequence is explored, unless what was or is being explored leads to the same.
    pub fn insert_sequence(&mut self, sleeping: &[Seen], sequence: Vec<Seen>) {
        if self.entering.is_some() {
            return self.waiting.push(sequence);
        }
        let mut began = sleeping.iter().chain(&self.entered);
        if let Todo::Sequences(sequences) = &mut self.todo
            && !began.any(|seen| begins(&seen.event, &sequence).is_some())
        {
            sequences.insert(sequence);
        }
    }

    /// Sees to it that all events of a process are explored.
    pub fn want(&mut self, enabled: &[Event], path: PathId) {
        let of_it = enabled.iter().filter(|event| event.path == path);
        let fresh: Vec<Event> = of_it.filter(|event| !self.began(event)).copied().collect();
        if let Todo::Events(events) = &mut self.todo {
            let fresh = fresh.into_iter().filter(|event| !events.contains(event));
            let fresh: Vec<Event> = fresh.collect();
            events.splice(0..0, fresh);
        }
    }

    /// Whether some event of a process was explored, or will be.
    pub fn wants(&self, path: PathId) -> bool {
        let of_it = |event: &Event| event.path == path;
        let wanted = matches!(&self.todo, Todo::Events(events) if events.iter().any(of_it));
        wanted
            || self.entering.as_ref().is_some_and(of_it)
            || self.entered.iter().any(|seen| of_it(&seen.event))
    }
}
