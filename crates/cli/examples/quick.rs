use std::{collections::BTreeMap, sync::Arc, time::Instant};
use blockyard::*; use blockyard_scenario::*; use blockyard_sim::*; use blockyard_units::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut params = BTreeMap::new();
    let mut design = Design::default();
    let mut max = 100000; let mut strat = "reduced".to_string();
    for kv in &a[2..] { let (k, v) = kv.split_once('=').unwrap();
        if k == "max" { max = v.parse().unwrap() } else if k == "strategy" { strat = v.into() } else if k == "mutant" { design.set_mutant(v.parse().unwrap()).unwrap() }
        else if design.set(k, v).is_err() { params.insert(k.to_string(), v.to_string()); } }
    let script = Arc::new(Script::compile(&builtin(&a[1]).map(String::from).unwrap_or_else(|| std::fs::read_to_string(&a[1]).unwrap()), &params).unwrap());
    let setup = setup_of(&script, script.faults, 0);
    let p = ScenarioProgram { script: script.clone(), design };
    let t = Instant::now();
    let mut go = |s: &Summary| { if s.executions % 20000 == 0 { eprintln!("{} blocked {} steps {} {:?}", s.executions, s.blocked, s.steps, t.elapsed()) } true };
    let mut e = Explorer::new(&p, setup, Limits { executions: max, ..Limits::default() }, &mut go);
    let r = match strat.as_str() { "random" => e.random(0..max), "dfs" => e.depth_first(Reduction::Plain), "sleep" => e.depth_first(Reduction::SleepSets), _ => e.depth_first(Reduction::SourceSets) };
    println!("{:?}", (r.summary.executions, r.summary.blocked, r.summary.steps, t.elapsed()));
    for m in &script.marks { println!("{} {m}", if r.summary.marks.contains(m.as_str()) {"+"} else {"-"}); }
    println!("all marks {:?}", r.summary.marks);
    match r.verdict { Verdict::Violated { finding, tape, hash, seed } => { println!("{finding:?} {hash:x} {seed:?}"); for l in tape { println!("{l}"); } } v => println!("{v:?}") }
}
