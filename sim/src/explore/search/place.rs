//! A place in the tree of all executions: what has been explored from there, and what is yet to be. Several searches
//! may be at work on it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::world::Quiet;

use super::wakeup::{Seen, Wakeup, covered};
use super::{Reduction, listed};
use crate::event::Event;
use crate::paths::PathId;

/// A place that several searches may hold.
pub type Shared = Arc<Quiet<Place>>;

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
    todo: Todo,
    /// Somebody entered an event whose footprint is not known yet; nobody else may enter one meanwhile, since it will
    /// sleep then.
    entering: bool,
}

impl Place {
    /// A place whose first event is being entered.
    pub fn entering(todo: Todo) -> Shared {
        Arc::new(Quiet::new(Self { entered: Vec::new(), todo, entering: true }))
    }

    /// Whether somebody may enter an event.
    pub fn has_work(&self) -> bool {
        !self.entering
            && match &self.todo {
                Todo::Events(events) => !events.is_empty(),
                Todo::Sequences(sequences) => !sequences.is_empty(),
            }
    }

    /// Takes out the event to explore next, the sequences to explore behind it, and the number of events entered
    /// before.
    pub fn enter(
        &mut self,
        enabled: &[Event],
        sleeping: &[Seen],
    ) -> Option<(Event, Wakeup, usize)> {
        if self.entering {
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
                    let accesses = Arc::from([]);
                    sequences.insert_first(Seen { event: *other, accesses, exact: false });
                }
                (event, behind)
            }
        };
        self.entering = true;
        Some((event, behind, self.entered.len()))
    }

    /// The event that was being entered has run.
    pub fn ran(&mut self, seen: Seen, reduction: Reduction) {
        self.entering = false;
        if reduction != Reduction::Plain {
            self.entered.push(seen);
        }
    }

    /// Sees to it that an event is explored, if it was not.
    pub fn insert(&mut self, event: Seen) {
        if let Todo::Sequences(sequences) = &mut self.todo
            && !listed(&self.entered, &event.event)
        {
            sequences.insert_one(event);
        }
    }

    /// Sees to it that a sequence is explored, unless what was explored leads to the same. `now` is the event that the
    /// one who asks is exploring.
    pub fn insert_sequence(
        &mut self,
        enabled: &[Event],
        sleeping: &[Seen],
        now: Event,
        sequence: Vec<Seen>,
    ) {
        let entered = self.entered.iter().filter(|seen| !seen.event.same(&now));
        let asleep: Vec<&Seen> = sleeping.iter().chain(entered).collect();
        if let Todo::Sequences(sequences) = &mut self.todo
            && !covered(&asleep, now, enabled, &sequence)
        {
            sequences.insert(sequence);
        }
    }

    /// Sees to it that all events of a process are explored.
    pub fn want(&mut self, enabled: &[Event], path: PathId) {
        if let Todo::Events(events) = &mut self.todo {
            let of_it = enabled.iter().filter(|event| event.path == path);
            let fresh = of_it.filter(|event| !listed(&self.entered, event));
            let fresh: Vec<Event> =
                fresh.filter(|event| !events.contains(event)).copied().collect();
            events.splice(0..0, fresh);
        }
    }

    /// Whether some event of a process was explored, or will be.
    pub fn wants(&self, path: PathId) -> bool {
        let of_it = |event: &Event| event.path == path;
        let wanted = matches!(&self.todo, Todo::Events(events) if events.iter().any(of_it));
        wanted || self.entered.iter().any(|seen| of_it(&seen.event))
    }
}
