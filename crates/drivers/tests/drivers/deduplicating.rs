//! `dedup`: whatever is done comes back, also when it is opened anew, and equal clusters are there once.

use std::collections::BTreeSet;
use std::sync::Arc;

use blockyard_block::{Backend, BlockError, Write};
use blockyard_drivers::dedup::{Dedup, DedupHeader, check, create, repair};
use blockyard_runtime::{IoBuffer, IoErrorKind, Storage};
use blockyard_sim::{DiskImage, SimDisk};
use blockyard_units::{ByteLen, ByteRange};

use crate::bench::{Bench, Test, check_on_disks};

const CLUSTER: u64 = 512;
const COUNT: u64 = 6;
const LEN: u64 = CLUSTER * COUNT;

fn header() -> DedupHeader {
    DedupHeader::new(CLUSTER, LEN).expect("that is fine")
}

/// An empty image's metadata.
fn metadata() -> DiskImage {
    let mut bytes = header().to_bytes();
    bytes.resize(header().metadata_len() as usize, 0);
    DiskImage::new("disk", bytes)
}

fn data(clusters: u64) -> DiskImage {
    DiskImage::new("second", IoBuffer::zeroes((clusters * CLUSTER) as usize))
}

/// As long as it is needed, up to so many.
fn growing(clusters: u64) -> DiskImage {
    let empty = DiskImage::new("second", IoBuffer::default());
    DiskImage { capacity: ByteLen(clusters * CLUSTER), ..empty }
}

fn second(bench: &Bench) -> SimDisk {
    bench.second.clone().expect("the setup has it")
}

/// A device on the image in the two disks, opened anew.
async fn opened(bench: &Bench, number: u32) -> Result<Backend, BlockError> {
    let dedup = Box::new(Dedup::new("dedup"));
    bench.over_both(number, ("dedup", dedup), ["metadata", "data"]).await
}

async fn device(bench: &Bench, number: u32) -> Backend {
    opened(bench, number).await.expect("the image is fine")
}

/// A cluster with the content of this number; 0: zeroes.
fn content(number: u8) -> Vec<u8> {
    vec![number; CLUSTER as usize]
}

fn write(cluster: u64, numbers: &[u8]) -> Write {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| content(*number)).collect();
    Write::data(cluster * CLUSTER, bytes.into())
}

async fn read(backend: &Backend) -> Vec<u8> {
    let read = backend.read(ByteRange::new(0, LEN)).await.expect("nothing fails");
    let first = |cluster: &[u8]| {
        assert!(cluster.iter().all(|byte| *byte == cluster[0]), "clusters are whole");
        cluster[0]
    };
    read.chunks(CLUSTER as usize).map(first).collect()
}

/// Which contents there are on the data disk.
fn kept(bench: &Bench) -> Vec<u8> {
    let mut kept = second(bench).observe_quietly(|bytes| {
        bytes.chunks(CLUSTER as usize).map(|cluster| cluster[0]).collect::<Vec<_>>()
    });
    kept.retain(|number| *number != 0);
    kept.sort_unstable();
    kept
}

async fn sound(bench: &Bench) {
    let checked = check(&bench.disk, &second(bench), &mut |_, _| true).await;
    let checked = checked.expect("nothing fails").expect("nobody stops it");
    assert!(checked.is_sound(), "{:?}", checked.findings);
}

#[test]
fn equal_clusters_are_kept_once_and_each_can_be_overwritten() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench, 0).await;
        backend.write(write(0, &[7, 7, 0, 8, 7])).await.expect("there is space");
        assert_eq!(kept(&bench), [7, 8]);
        backend.write(write(1, &[9])).await.expect("there is space");
        assert_eq!(read(&backend).await, [7, 9, 0, 8, 7, 0]);
        backend.flush().await.expect("nothing fails");
        sound(&bench).await;
        assert_eq!(read(&device(&bench, 1).await).await, [7, 9, 0, 8, 7, 0], "opened anew");
    });
    assert_eq!(check_on_disks(&test, vec![metadata(), data(COUNT)]), 1);
}

