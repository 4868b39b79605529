//! Named bitmaps: what marks them, who may change them, and what becomes of them when their holder is done.

use std::sync::Arc;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::{BitmapState, BlockError, Io, NamedBitmap, Node, Owner, Requester, Write};
use blockyard_block::{WriteFlags, WriteKind};
use blockyard_sync::sometimes;
use blockyard_units::{ByteLen, ByteOffset, ByteRange};

use crate::bench::{Bench, FAULTLESS, ONE_FAULT, Test, check, write};

fn range() -> ByteRange {
    ByteRange::new(512, 512)
}

fn node_of(bench: &Bench) -> Arc<Node> {
    bench.layer.node("n").expect("it is there")
}

fn add(bench: &Bench, name: &str, granularity: u64, state: BitmapState) -> Result<(), BlockError> {
    let node = node_of(bench);
    let io = Io::of_node(&bench.layer, &node, Requester::Node(node.id()));
    node.add_named_bitmap(&io, name, ByteLen(granularity), true, state)
}

fn add_plain(bench: &Bench, name: &str, granularity: u64) {
    add(bench, name, granularity, BitmapState::default()).expect("nothing forbids it");
}

/// The dirty areas of a bitmap: start and length.
fn dirty(bench: &Bench, name: &str) -> Vec<(u64, u64)> {
    let areas = |bitmap: &NamedBitmap| {
        let areas = bitmap.bits().areas();
        Ok(areas.map(|area| (area.start(), area.len().0)).collect())
    };
    node_of(bench).bitmaps().look_at(name, areas).expect("it is there")
}

fn change<R>(
    bench: &Bench,
    change: impl FnOnce(&mut NamedBitmap) -> Result<R, BlockError>,
) -> Result<R, BlockError> {
    node_of(bench).bitmaps().change("b", change)
}

/// Every kind but a truncation.
const KINDS: [&str; 5] = ["write", "write-compressed", "write-zeroes", "discard", "copy-range"];

async fn request(bench: &Arc<Bench>, kind: &str, unchanged: bool) -> Result<(), BlockError> {
    let (backend, _) = bench.device("n").await;
    add_plain(bench, "b", 512);
    add_plain(bench, "coarse", 1024);
    let of_device = bench.layer.device_bitmaps(backend.id()).expect("it is there");
    let (len, state) = (ByteLen(0), BitmapState::default());
    of_device.add("d", (len, ByteLen(512)), true, state).expect("nothing forbids it");
    let flags = WriteFlags { unchanged, ..WriteFlags::default() };
    let data = || vec![7; 512].into();
    let kind = match kind {
        "write" => WriteKind::Data(data()),
        "write-compressed" => WriteKind::Compressed(data()),
        "write-zeroes" => WriteKind::Zeroes,
        "discard" => WriteKind::Discard,
        _ => return backend.copy_range(0, range(), flags).await,
    };
    backend.write(Write { kind, range: range(), flags }).await
}

#[test]
fn every_kind_of_write_marks_when_it_ends_well_and_when_it_fails() {
    for kind in KINDS {
        for unchanged in [false, true] {
            let test = Test::new(move |bench| async move {
                let result = request(&bench, kind, unchanged).await;
                sometimes!(result.is_ok(), "it succeeded");
                sometimes!(result.is_err(), "it failed");
                let marked = !unchanged;
                assert_eq!(dirty(&bench, "b"), [(512, 512)][..usize::from(marked)]);
                assert_eq!(dirty(&bench, "coarse"), [(0, 1024)][..usize::from(marked)]);
                let (device, _) = bench.layer.graph().backends().next().expect("it is there");
                let of_device = bench.layer.device_bitmaps(device).expect("it is there");
                let look = |bitmap: &NamedBitmap| Ok(bitmap.bits().areas().collect::<Vec<_>>());
                let found = of_device.look_at("d", look).expect("it is there");
                assert_eq!(found, [range()][..usize::from(marked)]);
            });
            let marks = ["it succeeded", "it failed"];
            check(&format!("{kind}, unchanged: {unchanged}"), &test, ONE_FAULT, &marks);
        }
    }
}

