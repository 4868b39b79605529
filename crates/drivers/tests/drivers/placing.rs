//! Requests at any place, of any length, on disks that take them only in blocks; disks that grow; copies.

use blockyard_block::{Backend, BlockError, Preallocation, Truncate, Write, WriteFlags};
use blockyard_drivers::FileDriver;
use blockyard_graph::Permissions;
use blockyard_runtime::Access;
use blockyard_sim::DiskImage;
use blockyard_units::{ByteLen, ByteRange};
use std::sync::Arc;

use crate::bench::{Bench, Link, Test, bytes, check_on};

/// No multiple of any alignment.
const ODD: u64 = 9001;

fn file(bench: &Bench) -> Link {
    ("file", Box::new(FileDriver::new("file", Arc::new(bench.disk.clone()), Access::Write)))
}

async fn device(bench: &Bench) -> Backend {
    let (all, links) = (Permissions::ALL, vec![file(bench)]);
    bench.chain_for(all, links).await.expect("the chain is fine").0
}

fn disk(alignment: u32, capacity: u64) -> DiskImage {
    let image = DiskImage::new("disk", bytes(1, ODD));
    DiskImage { alignment, capacity: ByteLen(capacity), ..image }
}

fn truncate(len: u64) -> Write {
    Write::truncate(Truncate { len: ByteLen(len), preallocation: Preallocation::Off })
}

/// Numbers that look random, the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % end
    }
}

async fn all_kinds(backend: &Backend, numbers: &mut Numbers, grows: bool) {
    let mut model = bytes(1, ODD).to_vec();
    for seed in 2..60 {
        let len = model.len() as u64;
        let start = numbers.below(len);
        let range = ByteRange::between(start, len.min(start + 1 + numbers.below(5000)));
        let place = range.start() as usize..range.end() as usize;
        match numbers.below(if grows { 6 } else { 4 }) {
            0 => {
                model[place].copy_from_slice(&bytes(seed, range.len().0));
                backend.write(Write::data(start, bytes(seed, range.len().0))).await
            }
            1 => {
                model[place].fill(0);
                backend.write(Write::zeroes(range)).await
            }
            2 => {
                let from = numbers.below(len - range.len().0 + 1);
                let source = from as usize..(from + range.len().0) as usize;
                let data = model[source].to_vec();
                model[place].copy_from_slice(&data);
                backend.copy_range(from, range, WriteFlags::default()).await
            }
            3 => {
                backend.write(Write::discard(range)).await.expect("no fault is budgeted");
                // Old data or zeroes: whichever it is, it stays.
                let read = backend.read(range).await.expect("no fault is budgeted");
                let kept = |(new, old): (&u8, &u8)| *new == 0 || new == old;
                assert!(read.iter().zip(&model[place.clone()]).all(kept), "discard {range}");
                model[place].copy_from_slice(&read);
                Ok(())
            }
            4 => {
                let len = numbers.below(3 * ODD);
                model.resize(len as usize, 0);
                backend.write(truncate(len)).await
            }
            _ => {
                let start = len + numbers.below(3000);
                model.resize(start as usize, 0);
                model.extend_from_slice(&bytes(seed, 700));
                backend.write(Write::data(start, bytes(seed, 700))).await
            }
        }
        .expect("no fault is budgeted");
        if model.is_empty() {
            backend.write(truncate(ODD)).await.expect("it grows");
            model.resize(ODD as usize, 0);
        }
        let whole = ByteRange::new(0, model.len() as u64);
        assert_eq!(backend.len().expect("there is a root"), whole.len());
        let read = backend.read(whole).await.expect("no fault is budgeted");
        assert!(*read == model[..], "step {seed} at {range}");
        let part = ByteRange::between(numbers.below(whole.end()), whole.end());
        let read = backend.read(part).await.expect("no fault is budgeted");
        assert!(*read == model[part.start() as usize..], "read {part}");
    }
}

#[test]
fn every_kind_of_request_at_any_place_does_what_it_says_at_any_alignment() {
    for alignment in [1, 512, 4096, 65536] {
        for seed in 0..10 {
            for capacity in [ODD, 8 * ODD] {
                let test = Test::new(move |bench| async move {
                    let backend = device(&bench).await;
                    all_kinds(&backend, &mut Numbers(seed), capacity > ODD).await;
                });
                check_on(&test, disk(alignment, capacity));
            }
        }
    }
}

