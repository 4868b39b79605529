//! Jobs under every verb, raced by guest writes, drains and each other: what a command may lead to in any order.
//!
//! Every case is a scenario; the models judge each step of it, and at its end nothing is left running and each device
//! leads to what its guest wrote.

use std::ops::Range;
use std::sync::Arc;

use blockyard::{ScenarioProgram, setup_of};
use blockyard_scenario::{Parameters, Script};
use blockyard_sim::{Exploration, Explorer, Limits, Reduction, Verdict};
use blockyard_units::Design;
use serde_json::{Value, json};

/// How much of a case is run.
#[derive(Clone)]
enum Search {
    /// Everything.
    Exhaust,
    /// One random run for each seed.
    Random(Range<u64>),
}

const EXHAUST: Search = Search::Exhaust;
const RANDOM: Search = Search::Random(0..5_000);
const MOST_EXECUTIONS: u64 = 60_000;

fn execute(command: &str, arguments: Value, expect: &str) -> Value {
    json!({ "execute": command, "arguments": arguments, "expect": expect })
}

/// A command to the job `m0`.
fn m0(command: &str, expect: &str) -> Value {
    execute(command, json!({ "id": "m0" }), expect)
}

fn file(name: &str) -> Value {
    execute("blockdev-add", json!({ "driver": "file", "node-name": name, "filename": name }), "ok")
}

fn device(id: &str, node: &str) -> Value {
    json!({ "device": { "id": id, "node": node } })
}

/// A mirror; `with` is put over the arguments that all of them have.
fn mirror(with: Value, expect: &str) -> Value {
    let mut arguments = json!({ "job-id": "m0", "device": "src", "target": "dst", "sync": "full",
        "granularity": "4k", "filter-node-name": "mf" });
    let members = with.as_object().expect("arguments are an object").clone();
    arguments.as_object_mut().expect("it is one").extend(members);
    execute("blockdev-mirror", arguments, expect)
}

fn started() -> Value {
    mirror(json!({}), "ok")
}

fn wait(event: &str) -> Value {
    json!({ "wait": event })
}

