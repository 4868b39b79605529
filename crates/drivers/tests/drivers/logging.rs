//! `blklogwrites`: what the log says is what lies on the disk, also where writes overlap and fail.

use blockyard_block::{Backend, BlockError, Write};
use blockyard_drivers::{Blklogwrites, LogOptions};
use blockyard_runtime::{IoBuffer, Storage};
use blockyard_sim::{Budgets, DiskImage};
use blockyard_units::{ByteLen, ByteRange, Mutant};

use crate::bench::{Bench, Test, bytes, check_on_disks, explore_on_disks};

const LEN: u64 = 4096;

fn disks() -> Vec<DiskImage> {
    let log = DiskImage::new("second", IoBuffer::default());
    let log = DiskImage { capacity: ByteLen(64 << 10), ..log };
    vec![DiskImage::new("disk", IoBuffer::zeroes(LEN as usize)), log]
}

fn options() -> LogOptions {
    LogOptions { sector_size: None, append: false, super_interval: 2 }
}

async fn opened(bench: &Bench, number: u32, options: LogOptions) -> Result<Backend, BlockError> {
    let driver = Box::new(Blklogwrites::new("blklogwrites", options));
    bench.over_both(number, ("blklogwrites", driver), ["file", "log"]).await
}

async fn device(bench: &Bench) -> Backend {
    opened(bench, 0, options()).await.expect("it can be")
}

/// What a log says.
struct Replayed {
    disk: Vec<u8>,
    /// How the disk was at each flush.
    flushes: Vec<Vec<u8>>,
    flags: Vec<u64>,
}

/// Reads a log as the documentation of dm-log-writes has it, over a disk of zeroes; nothing, if that fails.
async fn replay(bench: &Bench) -> Option<Replayed> {
    let log = bench.second.clone().expect("the setup has it");
    let all = log.read(ByteRange::new(0, log.len().0)).await.ok()?;
    let number = |at: usize| u64::from_le_bytes(all[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((number(0), number(8)), (0x006A_7366_7773_6872, 1));
    let (entries, sector) = (number(16), number(24) as usize);
    let mut replayed =
        Replayed { disk: vec![0; LEN as usize], flushes: Vec::new(), flags: Vec::new() };
    let mut at = sector;
    for _ in 0..entries {
        let (from, len) = (number(at) as usize * sector, number(at + 8) as usize * sector);
        let flags = number(at + 16);
        replayed.flags.push(flags);
        at += sector;
        match flags {
            1 => replayed.flushes.push(replayed.disk.clone()),
            4 => replayed.disk[from..from + len].fill(0),
            _ => {
                replayed.disk[from..from + len].copy_from_slice(&all[at..at + len]);
                at += len;
            }
        }
    }
    Some(replayed)
}

async fn logged(bench: &Bench) -> Replayed {
    replay(bench).await.expect("nothing fails")
}

#[test]
fn each_kind_of_write_is_logged_and_a_log_is_appended_to() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        let whole = ByteRange::new(0, LEN);
        let (first, part) = (bytes(3, 1024), bytes(4, 100));
        backend.write(Write::data(0, first)).await.expect("nothing fails");
        backend.write(Write::data(700, part)).await.expect("nothing fails");
        backend.write(Write::zeroes(ByteRange::new(512, 512))).await.expect("nothing fails");
        backend.write(Write::discard(ByteRange::new(2048, 1024))).await.expect("nothing fails");
        backend.flush().await.expect("nothing fails");
        let shown = backend.read(whole).await.expect("nothing fails");
        let Replayed { disk, flushes, flags } = logged(&bench).await;
        assert!(disk == *shown && flushes == [disk], "the log says otherwise");
        assert_eq!(flags, [0, 0, 0, 4, 1]);
        let append = LogOptions { append: true, ..options() };
        let again = opened(&bench, 1, append).await.expect("there is a log");
        again.write(Write::data(3584, bytes(5, 512))).await.expect("nothing fails");
        again.flush().await.expect("nothing fails");
        let shown = again.read(whole).await.expect("nothing fails");
        let Replayed { disk, flags, .. } = logged(&bench).await;
        assert!(disk == *shown, "the log says otherwise");
        assert_eq!(flags, [0, 0, 0, 4, 1, 0, 1]);
    });
    check_on_disks(&test, disks());
}

#[test]
fn no_log_is_appended_to_that_is_none() {
    let test = Test::new(|bench| async move {
        let append = LogOptions { append: true, ..options() };
        let refused = opened(&bench, 0, append).await.map(drop);
        let said = "node 'blklogwrites': log: there is none that could be appended to";
        assert_eq!(refused, Err(BlockError::Invalid(said.into())));
    });
    check_on_disks(&test, disks());
}

/// Two write the same place, one flushes beside them: afterwards the log says what the disk does, and each flush has
/// what had been written when it was asked for.
#[test]
fn writes_that_overlap_stand_in_the_log_as_they_lie() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        let write = |seed: u8| {
            let backend = backend.clone();
            async move { backend.write(Write::data(0, bytes(seed, 512))).await }
        };
        let flush = {
            let backend = backend.clone();
            async move {
                backend.write(Write::data(512, bytes(7, 512))).await.expect("nothing fails");
                backend.flush().await
            }
        };
        let tasks = [
            bench.runtime.spawn("one", write(2)),
            bench.runtime.spawn("two", write(3)),
            bench.runtime.spawn("flush", flush),
        ];
        for task in tasks {
            task.join().await.expect("nothing fails");
        }
        backend.flush().await.expect("nothing fails");
        let shown = backend.read(ByteRange::new(0, LEN)).await.expect("nothing fails");
        let Replayed { disk, flushes, .. } = logged(&bench).await;
        assert!(disk == *shown, "the log says otherwise");
        assert!(flushes.len() == 2, "each flush stands there");
        assert!(flushes[0][512..1024] == *bytes(7, 512), "it had been written before");
    });
    check_on_disks(&test, disks());
}

/// A write that fails has not been done as far as the log is concerned, or the disk has it.
fn failing() -> Test {
    Test::new(|bench| async move {
        let Ok(backend) = opened(&bench, 0, options()).await else { return };
        let first = backend.write(Write::data(0, bytes(2, 512))).await;
        let second = backend.write(Write::data(0, bytes(3, 512))).await;
        if first.is_err() || backend.flush().await.is_err() {
            return;
        }
        let Ok(shown) = bench.disk.read(ByteRange::new(0, 512)).await else { return };
        let Some(Replayed { disk, .. }) = replay(&bench).await else { return };
        let (old, logged) = (bytes(2, 512), &disk[..512]);
        assert!(
            *logged == *shown || (second.is_err() && *logged == *old),
            "the log has what was never written"
        );
    })
}

#[test]
fn what_fails_is_not_in_the_log_unless_it_is_on_the_disk() {
    explore_on_disks(&failing(), disks(), Budgets { faults: 1, ..Budgets::NONE });
}

#[test]
#[should_panic(expected = "the log has what was never written")]
fn a_log_that_is_ahead_of_its_disk_is_noticed() {
    let test = failing().with(Mutant::BlklogwritesLogsFirst);
    explore_on_disks(&test, disks(), Budgets { faults: 1, ..Budgets::NONE });
}
