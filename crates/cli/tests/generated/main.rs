//! Generated scenarios: clean under the default design, and with a known bug put back they find it.

mod chains;
mod devices;
mod stacks;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use blockyard::{ScenarioProgram, setup_of};
use blockyard_scenario::generate::Generate;
use blockyard_scenario::{Parameters, Script};
use blockyard_sim::{
    Exploration, Explorer, Finding, Limits, Program, RandomWalk, Sampling, Summary, Verdict, World,
    swap_check,
};
use blockyard_units::{Design, Mutant};

fn compile(plan: &impl Generate) -> Script {
    let text = plan.scenario("generated");
    Script::compile(&text, &Parameters::new()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Some runs; the first is run twice and compared.
fn run(program: &impl Program, script: &Script, runs: Range<u64>) -> Exploration {
    let limits = Limits { executions: u64::MAX, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(program, setup_of(script, 0), limits, &mut go_on);
    explorer.sample(Sampling::Random, runs)
}

/// Some runs of a plan's scenario.
fn explore(plan: &impl Generate, design: Design, runs: Range<u64>) -> Exploration {
    let program = ScenarioProgram { script: Arc::new(compile(plan)), design };
    run(&program, &program.script, runs)
}

fn finding(plan: &impl Generate, design: Design, runs: Range<u64>) -> Option<Finding> {
    match explore(plan, design, runs).verdict {
        Verdict::Violated { finding, .. } => Some(finding),
        _ => None,
    }
}

fn with_mutant(mutant: Mutant) -> Design {
    let mut design = Design::default();
    design.set_mutant(mutant).expect("this build has mutants");
    design
}

/// The seed of the first generated scenario that shows the bug in its one run.
fn first_to_notice<P: Generate>(design: Design, mut seeds: Range<u64>) -> Option<(u64, Finding)> {
    seeds.find_map(|seed| {
        let finding = finding(&P::from_seed(seed), design, seed..seed + 1)?;
        Some((seed, finding))
    })
}

/// Every plan is a scenario, and so is every simpler one.
fn check_plans<P: Generate + PartialEq + Debug>() {
    for seed in 0..200 {
        let plan = P::from_seed(seed);
        assert_eq!(plan, P::from_seed(seed));
        compile(&plan);
        for simpler in plan.smaller() {
            assert_ne!(simpler, plan, "{seed}");
            compile(&simpler);
        }
    }
}

/// Independent steps of so many scenarios commute.
fn check_swaps<P: Generate>(scenarios: u64) {
    let mut swapped = 0;
    for seed in 0..scenarios {
        let script = Arc::new(compile(&P::from_seed(seed)));
        let setup = setup_of(&script, seed);
        let program = ScenarioProgram { script, design: Design::default() };
        let mut world = World::new(&setup.images, setup.budgets, seed);
        let mut walk = RandomWalk::new(seed);
        let result = swap_check(&mut world, &program, &mut walk, Limits::default());
        swapped += result.unwrap_or_else(|finding| panic!("seed {seed}: {finding:?}"));
    }
    assert!(swapped > 1000, "only {swapped} pairs were swapped");
}
