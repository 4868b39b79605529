//! Tests: each a history, and what the bitmaps may be at its end.

use super::*;
use BitmapChange::{Add, Clear, Merge, Record, Remove, Write};

fn node(name: &str) -> BitmapOwner {
    BitmapOwner::Node(name.into())
}

fn named(name: &str) -> BitmapName {
    (node("n"), name.into())
}

fn add(name: &str, granularity: u64) -> BitmapChange {
    Add { name: named(name), granularity, records: true, persistent: false, unplaced: false }
}

fn write(start: u64, len: u64) -> BitmapChange {
    Write(node("n"), ByteRange::new(start, len), None)
}

/// One after another.
fn history(changes: impl IntoIterator<Item = BitmapChange>) -> DirtyBitmaps {
    let mut model = DirtyBitmaps::default();
    for change in changes {
        let number = model.begin(Vec::from([change]));
        assert_eq!(model.end(number, true), Ok(()));
    }
    model
}

fn view(granularity: u64, records: bool, dirty: &[u64]) -> BitmapView {
    let dirty = dirty.iter().copied().collect();
    BitmapView { granularity, records, persistent: false, unplaced: false, dirty }
}

/// Whether the bitmaps may be these; if not, which property says so.
fn judge(model: &DirtyBitmaps, found: &[(&str, BitmapView)]) -> Option<Property> {
    let found = found.iter().map(|(name, view)| (named(name), view.clone()));
    model.check(&found.collect()).err().map(|violation| violation.property)
}

#[test]
fn a_bitmap_has_what_was_written_while_it_recorded_and_nothing_else() {
    let model = history([
        write(0, 512),
        add("b", 1024),
        write(1000, 48),
        Record(named("b"), false),
        write(4096, 1),
        Record(named("b"), true),
        write(8192, 1),
        write(8192, 0),
    ]);
    let cases: [(&[u64], Option<Property>); 4] = [
        (&[0, 1, 8], None),
        (&[0, 8], Some(Property::BitmapSoundness)),
        (&[0, 1, 4, 8], Some(Property::BitmapPrecision)),
        (&[], Some(Property::BitmapSoundness)),
    ];
    for (dirty, expected) in cases {
        assert_eq!(judge(&model, &[("b", view(1024, true, dirty))]), expected, "{dirty:?}");
    }
    assert_eq!(judge(&model, &[]), Some(Property::BitmapSoundness), "it is gone");
    let still = view(1024, false, &[0, 1, 8]);
    assert_eq!(judge(&model, &[("b", still)]), Some(Property::BitmapSoundness), "it records");
}

#[test]
fn commands_do_what_they_say() {
    let merge = || Merge(named("b"), Vec::from([named("a")]));
    let cases: [(&[BitmapChange], &[u64]); 4] = [
        (&[write(0, 1), Clear(named("b")), write(4096, 1)], &[1]),
        (&[write(0, 1), Record(named("b"), false), write(9000, 1), merge()], &[0, 2]),
        (&[write(9000, 1), Write(node("n"), ByteRange::new(5000, 7288), Some(5000))], &[]),
        (&[Write(node("n"), ByteRange::new(4096, 4096), Some(8192))], &[1]),
    ];
    for (changes, dirty) in cases {
        let adds = [add("a", 1024), add("b", 4096)];
        let model = history(adds.into_iter().chain(changes.iter().cloned()));
        let all: Vec<&Bitmaps> = model.possible.iter().map(|possible| &possible.bitmaps).collect();
        let [all] = all[..] else { panic!("one after another there is one order") };
        let found: Vec<u64> = all[&named("b")].dirty.iter().copied().collect();
        assert_eq!(found, dirty, "{changes:?}");
    }
}

#[test]
fn what_overlaps_may_have_come_first_or_last() {
    let mut model = history([add("b", 512)]);
    let written = model.begin(Vec::from([write(0, 512)]));
    let cleared = model.begin(Vec::from([Clear(named("b"))]));
    assert_eq!(model.end(written, true), Ok(()));
    assert_eq!(model.end(cleared, true), Ok(()));
    for (dirty, expected) in
        [(&[][..], None), (&[0], None), (&[1], Some(Property::BitmapPrecision))]
    {
        assert_eq!(judge(&model, &[("b", view(512, true, dirty))]), expected, "{dirty:?}");
    }
}

