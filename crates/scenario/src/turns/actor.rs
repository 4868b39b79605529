//! Somebody who does steps in his turns.

use std::collections::VecDeque;

use blockyard_qmp::{Dict, Value};

use super::side::Told;
use crate::steps::Step;

/// What comes next.
pub(super) enum Next {
    /// He does this.
    Do(Step),
    /// Something between the actors, which is done.
    Passed,
}

pub(super) struct Actor {
    pub name: String,
    number: u64,
    steps: VecDeque<Step>,
    /// The events that he listens to.
    names: Vec<String>,
    mailbox: VecDeque<Told>,
    requests: u64,
}

/// Whether an event has this name, and data that contain `matching`.
fn is(told: &Told, name: &str, matching: &Dict) -> bool {
    let matches = |(key, value): (&str, &Value)| told.1.get(key) == Some(value);
    told.0 == name && matching.iter().all(matches)
}

impl Actor {
    pub fn new(number: u64, name: &str, steps: &[Step]) -> Self {
        let mut names = Vec::new();
        for step in steps {
            step.visit_all(&mut |step| {
                if let Step::Wait { event, or_end, .. } = step {
                    names.push(event.clone());
                    names.extend(or_end.iter().map(|(name, _)| name.clone()));
                }
            });
        }
        let (mailbox, requests) = (VecDeque::new(), 0);
        Self { name: name.into(), number, steps: steps.to_vec().into(), names, mailbox, requests }
    }

    /// Somebody told this.
    pub fn hear(&mut self, told: &[Told]) {
        let for_him = told.iter().filter(|(name, _)| self.names.contains(name));
        self.mailbox.extend(for_him.cloned());
    }

    /// He does nothing any more.
    pub fn end(&mut self) {
        self.steps.clear();
    }

    /// Whether he is not at his end, and does not wait.
    pub fn is_able(&self) -> bool {
        match self.steps.front() {
            None => false,
            Some(Step::Wait { event, data, or_end }) => {
                let or_end = or_end.iter().map(|(name, data)| (name, data));
                let mut wanted = [(event, data)].into_iter().chain(or_end);
                wanted.any(|(name, data)| self.mailbox.iter().any(|told| is(told, name, data)))
            }
            Some(_) => true,
        }
    }

    /// What he waits for, if he does.
    pub fn waits_for(&self) -> Option<String> {
        let Step::Wait { event, data, .. } = self.steps.front()? else { return None };
        Some(format!("{} waits for {event} {data}", self.name))
    }

    /// His next step; `choose` takes one of so many branches.
    pub fn next(&mut self, mut choose: impl FnMut(usize) -> usize) -> Next {
        match self.steps.pop_front() {
            Some(Step::Wait { event, data, or_end }) => {
                let fits = |told: &Told| {
                    let ends = or_end.iter().any(|(name, data)| is(told, name, data));
                    ends || is(told, &event, &data)
                };
                // What came before it is of no interest any more.
                let came = std::iter::from_fn(|| self.mailbox.pop_front()).find(fits);
                if !came.is_some_and(|told| is(&told, &event, &data)) {
                    self.end();
                }
                Next::Passed
            }
            Some(Step::Either { branches }) => {
                let branch = branches[choose(branches.len())].clone();
                branch.into_iter().rev().for_each(|step| self.steps.push_front(step));
                Next::Passed
            }
            Some(Step::Always { steps }) => {
                self.steps.push_front(Step::Always { steps: steps.clone() });
                steps.into_iter().rev().for_each(|step| self.steps.push_front(step));
                Next::Passed
            }
            Some(step) => Next::Do(step),
            None => Next::Passed,
        }
    }

    /// Whose data his next request has.
    pub fn tag(&mut self, step: &Step) -> u64 {
        if matches!(step, Step::Request { .. }) {
            self.requests += 1;
        }
        (self.number << 16) | self.requests
    }
}
