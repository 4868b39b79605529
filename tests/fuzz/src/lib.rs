//! What a fuzzer's bytes mean: a generated scenario, and one run of it.
//!
//! The first bytes are the scenario's plan, the rest decide the run. The two have places of their own, so that a change
//! in one keeps the other. Every input means something, and always the same.
//!
//! The target `generated` runs with the stable toolchain. LLVM's coverage instrumentation is asked for by flags; naming
//! the target platform keeps them away from build scripts. A C++ compiler is needed. From the workspace's root:
//!
//! ```sh
//! export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!   -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
//! cargo run -p blockyard-fuzz --features libfuzzer --bin generated \
//!   --target x86_64-unknown-linux-gnu --target-dir target/fuzz -- -max_len=1024 -max_total_time=30 target/corpus
//! ```
//!
//! The folder `target/corpus` must be there; inputs that reach something new are kept in it.
#![forbid(unsafe_code)]

pub mod image;

use std::fmt::Write;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use blockyard::{ScenarioProgram, setup_of};
use blockyard_scenario::generate::{Generate, Plan};
use blockyard_scenario::{Parameters, Script};
use blockyard_sim::{Exploration, Explorer, Limits, Verdict};
use blockyard_units::Design;

/// The bytes of the plan; missing ones are zero.
pub const PLAN_BYTES: usize = 192;

/// One run under `design`, and the scenario that was run.
///
/// # Panics
/// `every-plan-is-a-scenario`: if the generator makes what is none.
pub fn run(bytes: &[u8], design: Design) -> (String, Exploration) {
    let (plan, choices) = bytes.split_at(bytes.len().min(PLAN_BYTES));
    let plan = Plan::arbitrary(&mut Unstructured::new(plan)).expect("every-plan-is-a-scenario");
    let text = plan.scenario("generated");
    let script = Script::compile(&text, &Parameters::new()).expect("every-plan-is-a-scenario");
    let program = ScenarioProgram { script: Arc::new(script), design };
    let setup = setup_of(&program.script, 0);
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(&program, setup, Limits::default(), &mut go_on);
    let exploration = explorer.run_from_bytes(choices);
    (text, exploration)
}

/// One run under the default design.
///
/// # Panics
/// If a property is violated; the message has the scenario, and the tape that leads there.
pub fn check(bytes: &[u8]) {
    let (scenario, exploration) = run(bytes, Design::default());
    if let Verdict::Violated { finding, tape, .. } = exploration.verdict {
        let mut text = format!("{}: {}\n{scenario}", finding.property, finding.message);
        for line in tape {
            // A String takes everything.
            let _ = writeln!(text, "{line}");
        }
        panic!("{text}");
    }
}
