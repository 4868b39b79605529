//! `blockyard fuzz --generate`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use blockyard_scenario::generate::Plan;
use blockyard_sim::{Exploration, Limits, Summary, Verdict};
use serde_json::{Map, Value, json};

use crate::args::{FuzzArgs, ScenarioArgs};
use crate::explore::Search;
use crate::failure::Failure;
use crate::progress::{Interrupt, Progress, quietly};
use crate::report::{Output, Status};
use crate::spec::Spec;

/// How many runs a simpler scenario gets to show the same failure.
const RUNS_TO_FAIL_AGAIN: u64 = 200;

/// Generates and runs a scenario for each seed, until one breaks a property.
pub(crate) fn fuzz(
    args: &FuzzArgs,
    seeds: Range<u64>,
    out: &Path,
    output: &Output,
) -> Result<Status, Failure> {
    if args.runs == 0 {
        return Err(Failure::usage("--runs: at least 1"));
    }
    let interrupt = Interrupt::listen();
    let progress = Progress::new("generated scenarios", None);
    let mut total = Total::default();
    for seed in seeds {
        let scenario = Generated { seed, args, out };
        let spec = scenario.spec(&scenario.plan())?;
        let mut go_on = |summary: &Summary| {
            progress.show(&total.with(summary));
            !interrupt.is_set()
        };
        let runs = seed..seed.saturating_add(args.runs);
        let exploration = quietly(|| scenario.search(&spec, runs).explore(&mut go_on));
        total.scenarios += 1;
        total.summary = total.with(&exploration.summary);
        match exploration.verdict {
            Verdict::Violated { .. } => {
                let simplest = quietly(|| scenario.shrink(&exploration, &interrupt));
                progress.finish();
                total.seconds = progress.seconds();
                return scenario.report(&simplest, &total, output);
            }
            Verdict::Interrupted => {
                total.status = Status::Interrupted;
                break;
            }
            Verdict::Clean { .. } => {}
        }
    }
    progress.finish();
    total.seconds = progress.seconds();
    output.print(|| total.as_text(), || total.as_json());
    Ok(total.status)
}

/// The scenario of one seed, and how it is run.
struct Generated<'a> {
    seed: u64,
    args: &'a FuzzArgs,
    out: &'a Path,
}

impl Generated<'_> {
    fn plan(&self) -> Plan {
        let plan = Plan::from_seed(self.seed);
        Plan { faults: self.args.change.faults.unwrap_or(plan.faults), ..plan }
    }

    fn spec(&self, plan: &Plan) -> Result<Spec, Failure> {
        let name = format!("generated-{}", self.seed);
        let path = self.out.join(format!("{name}.json")).display().to_string();
        // The plan knows where requests may fail: not while somebody would wait for ever then.
        let change = ScenarioArgs { faults: None, ..self.args.change.clone() };
        let mut spec = Spec::of_text(&path, plan.scenario(&name), &change)?;
        spec.granularity = self.args.granularity;
        Ok(spec)
    }

    fn search<'s>(&self, spec: &'s Spec, seeds: Range<u64>) -> Search<'s> {
        let limits = Limits { executions: u64::MAX, ..Limits::default() };
        Search { spec, strategy: self.args.strategy, seeds, limits, exhaust: false }
    }

    fn search_again<'s>(&self, spec: &'s Spec) -> Search<'s> {
        let runs = self.args.runs.max(RUNS_TO_FAIL_AGAIN);
        self.search(spec, self.seed..self.seed.saturating_add(runs))
    }

    /// The simplest plan that breaks the same property.
    fn shrink(&self, found: &Exploration, interrupt: &Interrupt) -> Plan {
        let property = |exploration: &Exploration| match &exploration.verdict {
            Verdict::Violated { finding, .. } => Some(finding.property.clone()),
            _ => None,
        };
        let broken = property(found);
        let mut go_on = |_: &Summary| !interrupt.is_set();
        let mut fails = |plan: &Plan| {
            let spec = self.spec(plan);
            spec.is_ok_and(|spec| property(&self.search_again(&spec).explore(&mut go_on)) == broken)
        };
        self.plan().simplest(&mut fails)
    }

    /// Keeps the scenario and its failure.
    fn report(&self, plan: &Plan, total: &Total, output: &Output) -> Result<Status, Failure> {
        let spec = self.spec(plan)?;
        let path = Path::new(&spec.named);
        std::fs::write(path, &spec.text).map_err(|error| Failure::file(path, error))?;
        let search = self.search_again(&spec);
        let exploration = quietly(|| search.explore(&mut |_| true));
        let outcome = search.keep(exploration, total.seconds, self.out)?;
        let (scenarios, named) = (total.scenarios, &spec.named);
        let executions = total.summary.executions;
        output.print(
            || {
                let found = format!("found by scenario {scenarios} in execution {executions}");
                format!("{}{found}\nscenario:  {named}\n", outcome.as_text())
            },
            || {
                let mut object = outcome.as_json();
                object.insert("scenarios".into(), json!(scenarios));
                object.insert("scenario_file".into(), json!(named));
                object.insert("found_by_execution".into(), json!(executions));
                object
            },
        );
        Ok(outcome.status())
    }
}

/// What was run, over all scenarios.
struct Total {
    scenarios: u64,
    summary: Summary,
    seconds: f64,
    status: Status,
}

impl Default for Total {
    fn default() -> Self {
        let summary = Summary::default();
        Self { scenarios: 0, summary, seconds: 0.0, status: Status::Clean }
    }
}

impl Total {
    /// With one more scenario's executions.
    fn with(&self, summary: &Summary) -> Summary {
        let marks: BTreeSet<_> = self.summary.marks.union(&summary.marks).copied().collect();
        Summary {
            executions: self.summary.executions + summary.executions,
            steps: self.summary.steps + summary.steps,
            marks,
            ..Summary::default()
        }
    }

    fn rate(&self) -> f64 {
        self.summary.executions as f64 / self.seconds.max(1e-9)
    }

    fn as_text(&self) -> String {
        let Summary { executions, steps, marks, .. } = &self.summary;
        let (scenarios, seconds, rate) = (self.scenarios, self.seconds, self.rate());
        let how = if self.status == Status::Clean { "clean" } else { "interrupted; clean so far" };
        let marks: Vec<_> = marks.iter().map(|mark| format!("  reached     {mark}\n")).collect();
        format!(
            "generated: {how}\n{scenarios} scenarios: {executions} executions, {steps} steps, {seconds:.1} s, \
             {rate:.0} executions/s\n{}",
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
            ("marks", json!(summary.marks)),
        ];
        members.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}
