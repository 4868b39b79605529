//! Where two sides do not agree, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use blockyard_models::data;
use blockyard_qmp::{Dict, Value, without_secrets};

use super::Turns;
use super::expected::{Expected, expected};
use super::side::{Deed, Reply, Told};

/// One thing that two sides say differently.
#[derive(Clone, Debug)]
pub struct Difference {
    /// After which step, or in which.
    pub step: String,
    /// What it is about.
    pub what: String,
    /// Each side, and what it says.
    pub said: Vec<(String, String)>,
    /// Why that is as it should be, if it is.
    pub expected: Option<&'static Expected>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said: Vec<String> =
            self.said.iter().map(|(who, what)| format!("{who}: {what}")).collect();
        write!(f, "{}: {}: {}", self.step, self.what, said.join("; "))?;
        self.expected.map_or(Ok(()), |why| write!(f, " (as expected: {}; {})", why.why, why.source))
    }
}

/// What is done, for people.
pub(super) fn words(deed: &Deed<'_>) -> String {
    match deed {
        Deed::Execute { command, arguments } => {
            format!("{command} {}", Value::Dict(without_secrets(command, arguments)))
        }
        Deed::Attach { id, node, .. } => format!("device {id} on {node}"),
        Deed::Request { device, asked, .. } => {
            format!("{} {device} {}", asked.kind.word(), asked.range)
        }
        Deed::Flush { device } => format!("flush {device}"),
    }
}

/// The class alone: what is said to people differs.
fn class(reply: &Reply) -> String {
    match reply {
        Reply::Refused { class, .. } => format!("refused: {class}"),
        Reply::Data(_) => "data".into(),
        reply => reply.to_string(),
    }
}

/// The first bytes that differ, and whose they are.
fn first_difference(one: &[u8], other: &[u8]) -> Option<(String, String)> {
    if one.len() != other.len() {
        return Some((format!("{} bytes", one.len()), format!("{} bytes", other.len())));
    }
    let at = one.iter().zip(other).position(|(one, other)| one != other)?;
    let start = at - at % data::WORD as usize;
    let word = |bytes: &[u8]| {
        let word = bytes.get(start..start + data::WORD as usize);
        let word = word.and_then(|word| <[u8; 8]>::try_from(word).ok());
        let writer = word.map_or(0, |word| data::writer(word).0);
        format!("byte {at} is {:#04x} (writer {writer:#x})", bytes[at])
    };
    Some((word(one), word(other)))
}

/// Members of an event's data in words that two sides can agree in. A job's progress is as far as it is of all.
///
/// Source: QEMU's QMP reference, BlockJobInfo: the unit of `offset` is arbitrary, only its ratio to `len` means
/// something, and `len` is an estimate.
fn members(data: &Dict) -> String {
    let number = |key| data.get(key).and_then(Value::as_u64);
    let progress = |(done, all)| if done == all { "progress whole" } else { "progress in part" };
    let progress = number("offset").zip(number("len")).map(|it| progress(it).to_string());
    let rest =
        data.iter().filter(|(key, _)| progress.is_none() || !["len", "offset"].contains(key));
    let mut members: Vec<String> = rest.map(|(key, value)| format!("{key} {value}")).collect();
    members.extend(progress.clone());
    members.sort_unstable();
    members.join(", ")
}

/// Events of one job, device or node in their order, by who they are about.
fn by_subject(told: &[Told]) -> BTreeMap<String, Vec<String>> {
    let mut subjects = BTreeMap::<_, Vec<String>>::new();
    for (name, data) in told {
        let subject = ["id", "device", "node-name"].iter().find_map(|key| data.get(key)?.as_str());
        let event = format!("{name} ({})", members(data));
        subjects.entry(subject.unwrap_or_default().to_string()).or_default().push(event);
    }
    subjects
}

/// The events but for those of a job that rested and went on at once.
fn without_rests(events: &[String]) -> Vec<&String> {
    let mut all: Vec<&String> = Vec::new();
    for event in events {
        let rested = all.last().is_some_and(|last| last.ends_with("status \"paused\")"));
        if rested && event.ends_with("status \"running\")") {
            all.pop();
        } else {
            all.push(event);
        }
    }
    all
}

impl Turns<'_, '_> {
    fn differ(&mut self, step: &str, what: &str, said: [String; 2]) {
        let names = self.sides.iter().map(|side| side.name().to_string());
        let expected = expected(what);
        let said = names.zip(said).collect();
        self.played.differences.push(Difference {
            step: step.into(),
            what: what.into(),
            said,
            expected,
        });
    }

    pub(super) fn compare_replies(&mut self, step: &str, replies: &[Reply]) {
        let [one, other] = replies else { return };
        if class(one) != class(other) {
            // From here on they would only differ more.
            self.apart = one.is_done() != other.is_done();
            return self.differ(step, "reply", [one.to_string(), other.to_string()]);
        }
        if let (Reply::Data(one), Reply::Data(other)) = (one, other)
            && let Some((one, other)) = first_difference(one, other)
        {
            self.differ(step, "data", [one, other]);
        }
    }

    pub(super) fn compare_events(&mut self, step: &str, told: &[Vec<Told>]) {
        let [one, other] = told else { return };
        let (one, other) = (by_subject(one), by_subject(other));
        let subjects: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        let none = Vec::new();
        for subject in subjects {
            let (one, other) =
                (one.get(subject).unwrap_or(&none), other.get(subject).unwrap_or(&none));
            let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
            if same == one.len() && same == other.len() {
                continue;
            }
            let rest = |events: &[String]| match &events[same..] {
                [] => "nothing more".into(),
                events => events.join(", "),
            };
            let rests = without_rests(one) == without_rests(other);
            let what = if rests { "rests" } else { "events" };
            self.differ(step, &format!("{what} of '{subject}'"), [rest(one), rest(other)]);
        }
    }

    pub(super) fn compare_looks(&mut self, step: &str) {
        let [one, other] = &self.looks[..] else { return };
        let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        let is = |there: Option<&String>| there.cloned().unwrap_or_else(|| "not there".into());
        let differing = keys.into_iter().filter(|key| one.get(*key) != other.get(*key));
        let found = differing.map(|key| (key.clone(), [is(one.get(key)), is(other.get(key))]));
        for (what, said) in found.collect::<Vec<_>>() {
            // What lasts is told once.
            let known = self.played.differences.iter().any(|difference| {
                difference.what == what && difference.said.iter().map(|(_, said)| said).eq(&said)
            });
            if !known {
                self.differ(step, &what, said);
            }
        }
    }
}
