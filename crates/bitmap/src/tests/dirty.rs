//! Facts about [`DirtyBitmap`], with one `bool` for every byte of the disk as the model.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use blockyard_units::{ByteLen, ByteOffset, ByteRange};

use super::machine::{Op, failure, quick};
use super::model_area;
use crate::{BitmapError, DirtyBitmap};

const DISKS: [u64; 10] = [0, 1, 511, 512, 513, 2048, 4095, 4096, 5000, 9001];
const GRANULARITIES: [u64; 4] = [512, 1024, 2048, 4096];

fn bitmap(disk_len: u64, granularity: u64) -> DirtyBitmap {
    DirtyBitmap::new(ByteLen(disk_len), ByteLen(granularity)).unwrap()
}

fn range(offset: u64, len: u64) -> ByteRange {
    ByteRange::new(offset, len)
}

/// What a dirty bitmap is: the dirty bytes, which are always whole granules as far as the disk has
/// them.
#[derive(Clone)]
struct Bytes {
    dirty: Vec<bool>,
    granularity: usize,
}

impl Bytes {
    fn mark(&mut self, is_marked: impl Fn(u64) -> bool) {
        for granule in self.dirty.chunks_mut(self.granularity).enumerate() {
            let first = granule.0 * self.granularity;
            if (first..first + granule.1.len()).any(|byte| is_marked(byte as u64)) {
                granule.1.fill(true);
            }
        }
    }

    fn reset_inward(&mut self, is_reset: impl Fn(u64) -> bool) {
        for granule in self.dirty.chunks_mut(self.granularity).enumerate() {
            let first = granule.0 * self.granularity;
            if (first..first + granule.1.len()).all(|byte| is_reset(byte as u64)) {
                granule.1.fill(false);
            }
        }
    }

    fn resize(&mut self, disk_len: u64) {
        self.dirty.resize(disk_len as usize, false);
        let before = self.dirty.clone();
        self.mark(|byte| before[byte as usize]);
    }
}

fn agree(bitmap: &DirtyBitmap, model: &Bytes) -> Result<(), String> {
    bitmap.check_invariants();
    let differ = |what: String| Err(format!("{what} differs: {bitmap:?}"));
    let bytes = model.dirty.iter().filter(|&&byte| byte).count() as u64;
    if bitmap.dirty_bytes().0 != bytes {
        return differ(format!("dirty bytes, {bytes} in the model,"));
    }
    let is_right = |byte: &u64| {
        bitmap.is_dirty(ByteOffset(*byte)) == model.dirty.get(*byte as usize).is_some_and(|&d| d)
    };
    if let Some(byte) = (0..model.dirty.len() as u64 + 5000).find(|byte| !is_right(byte)) {
        return differ(format!("byte {byte}"));
    }
    let granules = model.dirty.chunks(model.granularity).filter(|granule| granule[0]).count();
    if bitmap.count() != granules as u64 { differ("count".to_string()) } else { Ok(()) }
}

/// Runs one operation on the first bitmap and its model; the second is what it swaps and merges
/// with.
fn step(pairs: &mut [(DirtyBitmap, Bytes); 2], op: &Op) -> Result<(), String> {
    let (other, other_model) = pairs[1].clone();
    let (bitmap, model) = &mut pairs[0];
    let disk_len = bitmap.disk_len().0;
    let start = u64::from(op.position) % (disk_len + 600);
    let bytes = range(start, u64::from(op.extent) % (disk_len + 600));
    let inside = |byte: u64| bytes.start() <= byte && byte < bytes.end();
    match op.kind % 8 {
        0 | 1 => {
            bitmap.mark(bytes);
            model.mark(inside);
        }
        2 => {
            bitmap.reset_inward(bytes);
            model.reset_inward(inside);
        }
        3 => {
            let aligned = |end: u64| end.is_multiple_of(bitmap.granularity().0) || end == disk_len;
            let allowed = aligned(bytes.start()) && aligned(bytes.end());
            if bitmap.reset(bytes).is_ok() != allowed {
                return Err(format!("reset of {bytes} is not judged as in the model"));
            }
            if allowed {
                model.reset_inward(inside);
            }
        }
        4 => {
            bitmap.merge_from(&other);
            model.mark(|byte| other_model.dirty.get(byte as usize).is_some_and(|&dirty| dirty));
        }
        5 => {
            let new_len = DISKS[op.limit as usize % DISKS.len()];
            bitmap.resize(ByteLen(new_len));
            model.resize(new_len);
        }
        6 => pairs.swap(0, 1),
        _ => return questions(bitmap, model, bytes, u64::from(op.limit) % 3000),
    }
    agree(&pairs[0].0, &pairs[0].1)
}

