//! Happens-before as an execution grows, and the races in it: pairs of steps that conflict and could have come the
//! other way round.
//!
//! A race is reversed by running, from where its earlier step ran, everything that does not come from that step, and
//! then the later one. Of the steps that conflict with a new one only the recent ones matter, up to the last that wrote
//! all that it touches: a race with an earlier one shows when the recent one is reversed. Where it cannot be reversed,
//! what enabled the new step comes from it, and from what lies before; only a guard that others may make true can hold
//! without, and a timer can be the next one without others, and then all steps are looked at. A process that was
//! enabled once and not any more is tried where it was disabled (`DepthFirst::try_disabled_before`).

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind, Reason};

use super::{DepthFirst, Level, Reduction, Seen};
use crate::event::{Action, Event};
use crate::explore::happens_before::{Steps, own_trace};
use crate::footprint::conflicts;
use crate::process::{BEGINNING, Enabler};
use crate::world::World;

/// A step that is to be tried behind this one.
#[derive(Clone)]
pub enum Race {
    /// It conflicts with this one.
    With(usize),
    /// This one registers a wait, whose guard may have held before that step.
    Hidden(usize, Arc<[Access]>),
    /// It conflicts with an event that slept where that step ran instead of it, and wakes it.
    Awake(usize),
    /// It touches what an event looks at that was possible before that step, and is not any more.
    Lost(usize, Event, Access),
}

impl Race {
    fn earlier(&self) -> usize {
        match self {
            Self::With(earlier) | Self::Hidden(earlier, _) => *earlier,
            Self::Awake(earlier) | Self::Lost(earlier, ..) => *earlier,
        }
    }
}

/// What did not happen at a step, or will not any more.
#[derive(Clone, Copy)]
pub(super) struct Lost {
    /// The step that this is known from.
    pub step: usize,
    /// Before this one it might have happened.
    earlier: usize,
    event: Event,
    /// If others had come first that touch this.
    access: Access,
}

/// Whether the later step of a race could have come first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reversible {
    Yes,
    /// It depends on a guard, or on an order of other steps.
    Perhaps,
    No,
}

impl DepthFirst {
    /// Enters the last step into happens-before; wants its races reversed.
    pub(super) fn analyse(&mut self, world: &World, accesses: &[Access]) {
        let step = self.levels.len() - 1;
        let seen = self.note(world, accesses);
        let Level { place, sleeping, .. } = &self.levels[step];
        place.with(|place| place.ran(sleeping, seen, self.reduction));
        if self.reduction == Reduction::SourceSets {
            for race in core::mem::take(&mut self.levels[step].races) {
                self.want_reversed(&race, step);
            }
        }
    }

    /// Enters the last step into happens-before.
    pub(super) fn note(&mut self, world: &World, accesses: &[Access]) -> Seen {
        let step = self.levels.len() - 1;
        let accesses: Arc<[Access]> = accesses.into();
        let plain = self.reduction == Reduction::Plain;
        self.levels[step].might_touch = match world.unseen.is_empty() {
            true => accesses.clone(),
            false => accesses.iter().chain(&world.unseen).copied().collect(),
        };
        if !plain || self.traces {
            let before = self.order(world, step, &accesses);
            if !plain {
                self.note_hidden_races(world, step, &before);
                self.note_awakened(step, &before, &accesses);
                self.note_lost(world, step, &before, &accesses);
            }
            self.levels[step].before = before;
            self.past.push(step, &accesses);
        }
        let level = &mut self.levels[step];
        level.rolling = world.rolling;
        level.accesses = accesses.clone();
        Seen { event: level.event, accesses }
    }

    /// The steps that happen before this one; notes its races and its trace.
    fn order(&mut self, world: &World, step: usize, accesses: &[Access]) -> Steps {
        let mut before = Steps::default();
        let mut causes = 0_u64;
        if self.follows != BEGINNING {
            let follows = &self.levels[self.follows as usize];
            before.union_with(&follows.before);
            before.insert(self.follows as usize);
            causes = causes.wrapping_add(follows.own_trace);
        }
        let mut conflicting = core::mem::take(&mut self.conflicting);
        self.past.recent(accesses, &mut conflicting);
        if self.reduction != Reduction::Plain && !conflicting.is_empty() {
            self.note_races(world, step, &before, accesses, &conflicting);
        }
        for earlier in &conflicting {
            let level = &self.levels[*earlier as usize];
            causes = causes.wrapping_add(level.own_trace);
            before.union_with(&level.before);
            before.insert(*earlier as usize);
        }
        self.conflicting = conflicting;
        let own = own_trace(world, causes);
        let rest = if step == 0 { 0 } else { self.levels[step - 1].trace };
        self.levels[step].own_trace = own;
        self.levels[step].trace = rest.wrapping_add(own);
        before
    }

