//! Copies and statuses: by hand, and copies against a search that tries every order of every word's reads and writes.
//!
//! The register forgets how the source and the destination of a copy hang together, so it may permit more than the
//! search; never less, and the same where what is copied was never in doubt.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const WORDS: u64 = 3;

fn word(index: u64) -> ByteRange {
    ByteRange::new(index * WORD, WORD)
}

/// A tag, and the word that its data was written to first.
type Held = (u64, u64);

fn bytes(held: Held) -> Vec<u8> {
    data(held.0, word(held.1))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Write,
    /// From this word.
    Copy(u64),
    /// What it finds.
    Read(Held),
}

/// An operation on one word. Instants are places in the history.
#[derive(Clone, Debug)]
struct Event {
    what: What,
    tag: u64,
    word: u64,
    ok: bool,
    invoked: usize,
    responded: usize,
}

type Draw = (u8, u64, u64, (u64, u64), bool, usize);

fn history(draws: &[Draw]) -> Vec<Event> {
    let mut clock = 0;
    let event = |(index, (kind, word, from, found, ok, overlap)): (usize, &Draw)| {
        let what = match kind % 5 {
            0 | 1 => What::Write,
            2 | 3 if from % WORDS != word % WORDS && index > 0 => What::Copy(from % WORDS),
            _ => What::Read((found.0 % (index as u64 + 1), found.1 % WORDS)),
        };
        clock += 100;
        let responded = clock + overlap % 3 * 100 + 50 + index;
        let tag = if what == What::Write { index as u64 + 1 } else { 0 };
        Event { what, tag, word: word % WORDS, ok: *ok, invoked: clock, responded }
    };
    draws.iter().enumerate().map(event).collect()
}

fn model_accepts(events: &[Event]) -> bool {
    let mut model = GuestRegister::new("disk0");
    let begins = events.iter().enumerate().map(|(op, e)| (e.invoked, true, op, e));
    let ends = events.iter().enumerate().map(|(op, e)| (e.responded, false, op, e));
    let mut steps: Vec<_> = begins.chain(ends).collect();
    steps.sort_by_key(|step| step.0);
    let outcome = steps.into_iter().try_for_each(|(_, begins, index, event)| {
        let (op, range) = (index as u64, word(event.word));
        match (begins, &event.what) {
            (true, What::Write) => model.invoke_write(op, range, event.tag),
            (true, What::Copy(from)) => model.invoke_copy(op, from * WORD, range),
            (true, What::Read(_)) => model.invoke_read(op, range),
            (false, What::Read(held)) if event.ok => return model.respond_read(op, &bytes(*held)),
            (false, What::Read(_)) => return model.respond_failed(op),
            (false, _) => return model.respond_write(op, event.ok),
        }
        Ok(())
    });
    outcome.is_ok()
}

/// Half an operation: a copy reads first and writes then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    ReadsForCopy,
    Whole,
}

#[derive(Clone)]
struct Place {
    words: Vec<Held>,
    /// What each copy has read.
    copied: Vec<Option<Held>>,
    /// Halves that came, of every operation.
    done: Vec<(bool, bool)>,
}

/// Whether some order of all halves that respects time explains every read.
fn some_order_exists(events: &[Event]) -> bool {
    let nobody = (0..WORDS).map(|word| (0, word)).collect();
    let none = vec![None; events.len()];
    let done = events.iter().map(|event| (!matches!(event.what, What::Copy(_)), false)).collect();
    explore(events, &Place { words: nobody, copied: none, done })
}

fn explore(events: &[Event], place: &Place) -> bool {
    let must = |event: &Event| event.ok;
    let open = |index: usize| !place.done[index].1;
    if (0..events.len()).all(|index| !open(index) || !must(&events[index])) {
        return true;
    }
    (0..events.len()).filter(|index| open(*index)).any(|index| {
        let event = &events[index];
        // Nobody who had to come had responded before this one was invoked.
        let overtakes = (0..events.len()).any(|other| {
            open(other) && must(&events[other]) && events[other].responded < event.invoked
        });
        // One that failed comes in time, or never.
        let late = !event.ok
            && (0..events.len())
                .any(|other| place.done[other].1 && events[other].invoked > event.responded);
        if overtakes || late || (!event.ok && matches!(event.what, What::Read(_))) {
            return false;
        }
        let half = if place.done[index].0 { Half::Whole } else { Half::ReadsForCopy };
        let mut next = place.clone();
        match (&event.what, half) {
            (What::Copy(from), Half::ReadsForCopy) => {
                next.copied[index] = Some(place.words[*from as usize]);
                next.done[index].0 = true;
            }
            (what, _) => {
                let held = match what {
                    What::Write => (event.tag, event.word),
                    What::Copy(_) => place.copied[index].expect("a copy reads first"),
                    What::Read(held) => *held,
                };
                let read = matches!(what, What::Read(_));
                if read && bytes(place.words[event.word as usize]) != bytes(held) {
                    return false;
                }
                next.words[event.word as usize] = held;
                next.done[index].1 = true;
            }
        }
        explore(events, &next)
    })
}

/// Whether every copy's source was certain: nothing failed, and no two that change words were under way together.
fn is_certain(events: &[Event]) -> bool {
    let changes: Vec<&Event> =
        events.iter().filter(|event| !matches!(event.what, What::Read(_))).collect();
    changes.iter().all(|event| event.ok)
        && changes.windows(2).all(|pair| pair[0].responded < pair[1].invoked)
}