fn wait_or_end(event: &str) -> Value {
    json!({ "wait": event, "or-end": ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"] })
}

/// Of the job `m0`. Every job that has begun comes to `null`; it may fail before it comes to others.
fn wait_status(status: &str) -> Value {
    let mut wait = wait_or_end("JOB_STATUS_CHANGE");
    wait["data"] = json!({ "id": "m0", "status": status });
    if status == "null" {
        wait["or-end"] = json!([]);
    }
    wait
}

fn write() -> Value {
    json!({ "write": { "device": "disk0", "offset": 0, "length": "4k" } })
}

fn read() -> Value {
    json!({ "read": { "device": "disk0", "offset": 0, "length": "4k" } })
}

/// Puts a throttle between `disk0` and what it leads to, which drains it.
fn insert_throttle(expect: &str) -> Value {
    let new = json!({ "driver": "throttle", "node-name": "th", "limits": { "bps-total": "1g" } });
    let arguments = json!({ "parent": "disk0", "child": "root", "new": new });
    execute("x-blockdev-replace-child", arguments, expect)
}

/// A scenario over a source of one chunk and a target, a device on the source; `more` is put over it.
fn scenario(actors: Value, more: Value) -> Value {
    let mut scenario = json!({
        "scenario": "jobs", "version": 1, "about": "jobs",
        "disks": { "src": { "size": "4k", "fill": "unique" }, "dst": { "size": "4k" } },
        "setup": [file("src"), file("dst"), device("disk0", "src")],
        "actors": actors,
    });
    let members = more.as_object().expect("members are an object").clone();
    scenario.as_object_mut().expect("it is one").extend(members);
    scenario
}

fn one_fault() -> Value {
    json!({ "budgets": { "faults": 1 } })
}

/// Two more disks, and a device on the first of them.
fn two_devices(fill: &str) -> Value {
    let disk = |fill: &str| json!({ "size": "4k", "fill": fill });
    json!({
        "disks": { "src": disk(fill), "dst": disk("zero"), "src1": disk(fill),
            "dst1": disk("zero") },
        "setup": [file("src"), file("dst"), file("src1"), file("dst1"), device("disk0", "src"),
            device("disk1", "src1")],
    })
}

fn run(scenario: &Value, search: &Search) -> Exploration {
    let script = Script::compile(&scenario.to_string(), &Parameters::new());
    let script = Arc::new(script.unwrap_or_else(|error| panic!("{error}: {scenario}")));
    let setup = setup_of(&script, 0);
    let program = ScenarioProgram { script, design: Design::default() };
    let limits = Limits { executions: MOST_EXECUTIONS, ..Limits::default() };
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(&program, setup, limits, &mut go_on);
    match search {
        Search::Exhaust => explorer.depth_first(Reduction::Optimal),
        Search::Random(seeds) => explorer.random(seeds.clone()),
    }
}

/// What was broken, and what the run did until then, for people.
fn story(verdict: &Verdict) -> String {
    let Verdict::Violated { finding, tape, seed, .. } = verdict else { return String::new() };
    let line =
        |line: &blockyard_sim::TapeLine| format!("{}  ; {}", line.event, line.notes.join("; "));
    let tape: Vec<String> = tape.iter().map(line).collect();
    format!("{}: {} (seed {seed:?})\n{}", finding.property, finding.message, tape.join("\n"))
}

/// Nothing is broken in what `search` runs.
fn check(name: &str, scenario: &Value, search: &Search) {
    let Exploration { verdict, .. } = run(scenario, search);
    let exhausted = matches!(search, Search::Exhaust);
    assert_eq!(verdict, Verdict::Clean { exhausted }, "{name}: {}\n{scenario}", story(&verdict));
}

/// `actors` on the small source; with one fault too, as `fault` says.
fn check_actors(name: &str, actors: Value, search: Search, fault: Option<Search>) {
    check(name, &scenario(actors.clone(), json!({})), &search);
    if let Some(search) = fault {
        check(&format!("{name}, one fault"), &scenario(actors, one_fault()), &search);
    }
}

/// The command is refused in every order, and the refusal says `said`.
fn check_refused(name: &str, build: &dyn Fn(&str) -> Value, said: &str) {
    check(name, &build("error"), &EXHAUST);
    let Exploration { verdict, .. } = run(&build("ok"), &EXHAUST);
    let Verdict::Violated { finding, .. } = &verdict else { panic!("{name}: was not refused") };
    assert_eq!(finding.property, "script", "{name}: {}", story(&verdict));
    assert!(finding.message.contains(said), "{name}: {}", finding.message);
}

#[test]
fn a_job_cancelled_before_it_is_ready_or_after_ends_without_a_pivot() {
    let early = json!({
        "operator": [started(), m0("job-cancel", "any"), wait_or_end("BLOCK_JOB_CANCELLED")],
        "guest": [write()],
    });
    check_actors("cancel at once", early, EXHAUST, Some(RANDOM));
    let late = json!({
        "operator": [started(), wait_or_end("BLOCK_JOB_READY"), m0("job-cancel", "any"),
            wait_status("null"), read()],
        "guest": [write()],
    });
    check_actors("cancel when ready", late, EXHAUST, Some(RANDOM));
    let paused = json!({
        "operator": [started(), m0("job-pause", "any"), m0("job-cancel", "any"), wait_status("null")],
        "guest": [write()],
    });
    check_actors("cancel while paused", paused, EXHAUST, Some(RANDOM));
}

#[test]
fn a_job_that_is_told_to_cancel_and_to_complete_does_one_of_them() {
    let actors = json!({
        "operator": [started(), wait_or_end("BLOCK_JOB_READY"), m0("job-complete", "any"),
            wait_status("null")],
        "admin": [wait_status("ready"), m0("job-cancel", "any")],
    });
    check_actors("cancel and complete", actors, EXHAUST, Some(RANDOM));
    let actors = json!({
        "operator": [started(), wait_or_end("BLOCK_JOB_READY"), m0("job-complete", "any"),
            wait_status("null")],
        "admin": [wait_status("ready"), m0("job-cancel", "any")],
        "guest": [write(), write()],
    });
    check_actors("cancel, complete and write", actors, RANDOM, Some(RANDOM));
}

#[test]
fn a_job_that_is_paused_and_resumed_goes_on() {
    let operator = |extra: Vec<Value>| {
        let mut steps = vec![started(), wait_or_end("BLOCK_JOB_READY")];
        steps.extend(extra);
        steps.extend([m0("job-complete", "any"), wait_status("null")]);
        steps
    };
    let pauser = [wait_status("running"), m0("job-pause", "any"), m0("job-resume", "any")];
    let writes = json!({ "operator": operator(vec![]), "pauser": pauser, "guest": [write()] });
    check_actors("pause and write", writes, RANDOM, Some(RANDOM));
    let alone = json!({ "operator": operator(vec![]), "pauser": pauser });
    check_actors("pause and complete", alone, EXHAUST, Some(RANDOM));
    let drains = json!({ "operator": operator(vec![]), "pauser": pauser, "admin": [insert_throttle("any")] });
    check_actors("pause and drain", drains, RANDOM, Some(RANDOM));
    let standby = vec![m0("job-pause", "ok"), wait_status("standby")];
    let mut steps = vec![started(), wait("BLOCK_JOB_READY")];
    steps.extend(standby);
    steps.extend([m0("job-complete", "ok"), m0("job-resume", "ok"), wait_status("null")]);
    check_actors(
        "complete in standby",
        json!({ "operator": steps, "guest": [write()] }),
        EXHAUST,
        None,
    );
}

#[test]
fn a_job_that_is_paused_while_drained_and_told_to_complete_still_ends() {
    let actors = |resume: &str| {
        json!({
            "operator": [started(), wait_or_end("BLOCK_JOB_READY"), m0("job-complete", "any"),
                wait_status("null")],
            "pauser": [wait_status("ready"), m0("job-pause", "any"), wait_status("standby"),
                m0(resume, "ok")],
            "admin": [wait_status("ready"), insert_throttle("any")],
            "guest": [wait_status("ready"), write()],
        })
    };
    check_actors(
        "pause, drain, complete, write",
        actors("job-resume"),
        Search::Random(0..20_000),
        Some(RANDOM),
    );
    check_actors(
        "pause, drain, complete, cancel",
        actors("job-cancel"),
        Search::Random(0..10_000),
        Some(RANDOM),
    );
}

#[test]
fn a_job_that_is_paused_again_as_it_wakes_still_ends() {
    let actors = |then: &str| {
        json!({
            "operator": [started(), wait_or_end("BLOCK_JOB_READY"), m0("job-pause", "ok"),
                wait_status("standby"), m0("job-complete", "ok"), m0("job-resume", "ok"),
                m0("job-pause", "any"), m0(then, "any"), wait_status("null")],
            "guest": [wait_status("standby"), write()],
        })
    };
    check_actors("pause again, resume", actors("job-resume"), EXHAUST, None);
    check_actors("pause again, cancel", actors("job-cancel"), EXHAUST, None);
}

#[test]
fn a_job_that_does_not_finalize_by_itself_pends_and_converges_again() {
    let pending = |last: Vec<Value>| {
        let mut steps = vec![mirror(json!({ "auto-finalize": false }), "ok")];
        steps.extend([wait_or_end("BLOCK_JOB_READY"), m0("job-complete", "any")]);
        steps.push(wait_or_end("BLOCK_JOB_PENDING"));
        steps.extend(last);
        steps
    };
    let finalized = pending(vec![
        m0("job-pause", "error"),
        m0("job-finalize", "ok"),
        wait_status("null"),
        read(),
    ]);
    let while_pending = [wait_or_end("BLOCK_JOB_PENDING"), write()];
    let actors = json!({ "operator": finalized, "guest": while_pending });
    check_actors("finalize", actors, EXHAUST, Some(RANDOM));
    let before = json!({ "operator": finalized, "guest": [write(), write()] });
    check_actors("finalize and write", before, RANDOM, None);
    let drained = json!({ "operator": finalized, "guest": [write()],
        "admin": [wait_or_end("BLOCK_JOB_PENDING"), insert_throttle("any")] });
    check_actors("finalize and drain", drained, RANDOM, Some(RANDOM));
    let cancelled = pending(vec![m0("job-cancel", "ok"), wait_status("null"), read()]);
    let actors = json!({ "operator": cancelled, "guest": while_pending });
    check_actors("cancel in pending", actors, EXHAUST, Some(RANDOM));
    let both = pending(vec![m0("job-finalize", "any"), wait_status("null")]);
    let actors = json!({ "operator": both, "guest": [write()],
        "admin": [wait_or_end("BLOCK_JOB_PENDING"), m0("job-cancel", "any")] });
    check_actors("finalize and cancel", actors, RANDOM, Some(RANDOM));
}

#[test]
fn a_job_that_is_not_dismissed_by_itself_stays_until_it_is() {
    let steps = |end: &str| {
        json!({
            "operator": [mirror(json!({ "auto-dismiss": false }), "ok"), m0("job-dismiss", "error"),
                wait_or_end("BLOCK_JOB_READY"), m0(end, "any"), wait_status("concluded"),
                m0("job-cancel", "error"),
                mirror(json!({ "filter-node-name": "mf2" }), "error"),
                m0("job-dismiss", "ok"), m0("job-dismiss", "error")],
            "guest": [write()],
        })
    };
    check_actors("dismiss a completed job", steps("job-complete"), EXHAUST, None);
    check_actors("dismiss a cancelled job", steps("job-cancel"), EXHAUST, None);
}

#[test]
fn what_a_job_holds_is_refused_to_others_with_the_holder_named() {
    let with_disk = |command: Value| {
        let more = json!({
            "disks": { "src": { "size": "4k", "fill": "unique" }, "dst": { "size": "4k" },
                "other": { "size": "4k" }, "spare": { "size": "4k" },
                "short": { "size": "512" } },
            "setup": [file("src"), file("dst"), file("other"), file("spare"),
                file("short"), device("disk0", "src")],
        });
        let steps = [
            started(),
            wait("BLOCK_JOB_READY"),
            command,
            m0("job-complete", "ok"),
            wait("BLOCK_JOB_COMPLETED"),
        ];
        scenario(json!({ "operator": steps }), more)
    };
    let second = json!({ "job-id": "m1", "target": "other", "filter-node-name": "mf1" });
    let same_target = json!({ "job-id": "m1", "device": "other", "filter-node-name": "mf1" });
    let duplicate = json!({ "device": "other", "target": "short", "filter-node-name": "mf1" });
    let short =
        json!({ "job-id": "m1", "device": "other", "target": "short", "filter-node-name": "mf1" });
    let itself = json!({ "job-id": "m1", "device": "other", "target": "other" });
    let absent = json!({ "job-id": "m1", "device": "other", "target": "nothing" });
    let filter_name =
        json!({ "job-id": "m1", "device": "other", "target": "spare", "filter-node-name": "dst" });
    let delete =
        |name: &str, expect: &str| execute("blockdev-del", json!({ "node-name": name }), expect);
    type Build<'a> = &'a dyn Fn(&str) -> Value;
    let cases: [(&str, Build<'_>, &str); 10] = [
        ("a second mirror of the source", &|e| mirror(second.clone(), e), "m0"),
        ("a second mirror to the target", &|e| mirror(same_target.clone(), e), "mf"),
        ("a job id twice", &|e| mirror(duplicate.clone(), e), "'m0' is in use"),
        (
            "a target that is too short",
            &|e| mirror(short.clone(), e),
            "is shorter than source other",
        ),
        ("a mirror to itself", &|e| mirror(itself.clone(), e), "to itself"),
        ("a target that is not there", &|e| mirror(absent.clone(), e), "no node 'nothing'"),
        ("a filter name twice", &|e| mirror(filter_name.clone(), e), "dst"),
        ("the source", &|e| delete("src", e), "mf"),
        ("the target", &|e| delete("dst", e), "mf"),
        ("the filter", &|e| delete("mf", e), "disk0"),
    ];
    for (name, command, said) in cases {
        check_refused(name, &|expect| with_disk(command(expect)), said);
    }
}

#[test]
fn two_mirrors_of_two_devices_run_side_by_side() {
    let second = json!({ "job-id": "m1", "device": "src1", "target": "dst1",
        "filter-node-name": "mf1" });
    let operator = |mut arguments: Value| {
        arguments["sync"] = json!("none");
        let id = arguments.get("job-id").cloned().unwrap_or(json!("m0"));
        let ready = json!({ "wait": "BLOCK_JOB_READY", "data": { "device": id } });
        let gone = json!({ "wait": "JOB_STATUS_CHANGE", "data": { "id": id, "status": "null" } });
        let complete = execute("job-complete", json!({ "id": id }), "ok");
        json!([mirror(arguments, "ok"), ready, complete, gone])
    };
    let actors = json!({ "first": operator(json!({})), "second": operator(second),
        "guest": [wait_status("running"), write(), read()] });
    check("two mirrors", &scenario(actors, two_devices("zero")), &RANDOM);
}

#[test]
fn of_two_mirrors_with_one_name_one_is_refused() {
    // Whoever has begun a job called so can tell it to end.
    let steps = |mut with: Value| {
        with["auto-dismiss"] = json!(false);
        json!([mirror(with, "any"), m0("job-cancel", "any")])
    };
    let other = json!({ "device": "src1", "target": "dst1", "filter-node-name": "mf1" });
    let actors = json!({ "first": steps(json!({})), "second": steps(other) });
    check("one name", &scenario(actors, two_devices("unique")), &Search::Random(0..20_000));
}

#[test]
fn a_mirror_of_nothing_but_what_is_written_pivots() {
    let more = json!({ "disks": { "src": { "size": "8k" }, "dst": { "size": "8k" } } });
    for copy_mode in ["background", "write-blocking"] {
        let arguments = json!({ "sync": "none", "copy-mode": copy_mode });
        let actors = json!({
            "operator": [mirror(arguments, "ok"), wait("BLOCK_JOB_READY"), m0("job-complete", "ok"),
                wait("BLOCK_JOB_COMPLETED"), read()],
            "guest": [wait_status("running"), write()],
        });
        check(copy_mode, &scenario(actors.clone(), more.clone()), &EXHAUST);
    }
}