#[test]
fn what_nothing_refers_to_is_discarded_and_used_anew_once_it_is_flushed() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench, 0).await;
        backend.write(write(0, &[1, 2])).await.expect("there is space");
        backend.flush().await.expect("nothing fails");
        backend.write(write(0, &[0, 0])).await.expect("zeroes take none");
        assert_eq!(kept(&bench), [1, 2], "the disk may refer to them");
        backend.flush().await.expect("nothing fails");
        backend.write(write(3, &[3, 4])).await.expect("there is space");
        assert_eq!(kept(&bench), [3, 4]);
        backend.write(write(3, &[5, 6])).await.expect("a flush makes space");
        backend.write(write(0, &[7])).await.expect("and another");
        let refused = backend.write(write(1, &[8])).await.map_err(|error| error.io_kind());
        assert_eq!(refused, Err(Some(IoErrorKind::NoSpace)));
        assert_eq!(read(&backend).await, [7, 0, 0, 5, 6, 0]);
        backend.write(write(1, &[6, 5])).await.expect("duplicates take no space");
        backend.flush().await.expect("nothing fails");
        sound(&bench).await;
    });
    for data in [data(3), growing(3)] {
        check_on_disks(&test, vec![metadata(), data]);
    }
}

#[test]
fn a_write_of_a_part_keeps_the_rest_of_its_cluster() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench, 0).await;
        backend.write(write(0, &[1, 1])).await.expect("there is space");
        let part = Write::data(100, vec![2; 600].into());
        backend.write(part).await.expect("there is space");
        let read = backend.read(ByteRange::new(0, 2 * CLUSTER)).await.expect("nothing fails");
        let mut model = vec![1; 2 * CLUSTER as usize];
        model[100..700].fill(2);
        assert!(*read == *model);
    });
    check_on_disks(&test, vec![metadata(), data(COUNT)]);
}

/// A source of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// What each cluster holds, and has held since the last flush.
struct Model(Vec<Vec<u8>>);

impl Model {
    fn now(&self) -> Vec<u8> {
        self.0.iter().map(|held| *held.last().expect("it holds something")).collect()
    }

    fn set(&mut self, cluster: u64, numbers: &[u8]) {
        for (held, number) in self.0[cluster as usize..].iter_mut().zip(numbers) {
            held.push(*number);
        }
    }

    /// It is what it was found to be.
    fn settle(&mut self, found: &[u8]) {
        for (held, found) in self.0.iter_mut().zip(found) {
            assert!(held.contains(found), "{found} was never there since the last flush");
            *held = vec![*found];
        }
    }
}

async fn anything(bench: Arc<Bench>, seed: u64) {
    let mut numbers = Numbers(seed);
    let mut model = Model(vec![vec![0]; COUNT as usize]);
    let mut backend = device(&bench, 0).await;
    for step in 1..60 {
        let first = numbers.below(COUNT);
        let count = 1 + numbers.below(COUNT - first);
        let range = ByteRange::new(first * CLUSTER, count * CLUSTER);
        match numbers.below(8) {
            0 => {
                backend.flush().await.expect("nothing fails");
                model.settle(&model.now());
            }
            // As after a power loss that keeps all that was written.
            1 => {
                backend = device(&bench, step).await;
                model.settle(&read(&backend).await);
                sound(&bench).await;
            }
            2 => {
                backend.write(Write::zeroes(range)).await.expect("zeroes take no space");
                model.set(first, &vec![0; count as usize]);
            }
            3 => {
                backend.write(Write::discard(range)).await.expect("nothing fails");
                model.set(first, &vec![0; count as usize]);
            }
            _ => {
                let new: Vec<u8> = (0..count).map(|_| numbers.below(9) as u8).collect();
                backend.write(write(first, &new)).await.expect("there is always space");
                model.set(first, &new);
            }
        }
        assert_eq!(read(&backend).await, model.now(), "step {step}");
    }
    backend.flush().await.expect("nothing fails");
    let contents: BTreeSet<u8> = model.now().into_iter().filter(|number| *number != 0).collect();
    assert!(contents.iter().all(|number| kept(&bench).contains(number)));
}

#[test]
fn whatever_is_done_with_one_cluster_to_spare_comes_back_also_from_the_disks() {
    for seed in 0..60 {
        let test = Test::new(move |bench| anything(bench, seed));
        let data = if seed % 2 == 0 { data(COUNT + 1) } else { growing(COUNT + 1) };
        check_on_disks(&test, vec![metadata(), data]);
    }
}