fn questions(
    bitmap: &DirtyBitmap,
    model: &Bytes,
    bytes: ByteRange,
    max_len: u64,
) -> Result<(), String> {
    let numbers = |range: ByteRange| range.start()..range.end();
    let area = bitmap.next_dirty_area(bytes, ByteLen(max_len)).map(numbers);
    let expected = model_area(&model.dirty, numbers(bytes), max_len);
    if area != expected {
        return Err(format!("area of {bytes} max {max_len}: {area:?}, model {expected:?}"));
    }
    let any = model_area(&model.dirty, numbers(bytes), 1).is_some();
    if bitmap.dirty_in(bytes) != any {
        return Err(format!("dirty in {bytes}: model {any}"));
    }
    let disk_len = model.dirty.len() as u64;
    let next = bitmap.next_dirty(bytes.offset());
    let expected = model_area(&model.dirty, bytes.start()..disk_len, 1).map(|first| {
        let granule = ByteOffset(first.start).align_down(bitmap.granularity()).0;
        ByteRange::between(granule, disk_len.min(granule + model.granularity as u64))
    });
    if next == expected {
        return Ok(());
    }
    Err(format!("next from {}: {next:?}, model {expected:?}", bytes.offset()))
}

/// Two bitmaps over disks that may differ; operations go to the first, swapping and merging connect
/// them. The planted bug: the model forgets operations of kind `forget`.
fn run(picks: u8, disks: u8, ops: &[Op], forget: Option<u8>) -> Result<(), String> {
    let new = |pick: u8, disk: u8| {
        let disk_len = DISKS[usize::from(disk) % DISKS.len()];
        let granularity = GRANULARITIES[usize::from(pick) % GRANULARITIES.len()];
        let dirty = alloc::vec![false; disk_len as usize];
        let model = Bytes { dirty, granularity: granularity as usize };
        (bitmap(disk_len, granularity), model)
    };
    let mut pairs = [new(picks, disks), new(picks / 16, disks / 16)];
    for (index, op) in ops.iter().enumerate() {
        let model = pairs[0].1.clone();
        let at = |error: String| format!("step {index}: {error}");
        step(&mut pairs, op).map_err(at)?;
        if forget == Some(op.kind % 8) {
            pairs[0].1 = model;
            agree(&pairs[0].0, &pairs[0].1).map_err(at)?;
        }
    }
    Ok(())
}

#[test]
fn two_dirty_bitmaps_do_what_the_bytes_do() {
    let sound: fn(u8, u8, Vec<Op>) -> Result<(), String> =
        |picks, disks, ops| run(picks, disks, &ops, None);
    quick(50, 400).quickcheck(sound);
}

#[test]
fn byte_model_finds_forgotten_operations() {
    macro_rules! forgetting {
        ($($kind:literal)*) => {
            [$({
                let planted: fn(u8, u8, Vec<Op>) -> Result<(), String> =
                    |picks, disks, ops| run(picks, disks, &ops, Some($kind));
                planted
            }),*]
        };
    }
    for planted in forgetting![0 2 3 4 5] {
        let text = failure(planted);
        assert!(text.contains("differs"), "{text}");
    }
}

#[test]
fn granularity_outside_the_rule_is_refused_with_the_rule() {
    for granularity in [0, 1, 256, 513, 1536, (1 << 31) + 1, 1 << 32, u64::MAX] {
        let error = DirtyBitmap::new(ByteLen(1 << 20), ByteLen(granularity)).unwrap_err();
        assert_eq!(error, BitmapError::Granularity { granularity: ByteLen(granularity) });
        let text = format!(
            "refused: granularity {granularity} is not a power of two between 512 and 2147483648 bytes"
        );
        assert_eq!(error.to_string(), text);
    }
    for bits in 9..=31 {
        assert_eq!(bitmap(1 << 20, 1 << bits).granularity(), ByteLen(1 << bits));
    }
}

