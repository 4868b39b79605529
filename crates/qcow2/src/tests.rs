//! What is only numbers and bytes: the header, entries, refcounts of every width, the cache's choice.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::cache::{Cache, Room};
use crate::compress::{compress, decompress};
use crate::entry::{Compressed, Entry, Kind};
use crate::header::{Compression, Header};
use crate::meta::{count_in, set_count_in};
use crate::{CreateOptions, ImageError, Piece, layout};

fn header_of(options: &CreateOptions) -> Vec<u8> {
    let pieces = layout(options).expect("the options go together");
    let header = pieces.into_iter().find_map(|piece| match piece {
        Piece::Bytes(0, bytes) => Some(bytes),
        _ => None,
    });
    header.expect("an image has a header")
}

#[test]
fn a_header_is_read_as_it_was_written() {
    for version in [2, 3] {
        let backing = Some((String::from("base.img"), Some(String::from("raw"))));
        let bytes = header_of(&CreateOptions { version, backing, ..CreateOptions::new(1 << 30) });
        let header = Header::parse(&bytes).expect("it is right");
        assert_eq!(header.backing.as_deref(), Some("base.img"));
        assert_eq!(header.backing_format().as_deref(), Some("raw"));
        let again = header.bytes().expect("it fits");
        assert_eq!(again[..], bytes[..again.len()]);
    }
}

#[test]
fn a_header_that_is_wrong_is_refused_by_the_field() {
    let good = header_of(&CreateOptions::new(1 << 30));
    let cases: [(usize, u8, &str); 6] = [
        (0, 0, "no qcow2"),
        (7, 9, "version"),
        (23, 40, "cluster_bits"),
        (46, 1, "l1_table_offset"),
        (54, 1, "refcount_table_offset"),
        (99, 7, "refcount_order"),
    ];
    for (at, byte, named) in cases {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let error: ImageError = Header::parse(&bytes).expect_err("it is wrong");
        assert!(alloc::format!("{error}").contains(named), "byte {at}: {error}");
    }
}

#[test]
fn refcounts_of_every_width_stand_beside_each_other() {
    for order in 0..=6 {
        let max = u64::MAX >> (64 - (1 << order));
        let mut bytes = vec![0; 64];
        let counts = (64 * 8) >> order;
        for index in 0..counts {
            set_count_in(&mut bytes, index, (index + 1) & max, order);
        }
        for index in 0..counts {
            assert_eq!(count_in(&bytes, index, order), (index + 1) & max, "width {}", 1 << order);
        }
    }
}

#[test]
fn entries_say_what_a_subcluster_is() {
    let options = CreateOptions { extended_l2: true, ..CreateOptions::new(1 << 20) };
    let geometry = Header::parse(&header_of(&options)).expect("it is right").geometry();
    let host = 7 * geometry.cluster();
    let entry = Entry::default().with_data(host, 3..5, &geometry).with_zeroes(8..9);
    let kind = |index| entry.kind(index, &geometry, 0).expect("it is right");
    assert_eq!(kind(3), Kind::Data(host + 3 * geometry.subcluster()));
    assert_eq!(kind(8), Kind::Zero(Some(host + 8 * geometry.subcluster())));
    assert_eq!(kind(9), Kind::Unallocated);
    let both = Entry { bitmap: 1 << 32 | 1, ..entry };
    assert!(both.kind(0, &geometry, 0).is_err(), "data and zeroes at once are wrong");
    let data = Compressed::new(host + 700, 900);
    let compressed = Entry::of_compressed(data, &geometry);
    assert_eq!(compressed.compressed(&geometry), Some(data));
    assert_eq!(compressed.host(&geometry), None);
}

#[test]
fn what_is_compressed_is_shorter_and_comes_back() {
    let cluster: Vec<u8> = (0_u8..=255).cycle().take(4 << 10).collect();
    for how in [Compression::Zlib, Compression::Zstd] {
        let mut compressed = compress(how, &cluster).expect("it becomes shorter");
        compressed.extend_from_slice(&[0xaa; 100]);
        assert_eq!(decompress(how, &compressed, cluster.len()).as_ref(), Some(&cluster), "{how:?}");
        assert_eq!(decompress(how, &compressed[..50], cluster.len()), None, "{how:?}");
    }
}

#[test]
fn room_is_made_where_nobody_has_looked_and_nothing_is_lost() {
    let mut cache = Cache::new(2);
    for offset in [0, 512] {
        assert_eq!(cache.make_room(), Room::There);
        cache.insert(offset, vec![0; 512]);
    }
    cache.change(0)[0] = 1;
    // Both were looked at; the second time around the first one goes, once it is written.
    assert_eq!(cache.make_room(), Room::Dirty(0));
    assert_eq!(cache.make_room(), Room::Dirty(0));
    assert_eq!(cache.take_dirty(0)[0], 1);
    assert!(!cache.is_dirty());
    assert_eq!(cache.make_room(), Room::There);
    assert!(cache.get(0).is_none() && cache.get(512).is_some());
}