    fn note_races(
        &mut self,
        world: &World,
        step: usize,
        program_order: &Steps,
        accesses: &[Access],
        recent: &[u32],
    ) {
        let mut races = core::mem::take(&mut self.levels[step].races);
        let all_reversible = self.add_races(world, step, program_order, recent, &mut races);
        let by_guard = |enabler: &Enabler| enabler.guard().is_some_and(|(_, open)| open);
        let open = self.levels[step].event.action == Action::Fire
            || !world.guards().is_empty()
            || self.enablers.iter().any(by_guard);
        if open && !all_reversible {
            let mut all = Vec::new();
            self.past.conflicting(accesses, &mut all);
            races.clear();
            self.add_races(world, step, program_order, &all, &mut races);
        }
        self.levels[step].races = races;
        self.note_unseen(world, step, program_order, recent);
    }

    /// What the task of this step waited for and did not look at would matter before those steps that brought it here,
    /// or that it conflicts with: others may yet change it.
    fn note_unseen(&mut self, world: &World, step: usize, program_order: &Steps, recent: &[u32]) {
        let event = self.levels[step].event;
        let recent = recent.iter().map(|earlier| *earlier as usize);
        for earlier in recent.filter(|earlier| !program_order.contains(*earlier)) {
            let lost = |access: &Access| Lost { step, earlier, event, access: *access };
            self.lost.extend(world.unseen.iter().map(lost));
        }
    }

    /// Adds those of `conflicting`, latest first, that the step can be tried before; whether all can, or lie before
    /// such.
    fn add_races(
        &self,
        world: &World,
        step: usize,
        program_order: &Steps,
        conflicting: &[u32],
        races: &mut Vec<Race>,
    ) -> bool {
        let mut covered = program_order.clone();
        let mut all = true;
        for &earlier in conflicting {
            let earlier = earlier as usize;
            if covered.contains(earlier) {
                continue;
            }
            let reversible = self.reversible(world, earlier, step);
            if reversible != Reversible::No {
                races.push(Race::With(earlier));
            }
            if reversible == Reversible::Yes {
                covered.union_with(&self.levels[earlier].before);
                covered.insert(earlier);
            } else {
                all = false;
            }
        }
        all
    }

    /// Steps that the registration of a wait must also be tried before: its guard may have been true then, and false by
    /// now, so that the wait has no step that would race with them.
    fn note_hidden_races(&mut self, world: &World, step: usize, before: &Steps) {
        if world.peeks().is_empty() {
            return;
        }
        let mut changes = Vec::new();
        self.past.conflicting(world.peeks(), &mut changes);
        let peeks: Arc<[Access]> = world.peeks().into();
        for earlier in changes.into_iter().map(|earlier| earlier as usize) {
            let holds = |peek: &Access| self.would_hold(world, earlier, peek) != Some(false);
            let open = !before.contains(earlier)
                && world.peeks().iter().any(holds)
                && self.reversible(world, earlier, step) != Reversible::No;
            if open {
                self.levels[step].races.push(Race::Hidden(earlier, peeks.clone()));
            }
        }
    }

    /// Steps of processes that had another event, which slept: it is awake behind this step.
    fn note_awakened(&mut self, step: usize, before: &Steps, accesses: &[Access]) {
        let wakes = |earlier: &usize| {
            let Level { event, sleeping, .. } = &self.levels[*earlier];
            let instead = |seen: &&Seen| seen.event.path == event.path;
            let hits = |seen: &Seen| conflicts(&seen.accesses, accesses);
            !before.contains(*earlier) && sleeping.iter().filter(instead).any(hits)
        };
        let woken: Vec<usize> = self.half_asleep.iter().copied().filter(wakes).collect();
        self.levels[step].races.extend(woken.into_iter().map(Race::Awake));
        let Level { event, sleeping, .. } = &self.levels[step];
        if sleeping.iter().any(|seen| seen.event.path == event.path) {
            self.half_asleep.push(step);
        }
    }

    /// Steps that made something impossible whose place among others this step has a part in: behind it, it might
    /// have come before that step.
    fn note_lost(&mut self, world: &World, step: usize, before: &Steps, accesses: &[Access]) {
        let lost = self.lost.iter().filter(|lost| {
            !before.contains(lost.earlier)
                && conflicts(core::slice::from_ref(&lost.access), accesses)
        });
        let races = lost.map(|lost| Race::Lost(lost.earlier, lost.event, lost.access));
        self.levels[step].races.extend(races);
        let lost = world.lost.iter().map(|(event, access)| (*event, *access));
        let lost = lost.map(|(event, access)| Lost { step, earlier: step, event, access });
        self.lost.extend(lost);
    }

