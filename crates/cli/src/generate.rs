//! `blockyard fuzz --generate`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use blockyard_scenario::generate::{ChainPlan, Generate, Plan, StackPlan};
use blockyard_sim::{Exploration, Limits, Summary, Verdict};
use serde_json::{Map, Value, json};

use crate::args::{FuzzArgs, Kind, ScenarioArgs};
use crate::counts;
use crate::draw::in_threads;
use crate::explore::{Search, make_directory};
use crate::failure::Failure;
use crate::progress::{Interrupt, Progress, quietly};
use crate::report::Status;
use crate::seed::put;
use crate::spec::Spec;

/// How many runs a simpler scenario gets to show the same failure.
const RUNS_TO_FAIL_AGAIN: u64 = 200;

/// What came of it.
pub(crate) struct Fuzzed {
    pub status: Status,
    pub text: String,
    pub json: Map<String, Value>,
}

/// Generates and runs a scenario for each seed, until one breaks a property.
pub(crate) fn fuzz(
    args: &FuzzArgs,
    seeds: Range<u64>,
    out: &Path,
    interrupt: &Interrupt,
) -> Result<Fuzzed, Failure> {
    match args.generate {
        None | Some(Kind::Devices) => fuzz_plans::<Plan>(args, seeds, out, interrupt),
        Some(Kind::Chains) => fuzz_plans::<ChainPlan>(args, seeds, out, interrupt),
        Some(Kind::Stacks) => fuzz_plans::<StackPlan>(args, seeds, out, interrupt),
    }
}

fn fuzz_plans<P: Generate>(
    args: &FuzzArgs,
    seeds: Range<u64>,
    out: &Path,
    interrupt: &Interrupt,
) -> Result<Fuzzed, Failure> {
    if args.runs == 0 {
        return Err(Failure::usage("--runs: at least 1"));
    }
    if args.change.faults == Some(0) {
        args.change.check_families(0)?;
    }
    make_directory(out)?;
    let progress = Progress::new("generated scenarios", None);
    let fuzzing = Fuzzing::<P> {
        plans: PhantomData,
        args,
        out,
        interrupt,
        progress: &progress,
        next: AtomicU64::new(seeds.start),
        end: AtomicU64::new(seeds.end),
        total: Mutex::default(),
        found: Mutex::default(),
    };
    quietly(|| in_threads(args.threads.into(), &|_| fuzzing.work()));
    let found = fuzzing.found.into_inner().unwrap_or_else(PoisonError::into_inner).pop_first();
    let mut total = fuzzing.total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.hoped_for = P::MARKS;
    if let Some((seed, exploration)) = found {
        let scenario = Generated::<P>::new(seed, args, out);
        let exploration = exploration?;
        let simplest = quietly(|| scenario.shrink(&exploration, interrupt));
        progress.finish();
        total.seconds = progress.seconds();
        return scenario.report(&simplest, &total);
    }
    progress.finish();
    total.seconds = progress.seconds();
    Ok(Fuzzed { status: total.status, text: total.as_text(), json: total.as_json() })
}

/// What the threads share.
struct Fuzzing<'a, P> {
    plans: PhantomData<fn() -> P>,
    args: &'a FuzzArgs,
    out: &'a Path,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
    /// Seeds are taken in order, so that below one that was found all others are tried.
    next: AtomicU64,
    end: AtomicU64,
    total: Mutex<Total>,
    found: Mutex<BTreeMap<u64, Result<Exploration, Failure>>>,
}

impl<P: Generate> Fuzzing<'_, P> {
    /// Runs scenarios until one breaks a property, or there are no more.
    fn work(&self) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end.load(Ordering::Relaxed) {
                return;
            }
            let exploration = self.explore(seed);
            if let Ok(exploration) = &exploration {
                let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
                total.add(exploration);
                self.progress.show(total.summary.executions);
            }
            match &exploration {
                Ok(Exploration { verdict: Verdict::Clean { .. }, .. }) => continue,
                Ok(Exploration { verdict: Verdict::Interrupted, .. }) => {
                    self.end.store(0, Ordering::Relaxed);
                    return;
                }
                Ok(_) | Err(_) => {}
            }
            self.end.fetch_min(seed, Ordering::Relaxed);
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.insert(seed, exploration);
        }
    }

    fn explore(&self, seed: u64) -> Result<Exploration, Failure> {
        let scenario = Generated::<P>::new(seed, self.args, self.out);
        let spec = scenario.spec(&scenario.plan)?;
        let runs = seed..seed.saturating_add(self.args.runs);
        let mut go_on = |_: &Summary| !self.interrupt.is_set();
        Ok(scenario.draw(&spec, runs, &mut go_on))
    }
}

/// The scenario of one seed, and how it is run.
struct Generated<'a, P> {
    plan: P,
    seed: u64,
    args: &'a FuzzArgs,
    out: &'a Path,
}

impl<'a, P: Generate> Generated<'a, P> {
    fn new(seed: u64, args: &'a FuzzArgs, out: &'a Path) -> Self {
        let mut plan = P::from_seed(seed);
        let ScenarioArgs { faults, crashes, .. } = args.change;
        for (budget, set) in plan.budgets().into_iter().zip([faults, crashes]) {
            *budget = set.unwrap_or(*budget);
        }
        Self { plan, seed, args, out }
    }