#[test]
fn a_disabled_or_inconsistent_bitmap_records_nothing_and_a_removed_one_is_gone() {
    let test = Test::new(|bench| async move {
        let (backend, _) = bench.device("n").await;
        add_plain(&bench, "b", 512);
        let inconsistent = BitmapState { inconsistent: true, ..BitmapState::default() };
        add(&bench, "lost", 512, inconsistent).expect("nothing forbids it");
        assert_eq!(change(&bench, |bitmap| bitmap.set_recording(false)), Ok(true));
        backend.write(write(1, 7)).await.expect("no fault is budgeted");
        assert_eq!((dirty(&bench, "b"), dirty(&bench, "lost")), (vec![], vec![]));
        assert_eq!(change(&bench, |bitmap| bitmap.set_recording(true)), Ok(false));
        backend.write(write(2, 7)).await.expect("no fault is budgeted");
        assert_eq!(dirty(&bench, "b"), [(1024, 512)]);
        let removed = node_of(&bench).bitmaps().remove("b").expect("nobody holds it");
        backend.write(write(3, 7)).await.expect("no fault is budgeted");
        node_of(&bench).bitmaps().put_back(removed).expect("its name is free");
        assert_eq!(dirty(&bench, "b"), [(1024, 512)]);
    });
    check("disabled", &test, FAULTLESS, &[]);
}

#[test]
fn a_successor_records_for_its_bitmap_and_abdication_or_reclaim_ends_it() {
    for (enabled, abdicates) in [(true, true), (true, false), (false, true), (false, false)] {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.device("n").await;
            add_plain(&bench, "b", 512);
            backend.write(write(0, 7)).await.expect("no fault is budgeted");
            change(&bench, |bitmap| bitmap.set_recording(enabled)).expect("nobody holds it");
            change(&bench, |bitmap| bitmap.split("job j0")).expect("nobody holds it");
            backend.write(write(2, 7)).await.expect("no fault is budgeted");
            assert_eq!(dirty(&bench, "b"), [(0, 512)], "it stays as it was");
            let records = change(&bench, |bitmap| Ok(bitmap.is_recording()));
            assert_eq!(records, Ok(enabled));
            let end = if abdicates { NamedBitmap::abdicate } else { NamedBitmap::reclaim };
            let end = |bitmap: &mut NamedBitmap| {
                end(bitmap);
                Ok(())
            };
            change(&bench, end).expect("it is there");
            backend.write(write(3, 7)).await.expect("no fault is budgeted");
            let sectors = |bitmap: &mut NamedBitmap| {
                let is_dirty = |sector| bitmap.bits().is_dirty(ByteOffset(sector * 512));
                Ok([0_u64, 1, 2, 3].map(is_dirty))
            };
            let expected = [!abdicates, false, enabled, enabled];
            assert_eq!(change(&bench, sectors), Ok(expected));
            let state = change(&bench, |b| Ok((b.is_recording(), b.holder().is_none())));
            assert_eq!(state, Ok((enabled, true)));
        });
        check(&format!("enabled {enabled}, abdicates {abdicates}"), &test, FAULTLESS, &[]);
    }
}

/// Every change that somebody may want to make, and what is said if it is refused.
fn said_of_changes(bench: &Bench) -> Vec<Option<String>> {
    let other = node_of(bench).bitmaps().look_at("other", NamedBitmap::readable);
    let other = other.expect("nobody holds it");
    let said = |result: Result<(), BlockError>| result.err().map(|error| error.to_string());
    vec![
        said(change(bench, |bitmap| bitmap.clear().map(drop))),
        said(change(bench, |bitmap| bitmap.set_recording(false).map(drop))),
        said(change(bench, |bitmap| bitmap.merge(&[&other], DirtyBitmap::merge_from).map(drop))),
        said(change(bench, |bitmap| bitmap.hold("job j1"))),
        said(change(bench, |bitmap| bitmap.split("job j1"))),
        said(node_of(bench).bitmaps().look_at("b", NamedBitmap::readable).map(drop)),
        said(node_of(bench).bitmaps().remove("b").map(drop)),
    ]
}

