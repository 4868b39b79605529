//! Tests.

use super::*;
use crate::data::fill_pattern;
use alloc::vec;
use std::string::ToString;

fn whole() -> ByteRange {
    ByteRange::new(0, 1024)
}

/// Filled with the data of 1. Write 2 at moments 1..2, a flush at 3..4, write 3 at 5..6, write 4 with FUA at 7..8 over
/// its second half.
fn device() -> Durability {
    let mut device = Durability::new("disk0");
    device.fill(whole(), 1);
    device.begin_write(2, ByteRange::new(0, 512), 2, WriteKind::Cached, 1);
    device.end(2, true, 2);
    device.begin_flush(10, 3);
    device.end(10, true, 4);
    device.begin_write(3, ByteRange::new(0, 512), 3, WriteKind::Cached, 5);
    device.end(3, true, 6);
    device.begin_write(4, ByteRange::new(256, 512), 4, WriteKind::Fua, 7);
    device.end(4, true, 8);
    device
}

fn check(device: &Durability, runs: &[(u64, u64)], before: u32) -> Option<String> {
    let mut found = vec![0; 1024];
    let ends = runs.iter().skip(1).map(|(from, _)| *from).chain([1024]);
    for ((from, tag), to) in runs.iter().zip(ends) {
        let range = ByteRange::between(*from, to);
        fill_pattern(*tag, range, &mut found[*from as usize..to as usize]);
    }
    let outcome = device.check(whole(), &found, &|moment| moment < before);
    outcome.err().map(|violation| violation.to_string())
}

#[test]
fn nothing_older_than_what_was_made_durable_is_found() {
    let old = "durability: disk0: what was there at the beginning is found at 0, though a later write of \
               0+512 was made durable by a flush";
    let fua = "durability: disk0: the write of 0+512 is found at 256, though a later write of 256+512 \
               was made durable by FUA";
    let nobody = "durability: disk0: what nobody wrote is found at 8, though a later write of 0+512 was \
                  made durable by a flush";
    for (runs, before, expected) in [
        // Before the flush has ended anything may be found, word by word.
        (&[(0, 1)][..], 4, None),
        (&[(0, 2), (8, 1), (16, 3), (24, 1)], 4, None),
        // After it, write 2 or what came later.
        (&[(0, 1)], 5, Some(old)),
        (&[(0, 2), (512, 1)], 5, None),
        (&[(0, 3), (8, 2), (512, 4), (768, 1)], 8, None),
        // FUA promises its own write as soon as it has ended.
        (&[(0, 2), (512, 4), (768, 1)], 9, Some(fua)),
        (&[(0, 2), (256, 4), (768, 1)], 9, None),
        (&[(0, 2), (8, 7), (16, 2), (512, 1)], 5, Some(nobody)),
    ] {
        let found = check(&device(), runs, before);
        assert_eq!(found.as_deref(), expected, "{runs:?} before {before}");
    }
}

#[test]
fn what_failed_was_discarded_or_overlaps_promises_nothing() {
    let flushed = |kind, well| {
        let mut device = Durability::new("disk0");
        device.fill(whole(), 1);
        device.begin_write(2, whole(), 2, kind, 1);
        device.end(2, well, 2);
        device.begin_flush(10, 3);
        device.end(10, true, 4);
        device
    };
    assert!(check(&flushed(WriteKind::Cached, true), &[(0, 1)], 9).is_some());
    assert_eq!(check(&flushed(WriteKind::Cached, false), &[(0, 1), (512, 2)], 9), None);
    assert_eq!(check(&flushed(WriteKind::Discard, true), &[(0, 1), (512, 2)], 9), None);
    // A flush that fails, or that began before the write had ended, promises nothing.
    for (began, well) in [(1, true), (3, false)] {
        let mut device = Durability::new("disk0");
        device.begin_write(2, whole(), 2, WriteKind::Cached, 0);
        device.begin_flush(10, began);
        device.end(2, true, 2);
        device.end(10, well, 4);
        assert_eq!(check(&device, &[(0, 0)], 9), None);
    }
    // Of two that overlapped in time either may be the last.
    let mut device = Durability::new("disk0");
    device.begin_write(2, whole(), 2, WriteKind::Fua, 1);
    device.begin_write(3, whole(), 3, WriteKind::Fua, 2);
    device.end(2, true, 3);
    device.end(3, true, 4);
    assert_eq!(check(&device, &[(0, 2), (512, 3)], 9), None);
    assert!(check(&device, &[(0, 0)], 9).is_some());
}

