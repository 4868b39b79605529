//! Tests.

use super::*;
use alloc::vec;

const CLUSTER: usize = 512;

/// Clusters: header, refcount table, refcount block, L1 table, L2 table, data.
fn image() -> Vec<u8> {
    let mut image = vec![0; 7 * CLUSTER];
    let header: [(usize, u64, usize); 9] = [
        (0, 0x5146_49fb, 4),
        (4, 3, 4),
        (20, 9, 4),
        (24, 8 * CLUSTER as u64, 8),
        (36, 1, 4),
        (40, 3 * CLUSTER as u64, 8),
        (48, CLUSTER as u64, 8),
        (56, 1, 4),
        (96, 4, 4),
    ];
    for (at, value, len) in header {
        put(&mut image, at, value, len);
    }
    put(&mut image, CLUSTER, 2 * CLUSTER as u64, 8);
    (0..6).for_each(|cluster| put(&mut image, 2 * CLUSTER + 2 * cluster, 1, 2));
    put(&mut image, 3 * CLUSTER, COPIED | (4 * CLUSTER as u64), 8);
    put(&mut image, 4 * CLUSTER + 8, COPIED | (5 * CLUSTER as u64), 8);
    put(&mut image, 4 * CLUSTER + 16, 1, 8);
    image
}

fn put(image: &mut [u8], at: usize, value: u64, len: usize) {
    image[at..at + len].copy_from_slice(&value.to_be_bytes()[8 - len..]);
}

fn check(image: &[u8]) -> Result<u64, Stopped> {
    let mut bytes = reader(image);
    Qcow2::of(&mut bytes)?.check(&mut bytes)
}

fn reader(image: &[u8]) -> impl FnMut(ByteRange) -> Option<Vec<u8>> + '_ {
    |range| {
        let end = image.len().min(range.end() as usize);
        let mut read = image[end.min(range.start() as usize)..end].to_vec();
        read.resize(range.len().as_usize(), 0);
        Some(read)
    }
}

#[test]
fn what_fits_together_is_clean_and_more_counts_are_leaks() {
    let mut image = image();
    assert_eq!(check(&image), Ok(0));
    put(&mut image, 2 * CLUSTER + 2 * 6, 1, 2);
    put(&mut image, 2 * CLUSTER + 2 * 20, 3, 2);
    assert_eq!(check(&image), Ok(2));
}

#[test]
fn each_kind_of_damage_is_told() {
    // (where, what is put there, how long, what is said)
    let damages: [(usize, u64, usize, &str); 8] = [
        (0, 0, 4, "the image begins with"),
        (36, 0, 4, "the L1 table has 0 entries of 1"),
        (CLUSTER, 0, 8, "is referred to 1 times and its refcount is 0"),
        (2 * CLUSTER, 0, 2, "cluster 0, the header, is referred to 1 times"),
        (2 * CLUSTER + 8, 0, 2, "cluster 4, an L2 table, is referred to 1 times"),
        (2 * CLUSTER + 10, 2, 2, "cluster 5 is said to be nobody else's and its refcount is 2"),
        (4 * CLUSTER + 24, 4 * CLUSTER as u64, 8, "cluster 4, a data cluster, is referred to 2"),
        (CLUSTER, 2 * CLUSTER as u64 + 8, 8, "a refcount block is at"),
    ];
    for (at, value, len, said) in damages {
        let mut image = image();
        put(&mut image, at, value, len);
        let Err(Stopped::Broken(violation)) = check(&image) else { panic!("not told: {said}") };
        assert_eq!(violation.property, Property::MetadataIntegrity);
        assert!(violation.message.contains(said), "{said}: {violation}");
    }
}

#[test]
fn places_are_found() {
    let image = image();
    let mut bytes = reader(&image);
    let qcow2 = Qcow2::of(&mut bytes).expect("it is an image");
    assert_eq!(qcow2.len, 8 * CLUSTER as u64);
    let mut place = |at| qcow2.place(&mut bytes, at);
    assert_eq!(place(0), Ok(Place::Below));
    assert_eq!(place(CLUSTER as u64 + 7), Ok(Place::Data(5 * CLUSTER as u64 + 7)));
    assert_eq!(place(2 * CLUSTER as u64), Ok(Place::Zero));
    assert_eq!(place(8 * CLUSTER as u64), Ok(Place::Zero), "behind its end nothing shows");
}

#[test]
fn what_was_not_read_is_asked_for() {
    let whole = image();
    let mut known = 0;
    let mut asked = Vec::new();
    loop {
        let mut bytes = |range: ByteRange| {
            (range.end() <= known).then(|| reader(&whole)(range).expect("it reads all"))
        };
        match Qcow2::of(&mut bytes).and_then(|qcow2| qcow2.check(&mut bytes)) {
            Err(Stopped::Unread(range)) => {
                asked.push(range);
                known = range.end();
            }
            other => break assert_eq!(other, Ok(0)),
        }
    }
    assert_eq!(asked[0], ByteRange::new(0, 104));
    assert!(asked.len() > 3, "{asked:?}");
}

/// The same with the bitmap `b` of 512-byte granules, of which the second is dirty, in the clusters from the sixth on:
/// directory, table, bits.
fn with_bitmap() -> Vec<u8> {
    let mut image = image();
    image.resize(9 * CLUSTER, 0);
    (6..9).for_each(|cluster| put(&mut image, 2 * CLUSTER + 2 * cluster, 1, 2));
    let at = |cluster: usize| (cluster * CLUSTER) as u64;
    for (place, value, len) in [
        (88, 1, 8),
        (100, 104, 4),
        (104, 0x2385_2875, 4),
        (108, 24, 4),
        (112, 1, 4),
        (120, 32, 8),
        (128, at(6), 8),
        (6 * CLUSTER, at(7), 8),
        (6 * CLUSTER + 8, 1, 4),
        (6 * CLUSTER + 12, 2, 4),
        (6 * CLUSTER + 16, 1, 1),
        (6 * CLUSTER + 17, 9, 1),
        (6 * CLUSTER + 18, 1, 2),
        (6 * CLUSTER + 24, u64::from(b'b'), 1),
        (7 * CLUSTER, at(8), 8),
        (8 * CLUSTER, 2, 1),
    ] {
        put(&mut image, place, value, len);
    }
    image
}

#[test]
fn a_bitmap_is_counted_and_read_while_the_image_vouches_for_it() {
    let image = with_bitmap();
    assert_eq!(check(&image), Ok(0));
    let mut bytes = reader(&image);
    let qcow2 = Qcow2::of(&mut bytes).expect("it is an image");
    let [found] = &qcow2.bitmaps(&mut bytes).expect("they are read")[..] else {
        panic!("one is there")
    };
    assert_eq!(
        (&*found.name, found.in_use, found.auto, found.granularity),
        ("b", false, true, 512)
    );
    let dirty = qcow2.dirty(&mut bytes, found).expect("it is read");
    assert_eq!(dirty.into_iter().collect::<Vec<_>>(), [1]);
    let mut lost = image.clone();
    put(&mut lost, 2 * CLUSTER + 2 * 8, 0, 2);
    assert!(matches!(check(&lost), Err(Stopped::Broken(_))));
    let mut forgotten = image.clone();
    put(&mut forgotten, 88, 0, 8);
    assert_eq!(check(&forgotten), Ok(3), "what nobody vouches for has leaked");
}