    /// Whether the event of `later` could have run before that of `earlier`: it was enabled there; or what enables it
    /// now does so without `earlier`; or a guard that it looks at may hold without.
    fn reversible(&self, world: &World, earlier: usize, later: usize) -> Reversible {
        let event = self.levels[later].event;
        let began_before = self.follows == BEGINNING || (self.follows as usize) < earlier;
        let same = |other: &Event| other.path == event.path;
        if began_before && self.levels[earlier].enabled.iter().any(same) {
            return Reversible::Yes;
        }
        let from = |step: usize| step == earlier || self.levels[step].before.contains(earlier);
        let touching = |guard: &Access| {
            let mut steps = Vec::new();
            self.past.conflicting(core::slice::from_ref(guard), &mut steps);
            steps.into_iter().map(|step| step as usize).filter(|step| *step >= earlier)
        };
        let without = |enabler: &Enabler| match enabler.reason {
            Reason::Since(_, since) => since == BEGINNING || !from(since as usize),
            Reason::Guard(guard) | Reason::Handed(guard) => !touching(&guard).any(from),
            Reason::Waker | Reason::Boundary | Reason::Fell(_) => {
                let step = enabler.step as usize;
                // What came while a poll was under way is older than the task's last step.
                let apart = step > earlier || !began_before;
                enabler.step != BEGINNING && apart && !from(step)
            }
        };
        let may_hold = |guard: &Access| {
            (!began_before || touching(guard).any(|step| !from(step)))
                && self.would_hold(world, earlier, guard) != Some(false)
        };
        let open =
            |enabler: &Enabler| enabler.guard().is_some_and(|(g, open)| open && may_hold(&g));
        if self.enablers.iter().any(without) {
            // A timer may yet have to wait for others.
            if event.action == Action::Fire { Reversible::Perhaps } else { Reversible::Yes }
        } else if self.enablers.iter().any(open) || world.guards().iter().any(may_hold) {
            Reversible::Perhaps
        } else {
            Reversible::No
        }
    }

    /// Whether a guard that the last step's task waits for would hold if what comes from `earlier` had not come, if
    /// that is known: if all else that the guard looks at came before, it would see an older version.
    fn would_hold(&self, world: &World, earlier: usize, guard: &Access) -> Option<bool> {
        let from = |step: &usize| *step == earlier || self.levels[*step].before.contains(earlier);
        let mut steps = Vec::new();
        self.past.conflicting(&[Access { kind: Kind::Read, ..*guard }], &mut steps);
        let touching = steps.into_iter().map(|step| step as usize);
        let (come, stay): (Vec<_>, Vec<_>) =
            touching.filter(|step| *step >= earlier).partition(from);
        let first = come.last()?;
        let known = stay.first().is_none_or(|last| last < first);
        let first = u32::try_from(*first).expect("steps-are-limited");
        world.held_before(guard, first).filter(|_| known)
    }

    /// Wants the races of the new steps reversed, now that all that could come before is known.
    pub(super) fn reverse_races(&mut self) {
        for later in self.analysed_from..self.levels.len() {
            for race in core::mem::take(&mut self.levels[later].races) {
                let earlier = race.earlier();
                let sequence = self.reversed(&race, earlier, later);
                let Level { place, sleeping, .. } = &self.levels[earlier];
                place.with(|place| place.insert_sequence(sleeping, sequence));
            }
        }
    }

    /// What does not come from the race's earlier step, and then the later one.
    fn reversed(&self, race: &Race, earlier: usize, later: usize) -> Vec<Seen> {
        let seen = |step: usize| {
            let Level { event, accesses, might_touch, .. } = &self.levels[step];
            let exact = step != later || matches!(race, Race::Awake(_) | Race::Lost(..));
            let accesses = if exact { accesses } else { might_touch };
            Seen { event: *event, accesses: accesses.clone() }
        };
        let (until, last) = match race {
            Race::With(_) => (self.levels.len(), Some(seen(later))),
            Race::Hidden(_, peeks) => {
                let event = Event { action: Action::Poll, ..self.levels[later].event };
                (later + 1, Some(Seen { event, accesses: peeks.clone() }))
            }
            Race::Awake(_) => (later + 1, None),
            Race::Lost(_, event, access) => {
                let accesses = Arc::from([*access]);
                (later + 1, Some(Seen { event: *event, accesses }))
            }
        };
        let apart = |step: &usize| !self.levels[*step].before.contains(earlier);
        (earlier + 1..until).filter(apart).map(seen).chain(last).collect()
    }

    /// Sees to it that from before a race's earlier step an execution is explored in which `later` comes first.
    fn want_reversed(&mut self, race: &Race, later: usize) {
        let earlier = race.earlier();
        let Level { place, enabled, .. } = &self.levels[earlier];
        // Where it comes first, it may look at more than it did.
        let might_conflict = |before: &Steps| {
            let touched = &self.levels[later].might_touch;
            let hits = |step: usize| conflicts(&self.levels[step].accesses, touched);
            matches!(race, Race::With(_)) && before.iter().any(hits)
        };
        let mut between = Steps::default();
        let mut first = None;
        for step in earlier + 1..=later {
            let level = &self.levels[step];
            if step != later && level.before.contains(earlier) {
                continue;
            }
            let path = level.event.path;
            let barred = level.before.meets(&between) || step == later && might_conflict(&between);
            if !barred {
                if place.with(|place| place.wants(path)) {
                    return;
                }
                first = first.or(Some(path));
            }
            between.insert(step);
        }
        let possible = first.filter(|path| enabled.iter().any(|event| event.path == *path));
        place.with(|place| match possible {
            Some(path) => place.want(enabled, path),
            // It was enabled by something that the footprints do not order: try everything.
            None => enabled.iter().for_each(|event| place.want(enabled, event.path)),
        });
    }
}