#[test]
fn the_register_permits_every_order_with_copies_and_no_other_where_sources_are_certain() {
    let cases = 8000;
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let found = (0..6u64, 0..WORDS);
    let draw = (0..5u8, 0..WORDS, 0..WORDS, found, prop::bool::weighted(0.85), 0..3usize);
    let draws = prop::collection::vec(draw, 3..=6);
    let tally = core::cell::Cell::new([0; 3]);
    let outcome = TestRunner::new_with_rng(config, rng).run(&draws, |draws| {
        let events = history(&draws);
        let (right, accepted) = (some_order_exists(&events), model_accepts(&events));
        prop_assert!(accepted || !right, "refused: {:?}", events);
        let copies = events.iter().any(|event| matches!(event.what, What::Copy(_)));
        let exact = !copies || is_certain(&events);
        prop_assert!(right || !accepted || !exact, "accepted: {:?}", events);
        let [all, wrong, certain] = tally.get();
        let certain = certain + u32::from(copies && exact && !right);
        tally.set([
            all + u32::from(copies && right),
            wrong + u32::from(copies && !accepted),
            certain,
        ]);
        Ok(())
    });
    outcome.expect("the register agrees with the search");
    assert!(tally.get().iter().all(|count| *count > 100), "{:?}", tally.get());
}

#[test]
fn copies_and_statuses_by_hand() {
    let copied = "the data of write 1, copied by +4096";
    for (script, expected) in [
        ("w1@0 ok1 c2@1<0 ok2 r3@1 r3=1<0", None),
        ("w1@0 ok1 c2@1<0 ok2 r3@1 r3=0", Some(copied)),
        ("w1@0 ok1 c2@1<0 ok2 r3@1 r3=1", Some(copied)),
        // What was there at any moment of the copy.
        ("c2@1<0 w1@0 ok1 w4@0 ok4 ok2 r3@1 r3=1<0", None),
        ("c2@1<0 w1@0 r3@1 r3=1<0 ok1 ok2 r4@1 r4=1<0", None),
        ("w1@0 ok1 w4@0 ok4 c2@1<0 ok2 r3@1 r3=1<0", Some("write 4, copied by +4096")),
        ("w1@0 ok1 c2@1<0 ok2 w4@0 ok4 r3@1 r3=4<0", Some(copied)),
        // A copy of a copy, and one that failed.
        ("w1@0 ok1 c2@1<0 c3@2<1 ok3 ok2 r4@2 r4=1<0", None),
        ("w1@0 ok1 c2@1<0 c3@2<1 ok3 ok2 r4@2 r4=0", None),
        ("w1@0 ok1 c2@1<0 fail2 r3@1 r3=0 r4@1 r4=0", None),
        ("w1@0 ok1 c2@1<0 fail2 r3@1 r3=1<0 r4@1 r4=0", Some(copied)),
        // A part of a source is cut by a later write, so the copy is.
        ("w1@0-2 ok1 c2@2-4<0 w3@1 ok3 ok2 r4@2-4 r4=1<0,3<1", None),
        ("w1@0-2 ok1 c2@2-4<0 w3@1 ok3 ok2 r4@2-4 r4=1<0,1<1", None),
        // What is said to be zeroes.
        ("q1@0-2 q1=0", None),
        ("w1@1 ok1 q2@0-2 q2=0", None),
        ("w1@0 ok1 q2@0-2 q2=0", Some("the data of write 1")),
        ("w1@0 q2@0 q2=0 ok1", None),
        ("w1@0 ok1 z2@0 q3@0 q3=0 r4@0 r4=1", Some("zeroes")),
        ("w1@0 ok1 d2@0 ok2 q3@0 q3=0 r4@0 r4=1", Some("zeroes")),
    ] {
        let found = play(script).err().map(|violation| violation.message);
        let fits = match (&found, expected) {
            (None, None) => true,
            (Some(message), Some(part)) => message.ends_with(part),
            _ => false,
        };
        assert!(fits, "{script}: {found:?}");
    }
}

#[test]
fn a_word_may_be_copied_in_two_parts() {
    let mut model = GuestRegister::new("disk0");
    let place = |from, to| ByteRange::between(from, to);
    model.fill(place(0, 4096), 9);
    model.invoke_copy(1, 512, place(0, 512));
    model.invoke_write_zeroes(2, place(511, 1023));
    model.respond_write(2, true).expect("writes are judged later");
    model.respond_write(1, true).expect("writes are judged later");
    let mut found = data(9, place(0, 1024));
    found[511..1023].fill(0);
    let source = found[512..].to_vec();
    found[..512].copy_from_slice(&source);
    model.invoke_read(3, place(0, 1024));
    assert_eq!(model.respond_read(3, &found), Ok(()));
    // The same without a copy: each half may have what it likes.
    let mut model = GuestRegister::new("disk0");
    model.invoke_write(1, place(0, 8), 1);
    model.respond_failed(1).expect("writes are judged later");
    model.invoke_write_zeroes(2, place(0, 4));
    model.respond_failed(2).expect("writes are judged later");
    let mut found = data(1, place(0, 8));
    found[..4].fill(0);
    model.invoke_read(3, place(0, 8));
    assert_eq!(model.respond_read(3, &found), Ok(()));
}

#[test]
fn many_copies_over_each_other_are_judged_in_time() {
    let mut model = GuestRegister::new("disk0");
    model.fill(ByteRange::new(0, 4096), 9);
    for op in 1..=6 {
        let distance = op * 8;
        model.invoke_copy(op, distance, ByteRange::new(0, 512));
        model.invoke_copy(op + 10, 0, ByteRange::new(distance, 512));
    }
    model.invoke_read(30, word(0));
    assert_eq!(model.respond_read(30, &data(9, word(0))), Ok(()));
    model.invoke_read(31, word(0));
    assert!(model.respond_read(31, &data(8, word(0))).is_err());
}