#[test]
fn a_transaction_is_between_two_writes() {
    let mut model = history([add("a", 512), add("b", 512), Record(named("b"), false)]);
    let changes = [Record(named("a"), false), Record(named("b"), true)];
    let both = model.begin(changes.into());
    let written = model.begin(Vec::from([write(0, 512)]));
    assert_eq!(model.end(both, true), Ok(()));
    assert_eq!(model.end(written, true), Ok(()));
    let unsound = Some(Property::BitmapSoundness);
    for (a, b, expected) in
        [(&[0][..], &[][..], None), (&[], &[0], None), (&[], &[], unsound), (&[0], &[0], unsound)]
    {
        let found = [("a", view(512, false, a)), ("b", view(512, true, b))];
        assert_eq!(judge(&model, &found), expected, "{a:?} {b:?}");
    }
}

#[test]
fn what_fails_has_changed_nothing_and_what_cannot_be_must_fail() {
    let mut model = history([add("b", 512), write(0, 1)]);
    let failed = model.begin(Vec::from([Clear(named("b"))]));
    let written = model.begin(Vec::from([write(512, 1)]));
    assert_eq!(model.end(written, true), Ok(()));
    assert_eq!(model.end(failed, false), Ok(()));
    assert_eq!(judge(&model, &[("b", view(512, true, &[0, 1]))]), None);
    let impossible = [add("b", 512), Remove(named("c")), Merge(named("b"), [named("c")].into())];
    for change in impossible {
        let mut model = history([add("b", 512)]);
        let number = model.begin(Vec::from([change.clone()]));
        assert!(model.end(number, true).is_err(), "{change:?}");
    }
    model.node_is_gone("n");
    assert_eq!(judge(&model, &[]), None);
}

#[test]
fn what_is_persistent_outlives_its_node_and_nothing_else_does() {
    let (name, granularity) = (named("s"), 512);
    let stored = Add { name, granularity, records: true, persistent: true, unplaced: false };
    let mut model = history([stored, add("b", 512), write(0, 1)]);
    let kept = |dirty| BitmapView { persistent: true, ..view(512, true, dirty) };
    model.node_is_gone("n");
    assert_eq!(judge(&model, &[]), None);
    model.node_is_there("n");
    assert_eq!(judge(&model, &[("s", kept(&[0]))]), None);
    assert_eq!(judge(&model, &[("s", kept(&[]))]), Some(Property::BitmapSoundness));
    let forgotten = view(512, true, &[0]);
    assert_eq!(judge(&model, &[("s", forgotten)]), Some(Property::BitmapSoundness));
    assert_eq!(judge(&model, &[]), Some(Property::BitmapSoundness));
}

#[test]
fn what_is_persistent_follows_the_data_into_one_of_its_name_and_is_lost_without_a_place() {
    let add = |node_name: &str, granularity, records, persistent| {
        let name = (node(node_name), String::from("s"));
        Add { name, granularity, records, persistent, unplaced: false }
    };
    let mut model =
        history([add("n", 512, true, true), add("o", 1024, false, false), write(1536, 1)]);
    model.node_takes_place("n", "o", true);
    assert_eq!(judge(&model, &[]), Some(Property::BitmapSoundness));
    let moved = |of: &str, unplaced| {
        let view = BitmapView { persistent: true, unplaced, ..view(1024, true, &[1]) };
        BTreeMap::from([((node(of), String::from("s")), view)])
    };
    assert_eq!(model.check(&moved("o", false)), Ok(()));
    assert!(model.check(&moved("n", false)).is_err());
    model.node_takes_place("o", "p", false);
    assert_eq!(model.check(&moved("p", true)), Ok(()));
    assert!(model.check(&moved("p", false)).is_err());
    model.node_is_gone("p");
    model.node_is_there("p");
    assert_eq!(judge(&model, &[]), None);
}