    fn spec(&self, plan: &P) -> Result<Spec, Failure> {
        let name = format!("generated-{}", self.seed);
        let path = self.out.join(format!("{name}.json")).display().to_string();
        // The plan knows where requests may fail: not while somebody would wait for ever then.
        let change = ScenarioArgs { faults: None, crashes: None, ..self.args.change.clone() };
        let mut spec = Spec::of_text(&path, plan.scenario(&name), &change)?;
        (spec.granularity, spec.time) = (self.args.granularity, self.args.time);
        Ok(spec)
    }

    fn search<'s>(&self, spec: &'s Spec, seeds: Range<u64>) -> Search<'s> {
        let limits = Limits { executions: u64::MAX, ..spec.limits() };
        Search { spec, strategy: self.args.strategy, seeds, limits, exhaust: false, threads: 1 }
    }

    fn draw(
        &self,
        spec: &Spec,
        seeds: Range<u64>,
        go_on: &mut dyn FnMut(&Summary) -> bool,
    ) -> Exploration {
        let sampling = self.args.strategy.sampling().expect("fuzz-draws-its-runs");
        self.search(spec, seeds).draw_here(sampling, go_on)
    }

    /// The runs that a simpler scenario gets.
    fn runs_again(&self) -> Range<u64> {
        let runs = self.args.runs.max(RUNS_TO_FAIL_AGAIN);
        self.seed..self.seed.saturating_add(runs)
    }

    /// The simplest plan that breaks the same property.
    fn shrink(&self, found: &Exploration, interrupt: &Interrupt) -> P {
        let property = |exploration: &Exploration| match &exploration.verdict {
            Verdict::Violated { finding, .. } => Some(finding.property.clone()),
            _ => None,
        };
        let broken = property(found);
        let mut go_on = |_: &Summary| !interrupt.is_set();
        let mut fails = |plan: &P| {
            let spec = self.spec(plan);
            let runs = self.runs_again();
            spec.is_ok_and(|spec| property(&self.draw(&spec, runs, &mut go_on)) == broken)
        };
        self.plan.clone().simplest(&mut fails)
    }

    /// Keeps the scenario and its failure.
    fn report(&self, plan: &P, total: &Total) -> Result<Fuzzed, Failure> {
        let spec = self.spec(plan)?;
        let path = Path::new(&spec.named);
        put(path, &spec.text)?;
        let exploration = quietly(|| self.draw(&spec, self.runs_again(), &mut |_| true));
        let search = self.search(&spec, self.runs_again());
        let outcome = search.keep(exploration, total.seconds, self.out)?;
        let (scenarios, named) = (total.scenarios, &spec.named);
        let executions = total.summary.executions;
        let found = format!("found by scenario {scenarios} in execution {executions}");
        let text = format!("{}{found}\nscenario:  {named}\n", outcome.as_text());
        let mut json = outcome.as_json();
        json.insert("scenarios".into(), json!(scenarios));
        json.insert("scenario_file".into(), json!(named));
        json.insert("found_by_execution".into(), json!(executions));
        Ok(Fuzzed { status: outcome.status(), text, json })
    }
}

/// What was run, over all scenarios.
struct Total {
    scenarios: u64,
    summary: Summary,
    seconds: f64,
    status: Status,
    /// The marks that so many scenarios should have reached.
    hoped_for: &'static [&'static str],
}

impl Default for Total {
    fn default() -> Self {
        let summary = Summary::default();
        Self { scenarios: 0, summary, seconds: 0.0, status: Status::Clean, hoped_for: &[] }
    }
}

impl Total {
    /// One more scenario's executions.
    fn add(&mut self, exploration: &Exploration) {
        self.scenarios += 1;
        self.summary.add(exploration.summary.clone());
        if exploration.verdict == Verdict::Interrupted {
            self.status = Status::Interrupted;
        }
    }

    fn rate(&self) -> f64 {
        self.summary.executions as f64 / self.seconds.max(1e-9)
    }

    /// What so many scenarios should have reached.
    fn missed(&self) -> Vec<&str> {
        self.hoped_for.iter().copied().filter(|mark| !self.summary.marks.contains(*mark)).collect()
    }

    fn as_text(&self) -> String {
        let Summary { executions, steps, marks, .. } = &self.summary;
        let (scenarios, seconds, rate) = (self.scenarios, self.seconds, self.rate());
        let how = if self.status == Status::Clean { "clean" } else { "interrupted; clean so far" };
        let reached = marks.iter().map(|mark| format!("  reached     {mark}\n"));
        let missed = self.missed().into_iter().map(|mark| format!("  not reached {mark}\n"));
        let marks: Vec<_> = reached.chain(missed).collect();
        format!(
            "generated: {how}\n{scenarios} scenarios: {executions} executions, {steps} steps, {seconds:.1} s, \
             {rate:.0} executions/s\n{}{}",
            counts::as_text(&self.summary.counts),
            marks.concat()
        )
    }

    fn as_json(&self) -> Map<String, Value> {
        let summary = &self.summary;
        let verdict = if self.status == Status::Clean { "clean" } else { "interrupted" };
        let members = [
            ("verdict", json!(verdict)),
            ("scenarios", json!(self.scenarios)),
            ("executions", json!(summary.executions)),
            ("steps", json!(summary.steps)),
            ("seconds", json!(self.seconds)),
            ("executions_per_second", json!(self.rate())),
            ("operations", counts::as_json(&summary.counts)),
            ("graph_edits", counts::edits_as_json(&summary.counts)),
            ("marks", json!(summary.marks)),
            ("marks_missed", json!(self.missed())),
        ];
        members.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}
