//! The least of all failing executions: wherever shrinking began, it ends there if what may be simpler can be
//! exhausted.
//!
//! Most failures need few preemptions, so executions are searched for the least failure under rising bounds on these,
//! up to what the failure in hand needs. What remains are executions with fewer faults or crashes that preempt more;
//! for these a reduced search tells whether any of them fails.

use alloc::vec::Vec;

use super::chooser::Chooser;
use super::fewer::Fewer;
use super::least::{Bound, Least};
use super::lenient::{Cost, Line};
use super::runs::Choices;
use super::shrink::Shrinker;
use super::{Outcome, Watched, run_once};

/// Steps after which the search is given up.
const SEARCHED_STEPS: u64 = 1_500_000;

/// The search was given up.
pub(super) struct Unsure;

impl Shrinker<'_> {
    /// Finds the least failure, which may be the one in hand.
    ///
    /// # Errors
    /// If that is not sure; the failure in hand is the least that was met.
    pub(super) fn search(&mut self) -> Result<(), Unsure> {
        let until = self.summary.steps + SEARCHED_STEPS;
        loop {
            self.search_by_preemptions(until)?;
            let Cost { faults, crashes, .. } = self.best.cost;
            let fewer = faults > 0 && self.finds(Fewer::new(faults - 1, u32::MAX), until)?
                || crashes > 0 && self.finds(Fewer::new(faults, crashes - 1), until)?;
            if !fewer {
                return Ok(());
            }
        }
    }

    fn search_by_preemptions(&mut self, until: u64) -> Result<(), Unsure> {
        let cost = self.best.cost;
        for preemptions in 0..=cost.preemptions {
            let mut least = Least::new(Bound { cost, or_equal: true, preemptions });
            let mut best = None;
            let searched = self.exhaust(&mut least, &mut best, until);
            if let Some(choices) = &best {
                self.take(choices);
            }
            searched?;
            if best.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn exhaust(
        &mut self,
        least: &mut Least,
        best: &mut Option<Choices>,
        until: u64,
    ) -> Result<(), Unsure> {
        loop {
            let (outcome, choices) = self.run(least, until)?;
            if self.is_same(&outcome) && least.failed() {
                *best = Some(choices);
            }
            if !least.advance() {
                return Ok(());
            }
        }
    }

    /// Whether there is a failure with fewer faults or crashes; then it is the one in hand.
    fn finds(&mut self, mut fewer: Fewer, until: u64) -> Result<bool, Unsure> {
        let mut is_sure = true;
        loop {
            let (outcome, choices) = self.run(&mut fewer, until)?;
            if self.is_same(&outcome) {
                self.take(&choices);
                return Ok(true);
            }
            // How its steps could have come otherwise is known only of an execution that went on to its end.
            is_sure &= !matches!(outcome, Outcome::Violated(_));
            if !fewer.advance() {
                return if is_sure { Ok(false) } else { Err(Unsure) };
            }
        }
    }

    fn run(&mut self, chooser: &mut dyn Chooser, until: u64) -> Result<(Outcome, Choices), Unsure> {
        if !self.may_go_on() || self.summary.steps > until {
            return Err(Unsure);
        }
        let mut choices = Choices::new();
        let mut watch = |_: &_, watched: Watched<'_>| {
            if let Watched::Before(event, _) = watched {
                choices.push((event.path, event.action));
            }
        };
        let report = run_once(&mut self.world, self.program, chooser, self.limits, &mut watch);
        self.summary.executions += 1;
        self.summary.steps += u64::from(report.steps);
        Ok((report.outcome, choices))
    }

    fn is_same(&self, outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Violated(finding) if (self.same)(finding))
    }

    fn take(&mut self, choices: &Choices) {
        let plan: Vec<_> = choices.iter().map(|(path, act)| Line::Take(*path, *act)).collect();
        self.best = self.replay(&plan).1.expect("one-tape-one-run");
    }
}
