//! A whole storage simulation through the whole block layer: three disks, a hundred requests of four guests, a mirror
//! that pivots under two of them, faults, then none, and every model watching.

use std::sync::Arc;

use blockyard::{ScenarioProgram, setup_of};
use blockyard_scenario::{Parameters, Script};
use blockyard_sim::{Families, Family, Sampling};
use blockyard_units::Design;

use crate::figure::Figure;
use crate::machine::rate;
use crate::search::{clean, explore};

/// Of these many runs the rate is the mean.
const RUNS: u64 = 100;
const GUESTS: u64 = 4;
const REQUESTS: u64 = 25;
const FAULTS: u32 = 3;
/// Faults that the block layer hears of: without a second copy it can do nothing about the others.
const TOLD: Families = Families::DEFAULT
    .with(Family::StickyEio)
    .with(Family::Enospc)
    .with(Family::Short)
    .with(Family::Torn)
    .with(Family::Stuck)
    .with(Family::Flush);

/// A guest of one of two devices, which writes places in turn and then reads them.
fn guest(number: u64) -> String {
    let request = |index: u64| {
        let kind = if index % 8 < 4 { "write" } else { "read" };
        let (device, place) = (number % 2, number / 2 * 4 + index % 4);
        let offset = place * 512;
        format!(r#"{{"{kind}": {{"device": "disk{device}", "offset": {offset}, "length": 512}}}}"#)
    };
    let requests: Vec<_> = (0..REQUESTS).map(request).collect();
    format!(r#""guest{number}": [{}]"#, requests.join(","))
}

fn script() -> Script {
    let disk = |name: &str| format!(r#""{name}": {{"size": "4k", "fill": "unique"}}"#);
    let node = |name: &str| {
        format!(
            r#"{{"execute": "blockdev-add",
                "arguments": {{"driver": "file", "node-name": "{name}", "filename": "{name}"}}}}"#
        )
    };
    let names = ["source", "target", "other"];
    let (disks, nodes) = (names.map(disk).join(","), names.map(node).join(","));
    let guests: Vec<_> = (0..GUESTS).map(guest).collect();
    let guests = guests.join(",");
    let text = format!(
        r#"{{ "scenario": "storage", "version": 1, "about": "a storage simulation", "designs": [],
             "disks": {{ {disks} }},
             "setup": [ {nodes}, {{"device": {{"id": "disk0", "node": "source"}}}},
                        {{"device": {{"id": "disk1", "node": "other"}}}} ],
             "actors": {{ {guests}, "operator": [
               {{"execute": "blockdev-mirror", "arguments":
                 {{"job-id": "m0", "device": "source", "target": "target", "sync": "full"}}}},
               {{"wait": "BLOCK_JOB_READY", "or-end": ["BLOCK_JOB_COMPLETED"]}},
               {{"execute": "job-complete", "arguments": {{"id": "m0"}}, "expect": "any"}},
               {{"wait": "BLOCK_JOB_COMPLETED"}} ] }},
             "budgets": {{"faults": {FAULTS}}} }}"#
    );
    Script::compile(&text, &Parameters::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a second.
pub fn simulations() -> Figure {
    let script = script();
    let mut setup = setup_of(&script, 0);
    setup.budgets.families = TOLD;
    let program = ScenarioProgram { script: Arc::new(script), design: Design::default() };
    let sample = || clean(explore(&program, &setup, RUNS, |e| e.sample(Sampling::Random, 0..RUNS)));
    Figure { value: rate(|| sample().executions), ..Figure::default() }
}
