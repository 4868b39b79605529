//! Tests.

use super::*;
use alloc::vec::Vec;

/// Plays words: a status to go to, or an event in capitals; the text of what broke.
fn check(words: &str, expected: Option<&str>) {
    let mut model = JobProtocol::new();
    let mut status = "undefined";
    let mut outcome = Ok(());
    for word in words.split_whitespace() {
        assert_eq!(outcome, Ok(()), "before {word}");
        outcome = match word {
            "READY" => model.event("m0", JobEvent::Ready),
            "PENDING" => model.event("m0", JobEvent::Pending),
            "COMPLETED" => model.event("m0", JobEvent::Completed),
            "CANCELLED" => model.event("m0", JobEvent::Cancelled),
            to => model.observe("m0", core::mem::replace(&mut status, to), to),
        };
        if status == "null" {
            status = "undefined";
        }
    }
    let outcome = outcome.and_then(|()| model.end());
    assert_eq!(outcome.err().map(|violation| violation.message).as_deref(), expected, "{words}");
}

#[test]
fn lives_of_jobs_are_legal() {
    for words in [
        "created running ready READY standby ready waiting pending PENDING COMPLETED concluded null",
        "created running paused running waiting pending concluded COMPLETED null created running",
        "created running ready READY aborting aborting CANCELLED concluded",
        "created running waiting aborting COMPLETED concluded null",
        "created aborting concluded null",
        "created null created null",
    ] {
        check(words, None);
    }
}

#[test]
fn what_a_job_may_not_do_is_named() {
    for (words, message) in [
        ("running", "job m0 goes from undefined to running, which is not legal"),
        ("created paused", "job m0 goes from created to paused, which is not legal"),
        ("created running ready running", "job m0 goes from ready to running, which is not legal"),
        ("created running concluded", "job m0 goes from running to concluded, which is not legal"),
        ("READY", "event Ready of m0, which is no job"),
        ("created running READY", "job m0 tells Ready while running"),
        ("created running COMPLETED", "job m0 tells Completed while running"),
        (
            "created running ready READY standby ready READY",
            "job m0 tells Ready after it had told it, or its end",
        ),
        (
            "created running aborting CANCELLED concluded COMPLETED",
            "job m0 tells Completed after it had told it, or its end",
        ),
        ("created running aborting concluded null", "job m0 went without telling its end"),
        ("created running aborting concluded", "job m0 concluded without telling its end"),
    ] {
        check(words, Some(message));
    }
    let mut model = JobProtocol::new();
    let violation = model.observe("m0", "running", "ready").expect_err("nothing created it");
    assert_eq!(violation.message, "job m0 goes from running to ready, but it was undefined");
}

#[test]
fn the_table_has_11_statuses_and_20_transitions() {
    let statuses: Vec<_> = TRANSITIONS.iter().map(|(status, _)| *status).collect();
    let targets: Vec<_> = TRANSITIONS.iter().flat_map(|(_, next)| *next).collect();
    assert_eq!((statuses.len(), targets.len()), (11, 20));
    assert!(targets.iter().all(|to| statuses.contains(to)), "every target is a status");
}
