//! How many executions a space takes, and how fast they run: small programs, plain and reduced. Prints one table; times
//! are the median of three where one takes under a second.

#![allow(clippy::disallowed_types)] // a bench measures the machine's time

#[path = "peers/programs.rs"]
#[allow(dead_code)] // the other bench runs the rest
mod programs;

use std::time::{Duration, Instant};

use blockyard_sim::{Budgets, Exploration, Explorer, Limits, Reduction, Setup, Summary, Verdict};
use programs::{Body, Small};

const MOST_EXECUTIONS: u64 = 200_000;

fn explore(program: &Small, reduction: Reduction) -> (Exploration, Duration) {
    let setup = Setup { images: Vec::new(), budgets: Budgets::NONE, ..Setup::default() };
    let limits = Limits { executions: MOST_EXECUTIONS, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(program, setup, limits, &mut go_on);
    let began = Instant::now();
    let exploration = explorer.depth_first(reduction);
    (exploration, began.elapsed())
}

fn row(name: &str, program: &Small, reduction: Reduction) {
    let (exploration, first) = explore(program, reduction);
    let mut times = vec![first];
    while times.len() < 3 && first < Duration::from_secs(1) {
        times.push(explore(program, reduction).1);
    }
    times.sort();
    let seconds = times[times.len() / 2].as_secs_f64();
    let Summary { executions, blocked, steps, .. } = exploration.summary;
    let more = match exploration.verdict {
        Verdict::Clean { exhausted: true } => "",
        Verdict::Clean { exhausted: false } => ">",
        broken => panic!("{name}: {broken:?}"),
    };
    let strategy = if reduction == Reduction::Plain { "dfs" } else { "reduced" };
    let executions_shown = format!("{more}{executions}");
    println!(
        "{name:<20} {strategy:<8} {executions_shown:>10} {blocked:>8} {:>9.1} {:>12.0} {:>10.0}",
        steps as f64 / executions as f64,
        executions as f64 / seconds,
        steps as f64 / seconds,
    );
}

fn main() {
    println!(
        "{:<20} {:<8} {:>10} {:>8} {:>9} {:>12} {:>10}",
        "program", "strategy", "executions", "blocked", "steps/ex", "executions/s", "steps/s"
    );
    let programs: [(&str, Body, usize); 9] = [
        ("disjoint 5x3", programs::disjoint, 5),
        ("shared 4x(2+1)", programs::shared, 4),
        ("counter 3x2", programs::counter, 3),
        ("fair lock 3x2", programs::fair, 3),
        ("barging lock 3x2", programs::barging, 3),
        ("lost update 3", programs::lost_update, 3),
        ("readers 1+3", programs::readers, 4),
        ("drain 2", programs::drain, 3),
        ("channel 2x2", programs::channel, 3),
    ];
    for (name, body, tasks) in programs {
        for reduction in [Reduction::Plain, Reduction::Optimal] {
            row(name, &Small::new(body, tasks), reduction);
        }
    }
}
