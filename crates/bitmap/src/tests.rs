//! Facts about [`HBitmap`], each with a flat row of `bool` beside it as the model. Sizes are those
//! at which the number of levels changes, one less and one more.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges, of which some have one")]

mod dirty;
mod machine;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::{Cursor, HBitmap};

const L1: u64 = 64;
const L2: u64 = 64 * 64;
const L3: u64 = 64 * 64 * 64;
const SIZES: [u64; 12] = [0, 1, 2, L1 - 1, L1, L1 + 1, L2 - 1, L2, L2 + 1, L3 - 1, L3, L3 + 1];

/// What a bitmap is: items and nothing else.
type Model = Vec<bool>;

/// Bitmap and model, both empty.
fn pair(len: u64) -> (HBitmap, Model) {
    (HBitmap::new(len), alloc::vec![false; len as usize])
}

/// Bitmap and model with these ranges set.
fn pair_with(len: u64, ranges: &[Range<u64>]) -> (HBitmap, Model) {
    let (mut bitmap, mut model) = pair(len);
    for range in ranges {
        let changed = fill(&mut model, range.clone(), true);
        assert_eq!(bitmap.set_range(range.clone()), changed, "set {range:?} of {len}");
    }
    check(&bitmap, &model);
    (bitmap, model)
}

/// Writes to the model; returns how many items changed.
fn fill(model: &mut Model, range: Range<u64>, value: bool) -> u64 {
    let items = &mut model[range.start as usize..range.end as usize];
    let changed = items.iter().filter(|&&item| item != value).count();
    items.fill(value);
    changed as u64
}

/// The first run of set items in `range`, of at most `max_len`, item by item.
fn model_area(model: &[bool], range: Range<u64>, max_len: u64) -> Option<Range<u64>> {
    let end = range.end.min(model.len() as u64);
    let start = (range.start..end).find(|&index| model[index as usize])?;
    let len = (start..end).take_while(|&index| model[index as usize]).count() as u64;
    (max_len > 0).then(|| start..start + len.min(max_len))
}

/// Whether all that can be asked of the bitmap is as in the model; no look inside.
fn agree(bitmap: &HBitmap, model: &Model) -> Result<(), String> {
    let set: Vec<u64> = (0..).zip(model).filter(|(_, item)| **item).map(|(i, _)| i).collect();
    let differ = |what: &str| Err(format!("{what} differs from the model's {set:?}: {bitmap:?}"));
    if bitmap.len() != model.len() as u64 {
        return differ("len");
    }
    if (bitmap.count(), bitmap.is_empty()) != (set.len() as u64, set.is_empty()) {
        return differ("count");
    }
    if !(0..bitmap.len()).zip(model).all(|(index, item)| bitmap.get(index) == *item) {
        return differ("get");
    }
    if !bitmap.iter().eq(set.iter().copied()) {
        return differ("iter");
    }
    Ok(())
}

fn check(bitmap: &HBitmap, model: &Model) {
    bitmap.check_invariants();
    agree(bitmap, model).unwrap();
}

/// Ranges that begin and end at word and level edges of a bitmap of `len`, one off them, and within
/// words.
fn edge_ranges(len: u64) -> Vec<Range<u64>> {
    let points = [0, 1, 5, L1 - 1, L1, L1 + 1, 3 * L1, L2 - 1, L2, L2 + 1, len / 2, len - 1, len];
    let inside = |point: &&u64| **point <= len;
    let from = |start: u64| points.iter().filter(inside).map(move |&end| start..end);
    points.iter().filter(inside).flat_map(|&start| from(start)).filter(|r| !r.is_empty()).collect()
}

#[test]
fn size_zero_is_legal_and_iterates_as_empty() {
    let (mut bitmap, model) = pair(0);
    bitmap.set_all();
    bitmap.clear();
    assert_eq!((bitmap.set_range(0..0), bitmap.reset_range(0..0)), (0, 0));
    assert_eq!((bitmap.next_set(0), bitmap.next_clear(0)), (None, None));
    assert_eq!((bitmap.next_set_area(0..9, 9), bitmap.count_range(0..9)), (None, 0));
    check(&bitmap, &model);
}

