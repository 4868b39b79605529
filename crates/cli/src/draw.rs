//! Runs that are drawn, one for each seed, by any number of threads: each has every so-manieth seed and a sampler of
//! its own.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blockyard_sim::{Exploration, Explorer, Sampling, Summary, Verdict};

use crate::explore::Search;
use crate::progress::{Interrupt, Progress};

impl Search<'_> {
    /// Draws a run for each seed. Of several that break something the one with the least seed is kept: those who are
    /// not so far go on up to there.
    pub fn draw(
        &self,
        sampling: Sampling,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> Exploration {
        let (least, done) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        let known_traces = Arc::default();
        let explore = |number: usize| {
            let Range { start, end } = self.seeds;
            let mut seeds = (start..end).skip(number).step_by(self.threads);
            let mut next = seeds.clone().skip(1);
            let mut go_on = |_: &Summary| {
                progress.show(done.fetch_add(1, Ordering::Relaxed) + 1);
                let behind = next.next().is_some_and(|next| next > least.load(Ordering::Relaxed));
                !behind && !interrupt.is_set()
            };
            let program = self.spec.program();
            let mut explorer = Explorer::new(&program, self.spec.setup(0), self.limits, &mut go_on);
            explorer.known_traces = Arc::clone(&known_traces);
            let exploration = explorer.sample(sampling, &mut seeds);
            if let Verdict::Violated { seed: Some(seed), .. } = exploration.verdict {
                least.fetch_min(seed, Ordering::Relaxed);
            }
            exploration
        };
        let mut all = in_threads(self.threads, &explore);
        // What was broken comes first, the least seed before others; then who was interrupted.
        all.sort_by_key(|exploration| match exploration.verdict {
            Verdict::Violated { seed, .. } => (0, seed),
            Verdict::Interrupted => (1, None),
            Verdict::Clean { .. } => (2, None),
        });
        let mut all = all.into_iter();
        let mut first = all.next().expect("there-is-a-thread");
        all.for_each(|other| first.summary.add(other.summary));
        first
    }

    /// Draws a run for each seed, in this thread. `go_on` is asked after each.
    pub fn draw_here(
        &self,
        sampling: Sampling,
        go_on: &mut dyn FnMut(&Summary) -> bool,
    ) -> Exploration {
        let program = self.spec.program();
        let mut explorer = Explorer::new(&program, self.spec.setup(0), self.limits, go_on);
        explorer.sample(sampling, self.seeds.clone())
    }
}

/// What `work` gives in each of so many threads, of which this is the first. It also does the work of those that cannot
/// be had.
pub(crate) fn in_threads<R: Send>(threads: usize, work: &(dyn Fn(usize) -> R + Sync)) -> Vec<R> {
    std::thread::scope(|scope| {
        let (mut others, mut here) = (Vec::new(), vec![0]);
        for number in 1..threads {
            match std::thread::Builder::new().spawn_scoped(scope, move || work(number)) {
                Ok(thread) => others.push(thread),
                Err(_) => here.push(number),
            }
        }
        let mut all: Vec<R> = here.into_iter().map(work).collect();
        for other in others {
            all.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    })
}
