//! Tests.

use super::*;

const JOB: u64 = 1;
const GUEST: u64 = 2;

#[derive(Clone, Copy)]
enum Step {
    Begin(u64, u64, &'static [u64]),
    End(u64),
    In(u64, u64),
    Out(u64, u64),
}
use Step::{Begin, End, In, Out};

/// Plays `steps`; the index and text of the first that broke the property.
fn check(steps: &[Step], expected: Option<(usize, &str)>) {
    let mut model = DrainedMeansQuiet::new();
    let mut broken = None;
    for (index, step) in steps.iter().enumerate() {
        let outcome = match *step {
            Begin(section, owner, nodes) => model.begin(section, owner, nodes),
            End(section) => {
                model.end(section);
                Ok(())
            }
            In(node, requester) => model.request_begins(node, requester),
            Out(node, requester) => {
                model.request_ends(node, requester);
                Ok(())
            }
        };
        if let Err(violation) = outcome {
            broken = Some((index, violation.message));
            break;
        }
    }
    assert_eq!(broken.as_ref().map(|(index, message)| (*index, message.as_str())), expected);
}

#[test]
fn quiet_sections_hold() {
    check(&[In(5, GUEST), Out(5, GUEST), Begin(0, JOB, &[5, 6]), End(0), In(5, GUEST)], None);
    check(&[In(7, GUEST), Begin(0, JOB, &[5, 6]), In(7, GUEST)], None);
    check(&[In(5, JOB), Begin(0, JOB, &[5]), In(5, JOB), Out(5, JOB), Out(5, JOB)], None);
    check(&[End(3)], None);
}

#[test]
fn somebody_elses_request_breaks_a_section() {
    check(
        &[In(5, GUEST), In(5, GUEST), Out(5, GUEST), Begin(0, JOB, &[4, 5])],
        Some((3, "drained section 0 of 1 began with 1 requests of 2 in node 5")),
    );
    let late = "a request of 2 began in node 5, which drained section 0 of 1 holds";
    check(&[Begin(0, JOB, &[5]), In(5, JOB), In(5, GUEST)], Some((2, late)));
    check(&[Begin(0, JOB, &[5]), Begin(1, GUEST, &[5]), End(1), In(5, GUEST)], Some((3, late)));
}
