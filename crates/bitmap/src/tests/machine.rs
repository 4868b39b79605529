//! Random operations on a bitmap and on its model, compared after each; and bugs planted to see
//! them found.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::ops::Range;
use quickcheck::{Arbitrary, Gen, QuickCheck, Testable};

use super::{L1, L2, L3, Model, SIZES, agree, fill, model_area, pair};
use crate::HBitmap;

/// An operation picks among what exists: every number means something for every bitmap.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub kind: u8,
    pub position: u32,
    pub extent: u32,
    pub limit: u32,
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        let (kind, position, extent, limit) = Arbitrary::arbitrary(g);
        Self { kind, position, extent, limit }
    }

    fn shrink(&self) -> alloc::boxed::Box<dyn Iterator<Item = Self>> {
        let fields = (self.kind, self.position, self.extent, self.limit);
        alloc::boxed::Box::new(fields.shrink().map(|(kind, position, extent, limit)| Self {
            kind,
            position,
            extent,
            limit,
        }))
    }
}

impl Op {
    /// A range inside `0..len`; half of them of at most two words.
    fn range(&self, len: u64) -> Range<u64> {
        let start = u64::from(self.position) % (len + 1);
        let most = if self.extent.is_multiple_of(2) { len } else { 2 * L1 };
        start..len.min(start + u64::from(self.extent / 2) % (most + 1))
    }
}

/// The generator of every property here: a fixed seed, lists of at most `ops` operations.
pub(super) fn quick(ops: usize, tests: u64) -> QuickCheck {
    QuickCheck::new().rng(Gen::from_size_and_seed(ops, 0xb10c)).tests(tests).max_tests(tests)
}

/// What is wrong with the bitmap on purpose.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    /// A set does not reach the second bit of level 1. (The first is no use: a walk from 0 begins
    /// in its word.)
    LostUpperSet,
    /// A reset leaves the second bit of level 1 set.
    LostUpperReset,
}

fn spoil(bitmap: &mut HBitmap, planted: Planted, kind: u8) {
    match (planted, kind) {
        (Planted::LostUpperSet, 0..=3) => *bitmap.word_mut(1, 0) &= !2,
        (Planted::LostUpperReset, 4..=6) => *bitmap.word_mut(1, 0) |= 2,
        _ => {}
    }
}

/// The kind of operation that resizes.
const RESIZE: u8 = 8;

/// Runs one operation on both; the error tells what they answered.
fn step(bitmap: &mut HBitmap, model: &mut Model, op: &Op) -> Result<(), String> {
    let len = bitmap.len();
    let range = op.range(len);
    match op.kind % 16 {
        0..=3 => {
            let changed = fill(model, range.clone(), true);
            same("set", &range, bitmap.set_range(range.clone()), changed)
        }
        4..=6 => {
            let changed = fill(model, range.clone(), false);
            same("reset", &range, bitmap.reset_range(range.clone()), changed)
        }
        7 => {
            let mut other = HBitmap::new(len);
            other.set_range(range.clone());
            let changed = fill(model, range.clone(), true);
            same("union", &range, bitmap.union_with(&other), changed)
        }
        RESIZE => {
            // Half or twice the size at most, so that the list does not leave the size it is about
            // at once.
            let new_len = SIZES[op.limit as usize % SIZES.len()].clamp(len / 2, 2 * len + 2);
            bitmap.resize(new_len);
            model.resize(new_len as usize, false);
            Ok(())
        }
        9 if op.limit.is_multiple_of(4) => {
            bitmap.set_all();
            model.fill(true);
            Ok(())
        }
        9 if op.limit % 4 == 1 => {
            bitmap.clear();
            model.fill(false);
            Ok(())
        }
        _ => questions(bitmap, model, &range, u64::from(op.limit) % (len + 2)),
    }
}

/// Asks both about the range and about what follows its start.
fn questions(
    bitmap: &HBitmap,
    model: &Model,
    range: &Range<u64>,
    max_len: u64,
) -> Result<(), String> {
    let find =
        |value: bool| (range.start..bitmap.len()).find(|&index| model[index as usize] == value);
    same("next set", range, bitmap.next_set(range.start), find(true))?;
    same("next clear", range, bitmap.next_clear(range.start), find(false))?;
    let count = range.clone().filter(|&index| model[index as usize]).count() as u64;
    same("count", range, bitmap.count_range(range.clone()), count)?;
    let area = bitmap.next_set_area(range.clone(), max_len);
    same("area", range, area, model_area(model, range.clone(), max_len))
}

