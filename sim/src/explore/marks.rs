//! What a shrunk tape says of its steps: what the failure needs, each tried by a run without it.

use alloc::vec::Vec;

use super::edits::{spliced, without_failure, without_fault};
use super::lenient::{Line, Step};
use super::linear::{Race, postponed, races, swapped};
use super::shrink::{ANALYSED_STEPS, Shrinker};
use crate::event::Action;
use crate::tape::Mark;

/// Races that are turned round to see whether the failure needs them.
const RACES: usize = 1_000;

impl Shrinker<'_> {
    /// What is necessary, by step.
    pub(super) fn marks(&mut self) -> Vec<(usize, Mark)> {
        let best = self.best.clone();
        let mut marks = Vec::new();
        for fault in best.places(|step| without_failure(step.action).is_some()) {
            let vanishes = |plan: Vec<Line>| self.replay(&plan).1.is_none();
            if without_fault(&best, fault).is_some_and(vanishes) {
                let is_crash = best.steps[fault].action == Action::Crash;
                marks.push((fault, if is_crash { Mark::Crash } else { Mark::Fault }));
            }
        }
        for place in best.places(|step| step.preempts.is_some()) {
            if self.replay(&spliced(&best, place, Line::GoOn)).1.is_none() {
                marks.push((place, Mark::Preemption));
            }
        }
        if best.steps.len() > ANALYSED_STEPS {
            return marks;
        }
        if let Some(race) = self.necessary_race() {
            marks.push((race.earlier, Mark::Race { other: race.later }));
            marks.push((race.later, Mark::Race { other: race.earlier }));
        }
        marks
    }

    /// Two conflicting steps without whose order there is no failure.
    fn necessary_race(&mut self) -> Option<Race> {
        let steps = self.best.steps.clone();
        let [near, far] = races(&steps);
        let all = near.into_iter().map(|race| (race, true));
        let all = all.chain(far.into_iter().map(|race| (race, false)));
        for (race, is_near) in all.take(RACES) {
            if !(self.go_on)(&self.summary) {
                break;
            }
            let (plan, fixed) = match is_near {
                true => swapped(&steps, race),
                false => postponed(&self.world, &steps, race),
            };
            let (ran, failing) = self.replay(&plan);
            let took_place = ran.len() >= fixed
                && ran[..fixed].iter().map(Step::line).eq(plan[..fixed].iter().copied());
            if failing.is_none() && took_place {
                return Some(race);
            }
        }
        None
    }
}