#[test]
fn writes_to_parts_of_one_block_keep_each_other_s_bytes() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        let mut model = bytes(1, ODD).to_vec();
        let mut written = Vec::new();
        for (index, (start, len)) in [(100, 100), (200, 300), (4000, 200)].into_iter().enumerate() {
            let data = bytes(50 + index as u8, len);
            model[start as usize..(start + len) as usize].copy_from_slice(&data);
            let (backend, write) = (backend.clone(), Write::data(start, data));
            let write = async move { backend.write(write).await };
            written.push(bench.runtime.spawn(format!("w{index}"), write));
        }
        for write in written {
            write.join().await.expect("no fault is budgeted");
        }
        let read = backend.read(ByteRange::new(0, ODD)).await.expect("no fault is budgeted");
        assert!(*read == model[..], "a write is lost");
    });
    check_on(&test, disk(4096, ODD));
}

#[test]
fn a_write_beside_a_truncation_comes_before_or_after_it() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        let cutting = backend.clone();
        let cut = bench.runtime.spawn("cut", async move { cutting.write(truncate(600)).await });
        let wrote = backend.write(Write::data(500, bytes(7, 300))).await;
        cut.join().await.expect("no fault is budgeted");
        // After the cut it is behind the end, and makes the disk longer.
        wrote.expect("no fault is budgeted");
        let len = backend.len().expect("there is a root").0;
        let read = backend.read(ByteRange::new(500, len - 500)).await.expect("it is inside");
        assert!([600, 800].contains(&len), "{len}");
        assert_eq!(*read, bytes(7, 300)[..read.len()]);
        backend.write(truncate(ODD)).await.expect("no fault is budgeted");
        let read = backend.read(ByteRange::new(len, ODD - len)).await.expect("it is inside");
        assert!(read.iter().all(|byte| *byte == 0), "what was cut off is back");
    });
    check_on(&test, disk(1, 2 * ODD));
}

#[test]
fn a_disk_that_is_full_says_so_and_one_that_is_no_file_cannot_be_truncated() {
    let full = Test::new(|bench| async move {
        let backend = device(&bench).await;
        let written = backend.write(Write::data(ODD, bytes(7, 1000))).await;
        assert_eq!(written.map_err(|error| error.io_kind().map(|kind| kind.errno_name())), {
            Err(Some("ENOSPC"))
        });
        assert_eq!(backend.len().expect("there is a root").0, ODD);
    });
    check_on(&full, disk(1, ODD + 100));
    let fixed = Test::new(|bench| async move {
        let backend = device(&bench).await;
        let refused = backend.write(truncate(100)).await;
        let kind = refused.map_err(|error| error.io_kind().map(|kind| kind.errno_name()));
        assert_eq!(kind, Err(Some("ENOTSUP")));
        let refused = backend.write(Write::data(ODD, bytes(7, 1))).await;
        assert!(matches!(refused, Err(BlockError::Invalid(_))), "{refused:?}");
    });
    check_on(&fixed, disk(1, ODD));
}

/// Zeroes are written in pieces, of which the last ends where the node does; somebody makes it longer meanwhile.
#[test]
fn pieces_that_end_with_the_node_are_whole_blocks_to_their_end() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        let longer = backend.clone();
        let write = async move { longer.write(Write::data(9216, bytes(7, 512))).await };
        let longer = bench.runtime.spawn("longer", write);
        let zeroes = Write::zeroes(ByteRange::between(100, ODD));
        backend.write(zeroes).await.expect("no fault is budgeted");
        longer.join().await.expect("no fault is budgeted");
        let read = backend.read(ByteRange::new(0, 9728)).await.expect("no fault is budgeted");
        assert!(read[..100] == bytes(1, 100)[..] && read[9216..] == bytes(7, 512)[..]);
        assert!(read[100..9216].iter().all(|byte| *byte == 0));
    });
    check_on(&test, disk(512, 16384));
}

#[test]
fn what_a_truncation_adds_reads_as_zeroes_however_it_was_reserved() {
    for preallocation in
        [Preallocation::Off, Preallocation::Falloc, Preallocation::Full, Preallocation::Metadata]
    {
        let test = Test::new(move |bench| async move {
            let backend = device(&bench).await;
            let len = ByteLen(ODD + 3000);
            let done = backend.write(Write::truncate(Truncate { len, preallocation })).await;
            if preallocation == Preallocation::Metadata {
                let kind = done.map_err(|error| error.io_kind().map(|kind| kind.errno_name()));
                assert_eq!(kind, Err(Some("ENOTSUP")), "a file has no structures of its own");
                assert_eq!(backend.len().expect("there is a root").0, ODD);
                return;
            }
            done.expect("no fault is budgeted");
            assert_eq!(backend.len().expect("there is a root"), len);
            let read = backend.read(ByteRange::new(0, len.0)).await.expect("it is there");
            assert!(read[..ODD as usize] == bytes(1, ODD)[..]);
            assert!(read[ODD as usize..].iter().all(|byte| *byte == 0));
        });
        check_on(&test, disk(1, 16384));
    }
}
