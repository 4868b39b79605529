//! The register against a search written without it: per word, try every subset of the operations that need not
//! happen and every order of the rest.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// One operation of a history; instants are places in the history.
#[derive(Clone, Debug)]
struct Event {
    kind: Kind,
    /// First word and one past the last.
    words: (u64, u64),
    /// Tag that is written, or tags a word that are read.
    tags: Vec<u64>,
    ok: bool,
    invoked: usize,
    responded: usize,
}

/// Where words lie: of 8 bytes, or one of a single byte, where two tags may look alike.
#[derive(Clone, Copy)]
struct Layout {
    base: u64,
    word_len: u64,
    words: u64,
}

impl Layout {
    fn range(&self, (from, to): (u64, u64)) -> ByteRange {
        ByteRange::new(self.base + from * self.word_len, (to - from) * self.word_len)
    }

    fn bytes(&self, tag: u64, word: u64) -> Vec<u8> {
        data(tag, self.range((word, word + 1)))
    }
}

/// What proptest draws for an operation: kind, words, what it finds, ok, and when it ends.
type Draw = (u8, (u64, u64), (usize, usize), bool, usize);

/// Any draws mean a history: choices are taken modulo what exists.
fn history(draws: &[Draw], layout: Layout) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut clock = 0;
    for (index, (kind, (from, count), found, ok, overlap)) in draws.iter().enumerate() {
        // Writes first, reads last, so that most histories have something to be wrong about.
        let kind = match (index, kind % 6) {
            (0, _) => Kind::Write,
            (_, 0) => Kind::Discard,
            (_, 1) => Kind::WriteZeroes,
            (_, 2 | 3) if index + 2 < draws.len() => Kind::Write,
            _ => Kind::Read,
        };
        let from = from % layout.words;
        let words = (from, from + 1 + count % (layout.words - from));
        let written = |event: &&Event| event.kind != Kind::Read;
        let mut values: Vec<u64> = events.iter().filter(written).map(|e| e.tags[0]).collect();
        values.push(0);
        values.reverse();
        let tags = match kind {
            Kind::Read => [found.0, found.1].iter().map(|f| values[f % values.len()]).collect(),
            Kind::Write => vec![index as u64 + 1],
            _ => vec![0],
        };
        // Ends `overlap` invocations later; ties end in the order of operations.
        clock += 100;
        let responded = clock + overlap % 3 * 100 + 50 + index;
        events.push(Event { kind, words, tags, ok: *ok, invoked: clock, responded });
    }
    events
}

fn model_accepts(events: &[Event], layout: Layout) -> bool {
    let mut model = GuestRegister::new("disk0");
    let begins = events.iter().enumerate().map(|(op, e)| (e.invoked, true, op, e));
    let ends = events.iter().enumerate().map(|(op, e)| (e.responded, false, op, e));
    let mut steps: Vec<_> = begins.chain(ends).collect();
    steps.sort_by_key(|step| step.0);
    let outcome = steps.into_iter().try_for_each(|(_, begins, index, event)| {
        let (op, range) = (index as u64, layout.range(event.words));
        match (begins, event.kind) {
            (true, Kind::Read) => model.invoke_read(op, range),
            (true, Kind::Write) => model.invoke_write(op, range, event.tags[0]),
            (true, Kind::Discard) => model.invoke_discard(op, range),
            (true, _) => model.invoke_write_zeroes(op, range),
            (false, Kind::Read) if event.ok => {
                let words = (event.words.0..event.words.1).zip(&event.tags);
                let found: Vec<u8> = words.flat_map(|(w, tag)| layout.bytes(*tag, w)).collect();
                return model.respond_read(op, &found);
            }
            (false, Kind::Read) => return model.respond_failed(op),
            (false, _) => return model.respond_write(op, event.ok),
        }
        Ok(())
    });
    outcome.is_ok()
}

fn some_order_exists(events: &[Event], layout: Layout) -> bool {
    (0..layout.words).all(|word| {
        let here = |event: &&Event| (event.words.0..event.words.1).contains(&word);
        let matters = |event: &&Event| event.ok || event.kind != Kind::Read;
        let here: Vec<&Event> = events.iter().filter(here).filter(matters).collect();
        (0..1 << here.len()).any(|chosen: u32| {
            let may_miss = |event: &Event| !event.ok || event.kind == Kind::Discard;
            let is_chosen = |index: usize| chosen & 1 << index != 0;
            if !here.iter().enumerate().all(|(index, e)| is_chosen(index) || may_miss(e)) {
                return false;
            }
            let taken: Vec<_> =
                (0..here.len()).filter(|i| is_chosen(*i)).map(|i| here[i]).collect();
            order(&taken, layout.bytes(0, word), word, layout)
        })
    })
}

/// Whether some order of `rest` that respects time explains every read, from `contents` on.
fn order(rest: &[&Event], contents: Vec<u8>, word: u64, layout: Layout) -> bool {
    rest.is_empty()
        || (0..rest.len()).any(|index| {
            let mut others = rest.to_vec();
            let next = others.remove(index);
            let overtaken = others.iter().any(|other| other.responded < next.invoked);
            let tag = *next.tags.get((word - next.words.0) as usize).unwrap_or(&next.tags[0]);
            let bytes = layout.bytes(tag, word);
            let explained = next.kind != Kind::Read || contents == bytes;
            !overtaken && explained && order(&others, bytes, word, layout)
        })
}

fn check(layout: Layout, ops: usize, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let draw =
        (0..6u8, (0..2u64, 0..2u64), (0..5usize, 0..5usize), prop::bool::weighted(0.8), 0..3usize);
    let draws = prop::collection::vec(draw, 3..=ops);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tally = core::cell::Cell::new(0);
    let outcome = runner.run(&draws, |draws| {
        let events = history(&draws, layout);
        let expected = some_order_exists(&events, layout);
        prop_assert_eq!(model_accepts(&events, layout), expected, "{:?}", events);
        tally.set(tally.get() + u32::from(expected));
        Ok(())
    });
    outcome.expect("the register agrees with the search");
    let accepted = tally.get();
    assert!((cases / 5..=cases - cases / 5).contains(&accepted), "{accepted} of {cases} accepted");
}

#[test]
fn the_register_agrees_with_every_order_of_one_word() {
    check(Layout { base: 0, word_len: 8, words: 1 }, 5, 8000);
}

#[test]
fn the_register_agrees_with_every_order_of_one_byte() {
    check(Layout { base: 3, word_len: 1, words: 1 }, 5, 4000);
}

#[test]
fn the_register_agrees_with_every_order_of_two_words() {
    check(Layout { base: 0, word_len: 8, words: 2 }, 5, 8000);
}