fn same<T: PartialEq + Debug>(
    what: &str,
    range: &Range<u64>,
    got: T,
    expected: T,
) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what} {range:?}: {got:?}, model {expected:?}"))
}

fn run(len: u64, ops: &[Op], planted: Planted) -> Result<(), String> {
    let (mut bitmap, mut model) = pair(len);
    for (index, op) in ops.iter().enumerate() {
        let at = |error: String| format!("step {index} of a bitmap of {len}: {error}");
        if planted != Planted::Nothing && op.kind % 16 == RESIZE {
            continue; // A small bitmap would check itself, and the answers alone are to show the bug.
        }
        step(&mut bitmap, &mut model, op).map_err(at)?;
        if planted == Planted::Nothing {
            bitmap.check_invariants();
        } else {
            spoil(&mut bitmap, planted, op.kind % 16);
        }
        agree(&bitmap, &model).map_err(at)?;
    }
    Ok(())
}

fn sound<const LEN: u64>(ops: Vec<Op>) -> Result<(), String> {
    run(LEN, &ops, Planted::Nothing)
}

type Property = fn(Vec<Op>) -> Result<(), String>;

fn check_sizes(sizes: &[Property], ops: usize, tests: u64) {
    for size in sizes {
        quick(ops, tests).quickcheck(*size);
    }
}

#[test]
fn small_bitmaps_do_what_the_model_does() {
    check_sizes(&[sound::<0>, sound::<1>, sound::<2>, sound::<17>, sound::<127>], 60, 150);
}

#[test]
fn bitmaps_of_about_one_level_do_what_the_model_does() {
    check_sizes(&[sound::<{ L1 - 1 }>, sound::<L1>, sound::<{ L1 + 1 }>], 80, 300);
}

#[test]
fn bitmaps_of_about_two_levels_do_what_the_model_does() {
    check_sizes(&[sound::<{ L2 - 1 }>, sound::<L2>, sound::<{ L2 + 1 }>], 80, 150);
}

#[test]
fn bitmaps_of_about_three_levels_do_what_the_model_does() {
    check_sizes(&[sound::<{ L3 - 1 }>, sound::<L3>, sound::<{ L3 + 1 }>], 40, 15);
}

/// The text of the failure that `property` must have.
pub(super) fn failure<A: Testable>(property: A) -> String {
    let failed = quick(60, 100).quicktest(property).expect_err("planted-bug-is-found");
    format!("{failed:?}")
}

#[test]
fn machine_finds_a_set_that_drops_the_upper_level() {
    let planted: Property = |ops| run(L2 + 1, &ops, Planted::LostUpperSet);
    let text = failure(planted);
    assert!(text.contains("iter differs"), "{text}");
}

#[test]
fn machine_finds_a_reset_that_drops_the_upper_level() {
    // The walk runs into the empty word, where the bitmap's own assertion is first.
    let planted: Property = |ops| run(L2 + 1, &ops, Planted::LostUpperReset);
    let text = failure(planted);
    assert!(text.contains("upper-level-mirrors-lower"), "{text}");
}

#[test]
fn machine_finds_a_wrong_model() {
    let planted: Property = |ops| {
        let (mut bitmap, mut model) = pair(L2);
        ops.iter().try_for_each(|op| {
            step(&mut bitmap, &mut model, op)?;
            if let Some(first) = model.first_mut() {
                *first = false;
            }
            agree(&bitmap, &model)
        })
    };
    let text = failure(planted);
    assert!(text.contains("differs from the model's"), "{text}");
}

/// A sound bitmap with one word spoilt.
fn spoilt(height: usize, word: usize, flip: u64) -> HBitmap {
    let (mut bitmap, _) = pair(L3 - 1);
    bitmap.set_range(L2..L2 + 1);
    bitmap.check_invariants();
    *bitmap.word_mut(height, word) ^= flip;
    bitmap
}

#[test]
#[should_panic(expected = "upper-level-mirrors-lower: bit 64 of level 1")]
fn check_finds_a_lost_bit_of_an_upper_level() {
    spoilt(1, 1, 1).check_invariants();
}

#[test]
#[should_panic(expected = "upper-level-mirrors-lower: bit 5 of level 2")]
fn check_finds_a_bit_too_many_in_the_top() {
    spoilt(2, 0, 1 << 5).check_invariants();
}

#[test]
#[should_panic(expected = "count-agrees")]
fn check_finds_an_uncounted_item() {
    spoilt(0, 64, 2).check_invariants();
}

#[test]
#[should_panic(expected = "no-bit-past-end")]
fn check_finds_an_item_past_the_end() {
    spoilt(0, 4095, 1 << 63).check_invariants();
}
