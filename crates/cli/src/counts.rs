//! What generated scenarios tried, as a table: each operation, command and flag.

use std::fmt::Write;

use blockyard_scenario::GRAPH_EDITS;
use blockyard_sim::Counts;
use serde_json::{Map, Value, json};

/// For people.
pub(crate) fn as_text(counts: &Counts) -> String {
    let mut text =
        format!("  {:<28}{:>10}{:>11}{:>18}\n", "", "tried", "succeeded", "beside guest I/O");
    for (name, [tried, succeeded, beside]) in counts {
        // A String takes everything.
        let _ = writeln!(text, "  {name:<28}{tried:>10}{succeeded:>11}{beside:>18}");
    }
    let (tried, accepted) = edits(counts);
    let _ = writeln!(text, "  graph edits: {tried} tried, {accepted} accepted");
    text
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