#[test]
fn last_item_of_any_size_is_settable_and_countable() {
    for len in SIZES.into_iter().filter(|&len| len > 0) {
        let (bitmap, _) = pair_with(len, &[len - 1..len]);
        assert_eq!(bitmap.count_range(len - 1..len), 1);
        assert_eq!(bitmap.next_set(0), Some(len - 1));
    }
}

#[test]
fn iteration_over_nothing_ends_at_once() {
    for len in SIZES {
        let (bitmap, _) = pair(len);
        assert_eq!(bitmap.iter().next(), None);
    }
}

#[test]
fn iteration_starts_at_any_item() {
    let (bitmap, model) = pair_with(L3, &[0..1, 7..9, L1 - 1..L1 + 1, L2..L2 + 3, L3 - 1..L3]);
    for from in [0, 1, 7, 8, 9, 63, 64, 65, L2 - 1, L2 + 2, L2 + 3, L3 - 1, L3, L3 + 1, u64::MAX] {
        let expected = model_area(&model, from..L3, 1).map(|area| area.start);
        assert_eq!(bitmap.next_set(from), expected, "from {from}");
        assert_eq!(Cursor::new(from).next(&bitmap), expected, "from {from}");
    }
}

#[test]
fn resetting_while_iterating_neither_repeats_nor_skips_survivors() {
    let (mut bitmap, _) = pair_with(L3, &[0..130, L2 - 2..L2 + 200, L3 - 70..L3]);
    let expected: Vec<u64> = bitmap.iter().filter(|index| index % 3 != 1).collect();
    let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
    while let Some(index) = cursor.next(&bitmap) {
        seen.push(index);
        bitmap.reset_range(0..index + 1);
        if index % 3 == 0 && index + 1 < L3 {
            bitmap.reset_range(index + 1..index + 2);
        }
    }
    assert_eq!(seen, expected);
    assert!(bitmap.is_empty());
}

#[test]
fn iteration_survives_resize_and_sees_what_is_set_ahead() {
    let (mut bitmap, _) = pair_with(L2, &[3..4, L2 - 1..L2]);
    let mut cursor = Cursor::default();
    assert_eq!(cursor.next(&bitmap), Some(3));
    bitmap.set_range(0..5);
    bitmap.resize(10);
    assert_eq!(cursor.next(&bitmap), Some(4));
    assert_eq!(cursor.next(&bitmap), None);
    bitmap.resize(L3);
    bitmap.set_range(L3 - 1..L3);
    assert_eq!(cursor.next(&bitmap), Some(L3 - 1));
    assert_eq!(cursor.position(), L3);
}

#[test]
fn set_and_reset_of_everything_count_once() {
    for len in SIZES {
        let (mut bitmap, mut model) = pair(len);
        for _ in 0..2 {
            bitmap.set_all();
            fill(&mut model, 0..len, true);
            check(&bitmap, &model);
            assert_eq!(bitmap.next_clear(0), None);
        }
        assert_eq!(bitmap.set_range(0..len), 0);
        bitmap.clear();
        check(&bitmap, &pair(len).1);
    }
}

#[test]
fn single_items_leave_their_neighbours_clear() {
    for len in [L1, L2 + 1, L3 - 1] {
        for index in [0, 1, L1 / 2, L1 - 1, len / 2, len - 1] {
            pair_with(len, &[index..index + 1]);
        }
        pair_with(len, &[L1 - 2..L1]);
    }
    pair_with(L2, &[L1 - 1..L1 + 1]);
}

#[test]
fn set_counts_each_item_once_when_ranges_repeat_or_overlap() {
    for len in [L1 + 1, L2, L2 + 1] {
        for range in edge_ranges(len) {
            pair_with(len, &[range.clone(), range.clone(), len / 3..len / 2, range]);
        }
    }
    pair_with(L3, &[5..L2, L2 - 9..2 * L2 + 1, 0..L3 - 1, L3 - 2..L3]);
}

#[test]
fn reset_within_over_and_beside_a_set_range() {
    for len in [L1 + 1, L2, L2 + 1] {
        for range in edge_ranges(len) {
            let (mut bitmap, mut model) = pair_with(len, &[len / 3..len / 2 + 1]);
            let changed = fill(&mut model, range.clone(), false);
            assert_eq!(bitmap.reset_range(range.clone()), changed, "reset {range:?} of {len}");
            assert_eq!(bitmap.reset_range(range.clone()), 0, "reset {range:?} of {len} again");
            check(&bitmap, &model);
        }
    }
}