/// Opens, checks and repairs metadata in which these bytes are changed, beside two data clusters; the beginning of what
/// opening said, and how many corruptions and stray bytes were found.
fn spoilt(changes: &'static [(u64, &'static [u8])], said: &'static str, found: (u64, u64, u64)) {
    let test = Test::new(move |bench| async move {
        let backend = device(&bench, 0).await;
        backend.write(write(0, &[1, 2, 1])).await.expect("there is space");
        backend.flush().await.expect("nothing fails");
        for (at, bytes) in changes {
            bench.disk.write(*at, bytes.to_vec().into(), false).await.expect("nothing fails");
        }
        match opened(&bench, 1).await {
            Ok(_) => assert_eq!(said, ""),
            Err(error) => assert!(error.to_string().contains(said), "{error}"),
        }
        let second = second(&bench);
        let repaired = repair(&bench.disk, &second, &mut |_, _| true).await;
        let repaired = repaired.expect("nothing fails").expect("nobody stops it");
        assert_eq!((repaired.corruptions, repaired.stray, repaired.stray_fixed), found, "{said}");
        if found.0 == 0 {
            drop(device(&bench, 2).await);
            sound(&bench).await;
        }
    });
    check_on_disks(&test, vec![metadata(), data(2)]);
}

#[test]
fn spoilt_metadata_are_refused_told_and_repaired_where_that_is_possible() {
    spoilt(&[], "", (0, 0, 0));
    spoilt(&[(0, b"QFI")], "do not begin with a dedup header", (1, 0, 0));
    spoilt(&[(14, &[4])], "checksum is wrong", (1, 0, 0));
    spoilt(&[(CLUSTER, &[0xff; 8])], "refers to data cluster 18446744073709551614", (1, 0, 0));
    spoilt(&[(CLUSTER + 7, &[3])], "refers to data cluster 2, and there are 2", (1, 0, 0));
    spoilt(&[(CLUSTER + 7, &[2])], "has another digest", (1, 0, 0));
    spoilt(&[(CLUSTER + 40, &[0x55; 4])], "", (1, 0, 0));
    spoilt(&[(CLUSTER + 5 * 32 + 9, &[1])], "zeroes are expected", (0, 1, 1));
    spoilt(&[(CLUSTER + COUNT * 32, &[1])], "zeroes are expected", (0, 1, 1));
}

#[test]
fn whatever_stands_in_the_metadata_nothing_panics() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench, 0).await;
        backend.write(write(0, &[1, 2, 1])).await.expect("there is space");
        backend.flush().await.expect("nothing fails");
        let good = bench.disk.observe_quietly(<[u8]>::to_vec);
        let mut numbers = Numbers(1);
        for number in 1..200 {
            let mut bad = good.clone();
            for _ in 0..=numbers.below(3) {
                let at = numbers.below(bad.len() as u64) as usize;
                bad[at] = numbers.below(256) as u8;
            }
            bench.disk.write(0, bad.into(), false).await.expect("nothing fails");
            let checked = check(&bench.disk, &second(&bench), &mut |_, _| true).await;
            let checked = checked.expect("nothing fails").expect("nobody stops it");
            if let Ok(backend) = opened(&bench, number).await {
                read(&backend).await;
            } else {
                assert!(!checked.is_sound(), "what is sound opens");
            }
        }
    });
    check_on_disks(&test, vec![metadata(), data(2)]);
}

#[test]
fn an_image_that_is_made_is_empty_whatever_was_there() {
    let test = Test::new(|bench| async move {
        let second = second(&bench);
        create(header(), &bench.disk, &second).await.expect("nothing fails");
        sound(&bench).await;
        assert_eq!(read(&device(&bench, 0).await).await, [0; COUNT as usize]);
    });
    let noise = DiskImage::new("disk", vec![0xa5; header().metadata_len() as usize]);
    check_on_disks(&test, vec![noise, data(2)]);
    let empty = DiskImage::new("disk", IoBuffer::default());
    let capacity = ByteLen(header().metadata_len());
    check_on_disks(&test, vec![DiskImage { capacity, ..empty }, growing(2)]);
}