#[test]
fn any_byte_reports_the_start_of_its_granule_once() {
    for granularity in GRANULARITIES {
        for byte in [0, 1, 511, 512, 4095, 4096, 8999, 9000] {
            let mut bitmap = bitmap(9001, granularity);
            bitmap.mark(range(byte, 1));
            bitmap.mark(range(byte, 1));
            let start = byte / granularity * granularity;
            let granule = ByteRange::between(start, 9001.min(start + granularity));
            assert_eq!(bitmap.next_dirty(ByteOffset(0)), Some(granule));
            assert_eq!(bitmap.next_dirty(ByteOffset(granule.end() - 1)), Some(granule));
            assert_eq!(bitmap.next_dirty(ByteOffset(granule.end())), None);
            assert_eq!((bitmap.count(), bitmap.dirty_bytes()), (1, granule.len()));
        }
    }
}

#[test]
fn unaligned_reset_is_refused_and_changes_nothing() {
    let mut bitmap = bitmap(5000, 1024);
    bitmap.mark_all();
    let before = bitmap.clone();
    for (offset, len) in [(0, 1), (1, 1023), (1, 1024), (1024, 1023), (4096, 903), (4096, 905)] {
        let error = bitmap.reset(range(offset, len)).unwrap_err();
        let text = format!(
            "refused: reset of {offset}+{len} does not begin and end on a multiple of 1024 bytes \
             or at the disk's end 5000"
        );
        assert_eq!(error.to_string(), text);
        assert_eq!(bitmap, before);
    }
    bitmap.reset(range(4096, 904)).unwrap();
    bitmap.reset(range(1024, 1024)).unwrap();
    assert_eq!(bitmap.dirty_bytes(), ByteLen(3 * 1024));
    bitmap.reset(range(0, 8192)).unwrap();
    assert_eq!(bitmap.count(), 0);
}

#[test]
fn disabled_bitmap_records_nothing_but_can_be_marked() {
    let mut bitmap = bitmap(4096, 512);
    bitmap.disable();
    bitmap.record(range(0, 512));
    assert_eq!((bitmap.count(), bitmap.is_enabled()), (0, false));
    bitmap.mark(range(0, 512));
    bitmap.enable();
    bitmap.record(range(512, 1));
    assert_eq!((bitmap.count(), bitmap.is_enabled()), (2, true));
}

#[test]
fn ranges_at_the_end_of_64_bits_are_clipped_not_overflown() {
    let all = range(0, u64::MAX);
    let mut small = bitmap(5000, 4096);
    small.mark(all);
    assert_eq!(small.next_dirty_area(all, ByteLen(u64::MAX)), Some(range(0, 5000)));
    small.reset_inward(range(1, u64::MAX - 1));
    assert_eq!(small.next_dirty_area(all, ByteLen(u64::MAX)), Some(range(0, 4096)));
    assert!(!small.dirty_in(range(u64::MAX, 0)) && !small.is_dirty(ByteOffset(u64::MAX)));
    let mut huge = bitmap(1 << 52, 1 << 31);
    huge.mark(range((1 << 52) - 1, 1));
    assert_eq!(huge.next_dirty(ByteOffset(0)), Some(range((1 << 52) - (1 << 31), 1 << 31)));
    assert_eq!(huge.next_dirty(ByteOffset(u64::MAX)), None);
}

#[test]
fn growing_keeps_the_cut_granule_dirty_and_adds_clean_ones() {
    let mut bitmap = bitmap(5000, 4096);
    bitmap.mark(range(4999, 1));
    assert_eq!(bitmap.dirty_bytes(), ByteLen(904));
    bitmap.resize(ByteLen(20_000));
    assert_eq!(bitmap.dirty_bytes(), ByteLen(4096));
    bitmap.resize(ByteLen(4096));
    assert_eq!((bitmap.dirty_bytes(), bitmap.disk_len()), (ByteLen(0), ByteLen(4096)));
}

#[test]
fn merge_rounds_outward_to_the_coarser_granules() {
    let (mut fine, mut coarse) = (bitmap(9001, 512), bitmap(9001, 4096));
    fine.mark(range(4096 + 512, 1));
    coarse.merge_from(&fine);
    assert_eq!(coarse.next_dirty_area(range(0, 9001), ByteLen(9001)), Some(range(4096, 4096)));
    fine.merge_from(&coarse);
    assert_eq!((fine.count(), fine.dirty_bytes()), (8, ByteLen(4096)));
}