#[test]
fn resize_keeps_survivors_drops_the_rest_and_adds_clear_items() {
    for from in SIZES {
        for to in SIZES {
            let tail = from.saturating_sub(70)..from;
            let (mut bitmap, mut model) = pair_with(from, &[0..from.min(3), tail]);
            bitmap.resize(to);
            model.resize(to as usize, false);
            check(&bitmap, &model);
            bitmap.resize(from);
            model.resize(from as usize, false);
            check(&bitmap, &model);
        }
    }
}

#[test]
fn next_set_and_next_clear_are_exact_also_after_resize() {
    let (mut bitmap, mut model) = pair_with(200, &[0..1, 3..5, 63..129, 190..200]);
    for len in [200, 199, 130, 129, 128, 100, 64, 63, 4, 3, 1, 0, 70, 300] {
        bitmap.resize(len);
        model.resize(len as usize, false);
        for from in 0..len + 3 {
            let find = |value| (from..len).find(|&index| model[index as usize] == value);
            assert_eq!(bitmap.next_set(from), find(true), "{from} of {len}");
            assert_eq!(bitmap.next_clear(from), find(false), "{from} of {len}");
        }
    }
}

#[test]
fn next_set_area_and_count_range_are_exact_for_all_small_ranges() {
    let (mut bitmap, mut model) = pair_with(140, &[0..1, 5..9, 60..70, 127..129, 139..140]);
    for len in [140, 128, 66, 6] {
        bitmap.resize(len);
        model.resize(len as usize, false);
        for start in 0..len + 2 {
            for end in 0..len + 2 {
                for max_len in [0, 1, 3, 64, u64::MAX] {
                    let area = bitmap.next_set_area(start..end, max_len);
                    let expected = model_area(&model, start..end, max_len);
                    assert_eq!(area, expected, "{start}..{end} max {max_len} of {len}");
                }
                let count = (start..end.min(len)).filter(|&index| model[index as usize]).count();
                assert_eq!(bitmap.count_range(start..end), count as u64, "{start}..{end} of {len}");
            }
        }
    }
}

#[test]
fn spreading_sets_all_that_an_item_stands_for_up_to_the_end() {
    for order in 0..=8_u32 {
        let past = (1 << order) - 1;
        for len in [1, 63, 64, 65, L2 - 1, L2 + past, 5 * L2 + 7] {
            let coarse_len = len.div_ceil(1 << order);
            let mut of = HBitmap::new(coarse_len);
            let (mut bitmap, mut model) = pair(len);
            for index in (0..coarse_len).filter(|index| index * 7 % 3 == 0 || index % 64 > 60) {
                of.set_range(index..index + 1);
            }
            for index in (0..len).step_by(1 + order as usize) {
                fill(&mut model, index..index + 1, index % 5 == 0);
            }
            for index in (0..).zip(&model).filter(|(_, item)| **item).map(|(index, _)| index) {
                bitmap.set_range(index..index + 1);
            }
            // Once into what has some already, once into what has nothing.
            for (mut bitmap, mut model) in [(bitmap, model), pair(len)] {
                let changed: u64 = of
                    .iter()
                    .map(|item| fill(&mut model, item << order..len.min((item + 1) << order), true))
                    .sum();
                assert_eq!(bitmap.union_spread(&of, order), changed, "{len} at {order}");
                check(&bitmap, &model);
            }
        }
    }
}

#[test]
fn debug_text_tells_the_runs() {
    let (bitmap, _) = pair_with(L2, &[1..3, 64..65]);
    assert_eq!(format!("{bitmap:?}"), "HBitmap 3 of 4096 [1..3, 64..65]");
}

#[test]
#[should_panic(expected = "item-within-bitmap")]
fn setting_past_the_end_panics() {
    HBitmap::new(65).set_range(64..66);
}

#[test]
#[should_panic(expected = "item-within-bitmap")]
fn getting_past_the_end_panics() {
    HBitmap::new(65).get(65);
}

#[test]
#[should_panic(expected = "lengths-agree")]
fn union_of_different_lengths_panics() {
    HBitmap::new(65).union_with(&HBitmap::new(64));
}

#[test]
#[should_panic(expected = "lengths-agree")]
fn spreading_of_a_different_length_panics() {
    HBitmap::new(65).union_spread(&HBitmap::new(1), 6);
}
