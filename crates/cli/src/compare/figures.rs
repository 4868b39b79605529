//! Timed runs of a design, one for each seed, and what they add up to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use blockyard_scenario::{Figures, Served};
use blockyard_sim::{
    Counts, Execution, Explorer, Finding, Limits, Program, Sampling, Summary, Traffic, Verdict,
    World,
};
use blockyard_sync::door::world::Quiet;

use super::{Failed, in_time};
use crate::args::Strategy;
use crate::progress::{Interrupt, Progress, quietly};
use crate::simulated::{Run, ScenarioProgram};
use crate::spec::Spec;

/// What timed runs add up to.
#[derive(Default)]
pub(super) struct Measured {
    /// Runs that came to their end.
    pub runs: u64,
    /// Runs that broke something.
    pub broken: u64,
    /// By device, in order of how long they took once all are there.
    pub devices: BTreeMap<String, Served>,
    /// Bytes that the dirty bitmaps had marked in the end, if there were any.
    pub marked: Option<u64>,
    /// By disk.
    pub disks: BTreeMap<String, Traffic>,
    /// How long it took until every job was in sync, in order, where it came to that.
    pub ready_ns: Vec<u64>,
    /// Runs in which it did not come to that.
    pub never: u64,
}

/// Figures of one run.
type Last = Arc<Quiet<Option<(Figures, BTreeMap<String, Traffic>)>>>;

/// A program whose runs leave their figures.
struct Watched {
    program: ScenarioProgram,
    last: Last,
}

struct Watching {
    run: Run,
    last: Last,
}

impl Program for Watched {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        Box::new(Watching { run: Run(self.program.stage(world).0), last: self.last.clone() })
    }
}

impl Execution for Watching {
    fn judge(&self, world: &World) -> Option<Finding> {
        let traffic = world.traffic().into_iter();
        let traffic = traffic.map(|(disk, traffic)| (disk.into(), traffic)).collect();
        self.last.with(|last| *last = Some((self.run.0.figures(), traffic)));
        self.run.judge(world)
    }

    fn counts(&self) -> Counts {
        self.run.counts()
    }

    fn digest(&self, world: &World) -> u64 {
        self.run.digest(world)
    }
}

/// Runs a design once for each seed. Of the runs that break something the first is told; the others go on.
pub(super) fn measure(
    spec: &Spec,
    name: &str,
    seeds: Range<u64>,
    interrupt: &Interrupt,
) -> (Measured, Option<Failed>) {
    let spec = in_time(spec);
    let last = Last::default();
    let program = Watched { program: spec.program(), last: last.clone() };
    let progress = Progress::new(&format!("{name}, timed"), Some(seeds.end - seeds.start));
    let (mut measured, mut first) = (Measured::default(), None);
    let mut next = seeds.start;
    while next < seeds.end && !interrupt.is_set() {
        let left = next..seeds.end;
        let mut go_on = |_: &Summary| {
            measured.add(last.with(Option::take));
            next += 1;
            progress.show_now(next - seeds.start, next - seeds.start);
            !interrupt.is_set()
        };
        let limits = Limits { executions: u64::MAX, ..spec.limits() };
        let mut explorer = Explorer::new(&program, spec.setup(0), limits, &mut go_on);
        let ran = quietly(|| explorer.sample(Sampling::Random, left));
        if let Verdict::Violated { finding, tape, hash, .. } = ran.verdict {
            // It may have come to its end all the same.
            measured.add(last.with(Option::take));
            measured.broken += 1;
            let (seed, strategy, least) = (next, Strategy::Random, false);
            next += 1;
            let spec = &spec;
            first.get_or_insert_with(|| Failed {
                spec: spec.clone(),
                strategy,
                seed,
                finding,
                tape,
                hash,
                least,
            });
        }
    }
    progress.finish();
    measured.devices.values_mut().for_each(|served| served.took_ns.sort_unstable());
    measured.ready_ns.sort_unstable();
    (measured, first)
}

impl Measured {
    /// Adds a run, if it came to its end.
    fn add(&mut self, run: Option<(Figures, BTreeMap<String, Traffic>)>) {
        let Some((figures, disks)) = run else { return };
        self.runs += 1;
        for (device, served) in figures.devices {
            let all = self.devices.entry(device).or_default();
            all.took_ns.extend(served.took_ns);
            all.read += served.read;
            all.written += served.written;
        }
        for (disk, traffic) in disks {
            let all = self.disks.entry(disk).or_default();
            all.read += traffic.read;
            all.written += traffic.written;
        }
        if let Some(marked) = figures.marked {
            *self.marked.get_or_insert(0) += marked;
        }
        if figures.jobs.is_empty() {
            return;
        }
        let took = figures.jobs.values().map(|job| job.took_ns);
        match took.collect::<Option<Vec<u64>>>() {
            Some(took) => self.ready_ns.extend(took.into_iter().max()),
            None => self.never += 1,
        }
    }

    /// How long requests took, of all devices, in order.
    pub fn took_ns(&self) -> Vec<u64> {
        let mut took: Vec<u64> =
            self.devices.values().flat_map(|served| &served.took_ns).copied().collect();
        took.sort_unstable();
        took
    }

    /// Bytes that guests read and wrote.
    pub fn guest_bytes(&self) -> u64 {
        self.devices.values().map(|served| served.read + served.written).sum()
    }

    /// Bytes that disks read and wrote.
    pub fn disk_bytes(&self) -> u64 {
        self.disks.values().map(|traffic| traffic.read + traffic.written).sum()
    }

    /// Bytes at the disks for each byte of a guest's, if there is one.
    pub fn amplification(&self) -> Option<f64> {
        let (disks, guests) = (self.disk_bytes(), self.guest_bytes());
        (guests > 0).then(|| disks as f64 / guests as f64)
    }
}

/// The least of `sorted` that so many percent are not above; none of none.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let numbers: Vec<u64> = (1..=200).collect();
        assert_eq!([1, 50, 99, 100].map(|p| percentile(&numbers, p)), [2, 100, 198, 200].map(Some));
        assert_eq!(
            [percentile(&[7], 99), percentile(&[7], 1), percentile(&[], 50)],
            [Some(7), Some(7), None]
        );
    }
}
