//! Small tables by hand.

use alloc::vec;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::Dedup;
use crate::qcow2::{Place, Stopped};

/// Four clusters of 512 bytes, of which these entries are told: number, and a byte of the digest.
fn metadata(entries: &[(u8, u8)]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..12].copy_from_slice(b"BYDEDUP\0\0\0\0\x01");
    bytes[14] = 2;
    bytes[22] = 8;
    for (index, (number, digest)) in entries.iter().enumerate() {
        bytes[512 + index * 32 + 7] = *number;
        bytes[512 + index * 32 + 31] = *digest;
    }
    bytes
}

fn reader(bytes: &[u8]) -> impl FnMut(ByteRange) -> Option<Vec<u8>> + '_ {
    |range| Some(bytes[range.start() as usize..range.end() as usize].to_vec())
}

#[test]
fn bytes_are_where_the_entry_of_their_cluster_says() {
    let bytes = metadata(&[(3, 1), (0, 0), (3, 1)]);
    let mut read = reader(&bytes);
    let image = Dedup::of(&mut read).expect("the header is fine");
    assert_eq!(image.len, 2048);
    let expected = [(5, Place::Data(1029)), (600, Place::Zero), (1535, Place::Data(1535))];
    for (at, place) in expected.into_iter().chain([(2048, Place::Zero)]) {
        assert_eq!(image.place(&mut read, at), Ok(place), "{at}");
    }
    assert_eq!(image.check(&mut read), Ok(()));
}

#[test]
fn entries_that_contradict_each_other_are_wrong() {
    for entries in [&[(3, 1), (3, 2)][..], &[(0, 1)]] {
        let bytes = metadata(entries);
        let mut read = reader(&bytes);
        let image = Dedup::of(&mut read).expect("the header is fine");
        assert!(matches!(image.check(&mut read), Err(Stopped::Broken(_))), "{entries:?}");
    }
    let unread = |_: ByteRange| None;
    assert_eq!(Dedup::of(&mut { unread }), Err(Stopped::Unread(ByteRange::new(0, 24))));
    assert!(matches!(Dedup::of(&mut |_| Some(vec![0; 24])), Err(Stopped::Broken(_))));
}
