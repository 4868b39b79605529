//! The clusters against a flat disk: whatever is done to them, byte by byte.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::map::{Fill, Map};

const CLUSTER: u64 = 512;
const MAX: u64 = 2600;

/// What a map shows, with all of its backing child's bytes 9.
fn shown(map: &Map) -> Vec<u8> {
    let range = ByteRange::new(0, map.len.expect("it was given"));
    let mut bytes = Vec::new();
    for (piece, held) in map.pieces(range) {
        let below = |offset| if offset < map.shown { 9 } else { 0 };
        bytes.extend(held.unwrap_or_else(|| (piece.start()..piece.end()).map(below).collect()));
    }
    bytes
}

fn copied(map: &Map, range: ByteRange) -> BTreeMap<u64, Vec<u8>> {
    let below = |offset| if offset < map.shown { 9 } else { 0 };
    let bytes = |part: ByteRange| (part.start()..part.end()).map(below).collect();
    map.bare_parts(range).into_iter().map(|part| (part.start() / CLUSTER, bytes(part))).collect()
}

/// Whole clusters of `range` in a disk of `len` bytes.
fn inner(range: ByteRange, len: u64) -> ByteRange {
    range.align_inward(blockyard_units::ByteLen(CLUSTER), len)
}

#[test]
fn whatever_is_done_is_shown_and_nothing_else() {
    let mut seed = 1_u64;
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..300 {
        let mut map = Map::new(Some(2000), CLUSTER);
        let mut model = vec![9_u8; 2000];
        for step in 0..20 {
            let len = model.len() as u64;
            let from = next(len + 1);
            let range = ByteRange::new(from, next(len - from + 1));
            let places = range.start() as usize..range.end() as usize;
            match next(5) {
                0 | 1 => {
                    let data = vec![step as u8 + 20; places.len()];
                    let copied = copied(&map, range);
                    map.store(range, Fill::Data(&data), copied);
                    model[places].copy_from_slice(&data);
                }
                2 => {
                    let copied = copied(&map, range);
                    map.store(range, Fill::Zeroes, copied);
                    model[places].fill(0);
                }
                3 => {
                    map.discard(range);
                    let inner = inner(range, len);
                    if !inner.is_empty() {
                        model[inner.start() as usize..inner.end() as usize].fill(0);
                    }
                }
                _ => {
                    let len = 1 + next(MAX);
                    map.truncate(len, true);
                    model.resize(len as usize, 0);
                }
            }
            assert_eq!(shown(&map), model, "step {step}");
            check_extents(&map, &model);
        }
    }
}

fn check_extents(map: &Map, model: &[u8]) {
    let len = model.len() as u64;
    let mut start = 0;
    while start < len {
        let extent = map.extent(ByteRange::between(start, len));
        assert!(extent.len.0 > 0, "a-status-goes-on");
        let end = start + extent.len.0;
        let bytes = &model[start as usize..end as usize];
        let expected = match (extent.allocated, extent.zero) {
            (true, true) => Some(0),
            (false, _) => Some(9),
            _ => None,
        };
        assert!(expected.is_none_or(|value| bytes.iter().all(|byte| *byte == value)));
        start = end;
    }
}
