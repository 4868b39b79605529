//! What generated scenarios tried, as a table: each operation, command and flag.

use std::fmt::Write;

use blockyard_scenario::{
    GRAPH_EDITS, JOBS_AT_ONCE, LAYERS, PIVOT_BELOW, POWER_LOSSES, SNAPSHOT_BELOW,
};
use blockyard_sim::Counts;
use serde_json::{Map, Value, json};

/// For people.
pub(crate) fn as_text(counts: &Counts) -> String {
    let mut text =
        format!("  {:<28}{:>10}{:>11}{:>18}\n", "", "tried", "succeeded", "beside guest I/O");
    let is_of_run = |name: &str| {
        OF_RUNS.iter().any(|what| name.ends_with(what))
            || BELOW_PAIRS.iter().any(|what| name.starts_with(what))
    };
    for (name, [tried, succeeded, beside]) in counts.iter().filter(|(name, _)| !is_of_run(name)) {
        // A String takes everything.
        let _ = writeln!(text, "  {name:<28}{tried:>10}{succeeded:>11}{beside:>18}");
    }
    let (tried, accepted) = edits(counts);
    let _ = writeln!(text, "  graph edits: {tried} tried, {accepted} accepted");
    let medians = OF_RUNS.iter().filter_map(|what| Some((median(counts, what)?, what)));
    let medians: Vec<String> = medians.map(|(median, what)| format!("{median} {what}")).collect();
    let _ = writeln!(text, "  in a run, medians: {}", medians.join(", "));
    for what in BELOW_PAIRS {
        let of_pairs = counts
            .iter()
            .filter_map(|(name, [runs, ..])| Some((runs, name.strip_prefix(what)?.trim_start())));
        let pairs = of_pairs.clone().count();
        if let Some((runs, rarest)) = of_pairs.min() {
            let _ = writeln!(
                text,
                "  {what} {pairs} pairs of nodes; least often, {runs} times, {rarest}"
            );
        }
    }
    text
}

/// What took place below pairs of nodes, one over the other.
const BELOW_PAIRS: [&str; 2] = [SNAPSHOT_BELOW, PIVOT_BELOW];

/// What a run has a number of.
const OF_RUNS: [&str; 3] = [JOBS_AT_ONCE, LAYERS, POWER_LOSSES];

/// The median over the runs.
fn median(counts: &Counts, what: &str) -> Option<u64> {
    let number = |name: &str| name.strip_suffix(what)?.trim_end().parse::<u64>().ok();
    let mut runs: Vec<(u64, u64)> =
        counts.iter().filter_map(|(name, [runs, ..])| Some((number(name)?, *runs))).collect();
    runs.sort_unstable();
    let half = runs.iter().map(|(_, runs)| runs).sum::<u64>().div_ceil(2);
    let mut so_far = 0;
    let median = runs.into_iter().find(|(_, runs)| {
        so_far += runs;
        so_far >= half
    });
    median.map(|(number, _)| number)
}

/// For programs.
pub(crate) fn as_json(counts: &Counts) -> Value {
    let count = |(name, [tried, succeeded, beside]): (&String, &[u64; 3])| {
        let numbers =
            json!({ "tried": tried, "succeeded": succeeded, "succeeded_beside_guest_io": beside });
        (name.clone(), numbers)
    };
    Value::Object(counts.iter().map(count).collect::<Map<_, _>>())
}

/// The same, of the commands that change the graph together.
pub(crate) fn edits_as_json(counts: &Counts) -> Value {
    let (tried, accepted) = edits(counts);
    json!({ "tried": tried, "accepted": accepted })
}

fn edits(counts: &Counts) -> (u64, u64) {
    let of = |name: &&str| counts.get(*name).copied().unwrap_or_default();
    let edits = GRAPH_EDITS.iter().map(of);
    edits.fold((0, 0), |(tried, accepted), [t, a, _]| (tried + t, accepted + a))
}