#[test]
fn whoever_holds_a_bitmap_is_named_and_states_refuse_what_they_must() {
    let none = BitmapState::default();
    // What they say, and whether one may read it and remove it.
    let cases = [
        (none, true, "is in use by job j0", false, false),
        (BitmapState { inconsistent: true, ..none }, false, "is inconsistent", false, true),
        (BitmapState { read_only: true, ..none }, false, "is read-only", true, false),
    ];
    for (state, held, words, reads, removes) in cases {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.device("n").await;
            add(&bench, "b", 512, state).expect("nothing forbids it");
            add_plain(&bench, "other", 512);
            if held {
                change(&bench, |bitmap| bitmap.hold("job j0")).expect("nobody holds it");
            }
            backend.write(write(1, 7)).await.expect("no fault is budgeted");
            let before = dirty(&bench, "b");
            let said = said_of_changes(&bench);
            for (index, said) in said.iter().enumerate() {
                let allowed = (index == 5 && reads) || (index == 6 && removes);
                assert_eq!(said.is_none(), allowed, "{index}: {said:?}");
                let whole = format!("refused: bitmap 'b' of node n {words}");
                assert!(said.iter().all(|said| said.starts_with(&whole)), "{said:?}");
            }
            if !removes {
                assert_eq!(dirty(&bench, "b"), before, "it is as it was");
            }
            if held {
                let release = |bitmap: &mut NamedBitmap| {
                    bitmap.release();
                    Ok(())
                };
                change(&bench, release).expect("it is there");
                assert_eq!(said_of_changes(&bench)[0], None);
            }
        });
        check(words, &test, FAULTLESS, &[]);
    }
}

#[test]
fn names_granularities_and_lengths_that_cannot_be_are_refused() {
    let test = Test::new(|bench| async move {
        bench.device("n").await;
        add_plain(&bench, "b", 512);
        let long = "x".repeat(1024);
        let cases = [
            ("b", 512, "refused: bitmap 'b' of node n is there already"),
            ("", 512, "bitmap of node n: its name is empty"),
            (&long, 512, "bitmap of node n: its name has 1024 bytes"),
            ("c", 256, "bitmap of node n: granularity: refused: granularity 256 is not"),
            ("c", 0, "bitmap of node n: granularity: refused: granularity 0 is not"),
        ];
        for (name, granularity, said) in cases {
            let error = add(&bench, name, granularity, BitmapState::default());
            let error = error.expect_err("it cannot be").to_string();
            assert!(error.starts_with(said), "{error}");
        }
        let mut all = Vec::new();
        node_of(&bench).bitmaps().each(|bitmap| all.push(bitmap.name().to_owned()));
        assert_eq!(all, ["b"]);
    });
    check("refused", &test, FAULTLESS, &[]);
}

#[test]
fn what_is_done_in_a_section_is_undone_with_it_and_nobody_writes_meanwhile() {
    for fails in [false, true] {
        let test = Test::new(move |bench| async move {
            let (backend, node) = bench.device("n").await;
            add_plain(&bench, "b", 512);
            backend.write(write(0, 7)).await.expect("no fault is budgeted");
            bench.task("writer", async move {
                backend.write(write(2, 7)).await.expect("no fault is budgeted");
            });
            let of = node_of(&bench);
            let inside = || {
                let was = of.bitmaps().change("b", NamedBitmap::clear)?;
                let of = of.clone();
                let undo = move |bitmap: &mut NamedBitmap| {
                    bitmap.unclear(&was);
                    Ok(())
                };
                let undo = blockyard_block::Undo::new(move || drop(of.bitmaps().change("b", undo)));
                let no = || BlockError::Invalid(String::from("no"));
                if fails { Err(no()) } else { Ok(undo) }
            };
            let derive =
                |_: &_| Ok(blockyard_block::Plan { drained: vec![node], ..Default::default() });
            let result = bench.layer.reconfigure_and("test", derive, inside).await;
            assert_eq!(result.is_err(), fails);
            sometimes!(dirty(&bench, "b").contains(&(1024, 512)), "the other write came first");
            bench.layer.drain(Owner::command(), &[node]).await.end();
        })
        .checked(move |bench| {
            let found = dirty(bench, "b");
            sometimes!(found.contains(&(1024, 512)), "the other write came later");
            assert_eq!(found.contains(&(0, 512)), fails, "{found:?}");
        });
        check(&format!("fails: {fails}"), &test, FAULTLESS, &[]);
    }
}