/// Write 2 of the first half, then a copy of it to the second, which a flush makes durable.
#[test]
fn a_copy_promises_what_its_source_held() {
    let device = |with: &dyn Fn(&mut Durability)| {
        let mut device = Durability::new("disk0");
        device.fill(whole(), 1);
        device.begin_write(2, ByteRange::new(0, 512), 2, WriteKind::Cached, 1);
        device.end(2, true, 2);
        device.begin_copy(3, 0, ByteRange::new(512, 512), WriteKind::Cached, 3);
        with(&mut device);
        device.end(3, true, 6);
        device.begin_flush(10, 7);
        device.end(10, true, 8);
        device
    };
    let second_half = |device: &Durability, tag: u64| {
        let mut found = vec![0; 512];
        fill_pattern(tag, ByteRange::new(0, 512), &mut found);
        device.check(ByteRange::new(512, 512), &found, &|_| true).is_ok()
    };
    let alone = device(&|_| ());
    assert_eq!([1, 2, 3].map(|tag| second_half(&alone, tag)), [false, true, false]);
    let old = check(&alone, &[(0, 2), (512, 1)], 9).expect("it was copied over");
    assert!(old.ends_with("though a later write of 512+512 was made durable by a flush"), "{old}");
    // Another write of the source at the same time: either.
    let beside = device(&|device| {
        device.begin_write(4, ByteRange::new(0, 512), 4, WriteKind::Cached, 4);
        device.end(4, true, 5);
    });
    assert_eq!([1, 2, 4].map(|tag| second_half(&beside, tag)), [false, true, true]);
    // A discard may have left what was there.
    let discarded = device(&|device| {
        device.begin_write(4, ByteRange::new(0, 512), 0, WriteKind::Discard, 4);
        device.end(4, true, 5);
    });
    assert_eq!([0, 1, 2].map(|tag| second_half(&discarded, tag)), [true, false, true]);
    // One byte of a word is of another write.
    let mut cut = Durability::new("disk0");
    cut.fill(whole(), 1);
    cut.begin_write(2, ByteRange::new(511, 1), 2, WriteKind::Cached, 1);
    cut.end(2, true, 2);
    cut.begin_copy(3, 0, ByteRange::new(512, 512), WriteKind::Fua, 3);
    cut.end(3, true, 4);
    let mut found = vec![0; 512];
    fill_pattern(1, ByteRange::new(0, 512), &mut found);
    let finds = |found: &[u8]| cut.check(ByteRange::new(512, 512), found, &|_| true).is_ok();
    assert!(!finds(&found), "the last byte is older than what was copied");
    fill_pattern(2, ByteRange::new(511, 1), &mut found[511..]);
    assert!(finds(&found));
    // Copied on from there.
    let mut twice = device(&|_| ());
    twice.begin_copy(5, 512, ByteRange::new(1024, 512), WriteKind::Fua, 9);
    twice.end(5, true, 10);
    let third = |tag: u64| {
        let mut found = vec![0; 512];
        fill_pattern(tag, ByteRange::new(0, 512), &mut found);
        twice.check(ByteRange::new(1024, 512), &found, &|_| true).is_ok()
    };
    assert_eq!([0, 1, 2].map(third), [false, false, true]);
}

#[test]
fn bitmap_that_is_vouched_for_has_what_had_been_written() {
    let device = device();
    for (dirty, before, lacks) in [
        (&[][..], 2, None),
        (&[], 3, Some("granule 0: 0+512")),
        (&[0], 8, None),
        (&[0], 9, Some("granule 1: 256+512")),
        (&[0, 1], 9, None),
    ] {
        let dirty = dirty.iter().copied().collect();
        let judged = device.check_marked("b", 512, &dirty, &|moment| moment < before);
        let said = judged.err().map(|violation| violation.to_string());
        let expected = lacks.map(|lacks| {
            alloc::format!(
                "bitmap-soundness: disk0: bitmap b is vouched for and lacks {lacks} was written"
            )
        });
        assert_eq!(said, expected, "{dirty:?} before {before}");
    }
}
