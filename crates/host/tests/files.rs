//! What a disk promises, asked of real files; and which files cannot be disks.

mod common;

use std::fs;
use std::path::Path;

use blockyard_host::{Aio, CreateMode, Host, HostError, HostErrorKind, HostFile, Locking, Opening};
use blockyard_runtime::{Access, IoBuffer, IoErrorKind, Storage};
use blockyard_units::{ByteLen, ByteRange};
use common::Directory;

const LEN: u64 = (1 << 20) + 77;

fn on_host<T>(test: impl Future<Output = T>) -> T {
    Host::new(Host::DEFAULT_WORKERS).expect("the machine has threads").block_on(test)
}

fn pattern(seed: u64, len: u64) -> IoBuffer {
    (0..len).map(|index| (index * 7 + index / 251 + seed) as u8).collect::<Vec<_>>().into()
}

/// Writes, reads and flushes; `reopen` gives the same disk of `LEN` bytes each time, zeros at first.
async fn check_promises<S: Storage>(reopen: impl Fn() -> S) {
    let disk = reopen();
    assert_eq!(disk.len(), ByteLen(LEN));
    check_reads_return_what_was_written(&disk).await;
    check_nothing_beyond_the_end(&disk).await;
    drop(disk);
    check_dropped_futures_take_effect(reopen).await;
}

async fn check_reads_return_what_was_written(disk: &impl Storage) {
    let places = [(0, 1), (0, 512), (511, 2), (4095, 4098), (70_000, 200_000), (LEN - 1, 1)];
    let places = places.into_iter().chain([(LEN, 0), (5, 0)]);
    check_writes(disk, places, pattern).await;
}

/// Writes `data` of a seed and a length at each (offset, length), on a disk of zeroes, and reads them back.
async fn check_writes(
    disk: &impl Storage,
    places: impl Iterator<Item = (u64, u64)>,
    data: impl Fn(u64, u64) -> IoBuffer,
) {
    let mut expected = vec![0; LEN as usize];
    for (seed, (offset, len)) in (1..).zip(places) {
        let data = data(seed, len);
        disk.write(offset, data.clone(), seed % 2 == 0).await.expect("writes inside succeed");
        expected[offset as usize..(offset + len) as usize].copy_from_slice(&data);
        let back = disk.read(ByteRange::new(offset, len)).await.expect("reads inside succeed");
        assert_eq!(back, data, "at {offset}");
    }
    disk.flush().await.expect("flushes succeed");
    let whole = disk.read(ByteRange::new(0, LEN)).await.expect("reads inside succeed");
    assert!(*whole == *expected, "writes touch only their own bytes");
}

async fn check_nothing_beyond_the_end(disk: &impl Storage) {
    let refused = Err(IoErrorKind::InvalidInput);
    for (offset, len) in [(LEN, 1), (LEN - 1, 2), (u64::MAX, 0), (u64::MAX - 9, 9)] {
        assert_eq!(disk.read(ByteRange::new(offset, len)).await, refused.clone());
    }
    for (offset, len) in [(u64::MAX, 0), (u64::MAX - 9, 9)] {
        let written = disk.write(offset, pattern(1, len), false).await;
        assert_eq!(written, Err(IoErrorKind::InvalidInput));
    }
    assert_eq!(disk.write(u64::MAX, pattern(1, 2), false).await, Err(IoErrorKind::InvalidInput));
    assert_eq!(disk.read(ByteRange::new(0, LEN + 1)).await, refused);
}

async fn check_dropped_futures_take_effect<S: Storage>(reopen: impl Fn() -> S) {
    let disk = reopen();
    let places: Vec<u64> = (0..200).map(|index| index * 5000).collect();
    for &offset in &places {
        drop(disk.write(offset, pattern(offset, 5000), false));
    }
    drop(disk);
    let disk = reopen();
    for offset in places {
        let back = disk.read(ByteRange::new(offset, 5000)).await;
        assert_eq!(back, Ok(pattern(offset, 5000)), "at {offset}");
    }
}

#[test]
fn file_behind_the_page_cache_keeps_them_through_the_ring_too() {
    let directory = Directory::new("ring");
    let path = directory.path("disk");
    drop(HostFile::create(&path, LEN, CreateMode::New).expect("a new file"));
    let opening = Opening { aio: Some(Aio::IoUring), ..Opening::new(false) };
    let open = || HostFile::open_with(&path, opening).expect("nobody else has it");
    on_host(check_promises(open));
}

#[test]
fn file_past_the_page_cache_keeps_the_promises_of_a_disk() {
    for aio in [Aio::Threads, Aio::IoUring] {
        let directory = Directory::new(&format!("direct-{aio:?}"));
        let path = directory.path("disk");
        drop(HostFile::create(&path, LEN, CreateMode::New).expect("a new file"));
        let opening = Opening { direct: true, aio: Some(aio), ..Opening::new(false) };
        let open = || HostFile::open_with(&path, opening);
        if let Err(error) = open() {
            println!("skipped: {error}");
            return;
        }
        on_host(check_direct(|| open().expect("nobody else has it")));
    }
}

/// As [`check_promises`], at places and of lengths that the disk asks for, or up to its end.
async fn check_direct(reopen: impl Fn() -> HostFile) {
    let disk = reopen();
    let unit = u64::from(disk.alignment());
    assert!(unit >= 512, "{unit}");
    let places = [(0, unit), (8 * unit, 200 * unit), (LEN / unit * unit, LEN % unit)];
    // What does not begin where the disk wants it is copied to where it does.
    let data = |seed, len| pattern(seed, len + 1).slice(1..len as usize + 1);
    check_writes(&disk, places.into_iter(), data).await;
    let refused = Err(IoErrorKind::InvalidInput);
    assert_eq!(disk.read(ByteRange::new(0, LEN + unit)).await, refused);
    for index in 0..100 {
        drop(disk.write(index * 2 * unit, pattern(index, 2 * unit), false));
        drop(disk.read(ByteRange::new(index * unit, unit)));
    }
    let behind = LEN.next_multiple_of(unit);
    disk.write(behind, pattern(7, unit), false).await.expect("it becomes longer");
    assert_eq!(disk.len(), ByteLen(behind + unit));
    drop(disk);
    let disk = reopen();
    assert_eq!(disk.len(), ByteLen(behind + unit));
    for index in 0..100 {
        let back = disk.read(ByteRange::new(index * 2 * unit, 2 * unit)).await;
        assert_eq!(back, Ok(pattern(index, 2 * unit)), "at {index}");
    }
}

#[test]
fn ring_outlives_the_runtime_that_tended_it() {
    let directory = Directory::new("runtimes");
    let path = directory.path("disk");
    drop(HostFile::create(&path, LEN, CreateMode::New).expect("a new file"));
    let opening = Opening { aio: Some(Aio::IoUring), ..Opening::new(false) };
    let disk = HostFile::open_with(&path, opening).expect("nobody else has it");
    for seed in 0..3 {
        on_host(async {
            drop(disk.write(0, pattern(seed, 5000), false));
            let data = pattern(seed, 300_001);
            disk.write(5000, data.clone(), false).await.expect("writes inside succeed");
            let back = disk.read(ByteRange::new(5000, 300_001)).await;
            assert_eq!(back, Ok(data));
        });
        // It outlives who would have waited for it.
        drop(on_host(async { [disk.read(ByteRange::new(0, 300_000))] }));
    }
}

#[test]
fn file_keeps_the_promises_of_a_disk() {
    let directory = Directory::new("promises");
    let path = directory.path("disk");
    drop(HostFile::create(&path, LEN, CreateMode::New).expect("a new file"));
    on_host(check_promises(|| HostFile::open(&path, false).expect("nobody else has it")));
}

#[test]
fn a_file_grows_and_shrinks_and_what_is_added_reads_as_zeroes() {
    let directory = Directory::new("grows");
    let path = directory.path("disk");
    let disk = HostFile::create(&path, LEN, CreateMode::New).expect("there is space");
    on_host(async {
        let whole = |len| ByteRange::new(0, len);
        disk.write(LEN + 100, pattern(3, 50), false).await.expect("it grows");
        assert_eq!(disk.len(), ByteLen(LEN + 150));
        let tail = disk.read(ByteRange::new(LEN, 150)).await.expect("it is inside by now");
        assert!(tail[..100].iter().all(|byte| *byte == 0) && tail[100..] == pattern(3, 50)[..]);
        disk.write(5000, pattern(4, 9000), false).await.expect("it is inside");
        disk.truncate(ByteLen(6000), false).await.expect("files shrink");
        disk.truncate(ByteLen(LEN), true).await.expect("files grow");
        let read = disk.read(whole(LEN)).await.expect("it is inside");
        assert!(read[5000..6000] == pattern(4, 1000)[..]);
        assert!(read[6000..].iter().all(|byte| *byte == 0), "what was cut off is back");
        assert_eq!(fs::metadata(&path).expect("it is there").len(), LEN);
        // Without support for it the node writes them as data.
        disk.write(8192, pattern(5, 8192), false).await.expect("it is inside");
        for (offset, unmap) in [(8192, false), (12288, true)] {
            match disk.write_zeroes(ByteRange::new(offset, 4096), unmap).await {
                Ok(()) => {
                    let read = disk.read(ByteRange::new(offset, 4096)).await.expect("it is inside");
                    assert!(read.iter().all(|byte| *byte == 0));
                }
                Err(kind) => assert_eq!(kind, IoErrorKind::Unsupported),
            }
        }
        let (_, len) = disk.allocated(whole(LEN)).await.expect("that can always be asked");
        assert!((1..=LEN).contains(&len.0));
    });
}

#[test]
fn a_new_file_is_a_hole_and_what_was_written_is_not() {
    let directory = Directory::new("hole");
    let disk = HostFile::create(directory.path("disk"), 1 << 20, CreateMode::New);
    let disk = disk.expect("there is space");
    on_host(async {
        disk.write(1 << 19, pattern(3, 65536), false).await.expect("it is inside");
        let asked = disk.allocated(ByteRange::new(0, 1 << 20)).await.expect("it can be asked");
        // File systems that know of no holes have data everywhere.
        assert!(
            asked == (false, ByteLen(1 << 19)) || asked == (true, ByteLen(1 << 20)),
            "{asked:?}"
        );
        let asked = disk.allocated(ByteRange::new(1 << 19, 4096)).await.expect("it can be asked");
        assert_eq!(asked, (true, ByteLen(4096)));
    });
}

#[test]
fn operations_overlap_and_all_answer() {
    let directory = Directory::new("overlap");
    let disk = HostFile::create(directory.path("disk"), LEN, CreateMode::New).expect("a new file");
    on_host(async {
        let writes: Vec<_> = (0..100)
            .map(|index| disk.write(index * 10_000, pattern(index, 10_000), false))
            .collect();
        for write in writes {
            assert_eq!(write.await, Ok(()));
        }
        let reads: Vec<_> =
            (0..100).map(|index| disk.read(ByteRange::new(index * 10_000, 10_000))).collect();
        for (index, read) in (0..).zip(reads) {
            assert_eq!(read.await, Ok(pattern(index, 10_000)));
        }
    });
}

#[test]
fn read_only_disk_reads_and_refuses_writes() {
    let directory = Directory::new("read-only");
    let path = directory.path("disk");
    fs::write(&path, b"content").unwrap();
    let disk = HostFile::open(&path, true).unwrap();
    assert!(disk.is_read_only());
    on_host(async {
        assert_eq!(disk.write(0, pattern(0, 1), false).await, Err(IoErrorKind::ReadOnly));
        assert_eq!(disk.flush().await, Ok(()));
        assert_eq!(*disk.read(ByteRange::new(3, 4)).await.unwrap(), *b"tent");
    });
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn file_that_shrank_is_an_io_error() {
    let directory = Directory::new("shrank");
    let path = directory.path("disk");
    let disk = HostFile::create(&path, 8192, CreateMode::New).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    let read = on_host(disk.read(ByteRange::new(0, 8192)));
    assert_eq!(read, Err(IoErrorKind::Io));
}

#[track_caller]
fn check_error(result: Result<HostFile, HostError>, kind: HostErrorKind, message: String) {
    let error = result.err().expect("refused");
    assert_eq!((error.kind(), error.to_string()), (kind, message));
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[test]
fn what_is_no_disk_is_told_in_one_line() {
    let directory = Directory::new("no-disk");
    let none = directory.path("none");
    let missing = format!("cannot open {}: no such file or directory", shown(&none));
    check_error(HostFile::open(&none, true), HostErrorKind::Missing, missing.clone());
    check_error(HostFile::open(&none, false), HostErrorKind::Missing, missing);
    for read_only in [true, false] {
        let path = directory.itself();
        let reason = "neither a regular file nor a block device";
        let message = format!("cannot open {}: {reason}", shown(path));
        check_error(HostFile::open(path, read_only), HostErrorKind::NotADisk, message);
    }
    let nowhere = none.join("disk");
    let message = format!("cannot create {}: no such file or directory", shown(&nowhere));
    let created = HostFile::create(&nowhere, 1, CreateMode::New);
    check_error(created, HostErrorKind::Missing, message);
}

#[test]
fn creation_leaves_what_exists_unless_told_to_replace_it() {
    let directory = Directory::new("exists");
    let path = directory.path("disk");
    fs::write(&path, b"content").unwrap();
    let message = format!("cannot create {}: file exists", shown(&path));
    check_error(HostFile::create(&path, 9, CreateMode::New), HostErrorKind::Exists, message);
    assert_eq!(fs::read(&path).unwrap(), b"content");

    let reader = HostFile::open(&path, true).unwrap();
    let message = format!("cannot lock {}: another process is using it for reading", shown(&path));
    check_error(HostFile::create(&path, 9, CreateMode::Replace), HostErrorKind::InUse, message);
    assert_eq!(fs::read(&path).unwrap(), b"content");

    drop(reader);
    drop(HostFile::create(&path, 9, CreateMode::Replace).unwrap());
    assert_eq!(fs::read(&path).unwrap(), [0; 9]);

    let path = directory.itself();
    let message = format!("cannot create {}: not a regular file", shown(path));
    check_error(HostFile::create(path, 9, CreateMode::Replace), HostErrorKind::NotADisk, message);
}

#[test]
fn creation_that_fails_leaves_no_file() {
    let directory = Directory::new("too-long");
    let path = directory.path("disk");
    let error = HostFile::create(&path, u64::MAX, CreateMode::New).err().unwrap();
    assert_eq!(error.kind(), HostErrorKind::Io);
    assert!(!path.exists());
}

#[test]
fn writer_excludes_everybody_and_readers_only_writers() {
    let directory = Directory::new("locks");
    let path = directory.path("disk");
    let writer = HostFile::create(&path, 1, CreateMode::New).unwrap();
    let written = format!("cannot lock {}: another process is using it for writing", shown(&path));
    check_error(HostFile::open(&path, false), HostErrorKind::InUse, written.clone());
    check_error(HostFile::open(&path, true), HostErrorKind::InUse, written);
    drop(writer);
    let readers = [HostFile::open(&path, true).unwrap(), HostFile::open(&path, true).unwrap()];
    let read = format!("cannot lock {}: another process is using it for reading", shown(&path));
    check_error(HostFile::open(&path, false), HostErrorKind::InUse, read);
    drop(readers);
    HostFile::open(&path, false).unwrap();
}

#[test]
fn a_disk_is_reopened_under_its_own_lock_and_others_stay_out() {
    let directory = Directory::new("reopened");
    let path = directory.path("disk");
    drop(HostFile::create(&path, LEN, CreateMode::New).expect("there is nothing yet"));
    let may = |read_only: bool| HostFile::open(&path, read_only).is_ok();
    let reader = HostFile::open(&path, true).expect("nobody else has it");
    // While another reads it cannot be written; it goes on reading.
    let other = HostFile::open(&path, true).expect("readers share");
    assert!(reader.reopen(Access::Write).err().is_some_and(|said| said.contains("reading")));
    assert!(may(true) && reader.reopen(Access::Read).is_ok());
    drop(other);
    // Given up again, it lets others read.
    let writer = reader.reopen(Access::Write).expect("nobody else has it");
    assert!(!may(true));
    drop(writer);
    assert!(may(true) && !may(false));
    // Kept, it is alone, and shares again once it only reads.
    let writer = reader.reopen(Access::Write).expect("nobody else has it");
    drop(reader);
    assert!(!may(true));
    on_host(writer.write(0, pattern(3, 512), true)).expect("it was reopened for writing");
    let reader = writer.reopen(Access::Read).expect("it is its own lock");
    assert!(!may(true));
    drop(writer);
    assert!(may(true) && !may(false));
    let read = on_host(reader.read(ByteRange::new(0, 512))).expect("reads inside succeed");
    assert_eq!(read, pattern(3, 512));
    assert_eq!(on_host(reader.write(0, pattern(1, 1), false)), Err(IoErrorKind::ReadOnly));
    fs::remove_file(&path).expect("it is there");
    fs::write(&path, "another").expect("the folder is writable");
    assert!(reader.reopen(Access::Read).err().is_some_and(|said| said.contains("another file")));
    drop(reader);
    assert!(may(false));
}

#[test]
fn a_disk_is_reopened_in_the_way_in_which_it_was_opened() {
    let directory = Directory::new("way");
    let path = directory.path("disk");
    drop(HostFile::create(&path, LEN, CreateMode::New).expect("there is nothing yet"));
    let opening = Opening { direct: true, locking: Locking::Off, ..Opening::new(true) };
    let reader = match HostFile::open_with(&path, opening) {
        Ok(reader) => reader,
        Err(error) => return println!("skipped: {error}"),
    };
    let other = HostFile::open(&path, false).expect("it keeps nobody out");
    let writer = reader.reopen(Access::Write).expect("it does not look for others");
    let unit = u64::from(writer.alignment());
    assert!(unit >= 512 && writer.alignment() == reader.alignment(), "{unit}");
    // Its end is behind the page cache still.
    let end = ByteRange::between(LEN / unit * unit, LEN);
    let data = pattern(3, end.len().0);
    on_host(writer.write(end.start(), data.clone(), true)).expect("writes inside succeed");
    drop(writer);
    assert_eq!(on_host(other.read(end)), Ok(data.clone()));
    assert_eq!(on_host(reader.read(end)), Ok(data));
    assert_eq!(on_host(reader.write(0, pattern(1, unit), false)), Err(IoErrorKind::ReadOnly));
}

#[test]
fn of_two_that_were_opened_for_writing_the_one_that_is_given_up_leaves_the_lock_to_the_other() {
    let directory = Directory::new("two-writers");
    let path = directory.path("disk");
    drop(HostFile::create(&path, LEN, CreateMode::New).expect("there is nothing yet"));
    let reader = HostFile::open(&path, true).expect("nobody else has it");
    let prepared = [(), ()].map(|()| reader.reopen(Access::Write).expect("nobody else has it"));
    let [used, given_up] = prepared;
    drop(given_up);
    assert!(HostFile::open(&path, true).is_err(), "one still writes");
    drop(used);
    assert!(HostFile::open(&path, true).is_ok());
}

#[test]
fn an_inactive_disk_keeps_nobody_out_and_takes_its_lock_and_length_anew() {
    let directory = Directory::new("inactive");
    let path = directory.path("disk");
    let writer = HostFile::create(&path, LEN, CreateMode::New).expect("there is nothing yet");
    let inactive = writer.reopen(Access::Inactive).expect("it is its own");
    assert!(HostFile::open(&path, true).is_err(), "until it is dropped the writer is there");
    drop(writer);
    assert_eq!(on_host(inactive.write(0, pattern(1, 1), false)), Err(IoErrorKind::ReadOnly));
    let owner = HostFile::open(&path, false).expect("the disk is somebody else's");
    on_host(owner.truncate(ByteLen(2 * LEN), false)).expect("it may become longer");
    let said = inactive.reopen(Access::Write).err().expect("its owner is there");
    assert!(said.contains("using it for writing"), "{said}");
    assert!(inactive.reopen(Access::Read).is_err());
    drop(owner);
    let writer = inactive.reopen(Access::Write).expect("its owner has gone");
    drop(inactive);
    assert_eq!(writer.len(), ByteLen(2 * LEN));
    assert!(HostFile::open(&path, true).is_err(), "it is locked again");
}

#[test]
fn a_disk_that_is_shared_by_force_is_read_beside_a_writer() {
    let directory = Directory::new("shared");
    let path = directory.path("disk");
    let writer = HostFile::create(&path, LEN, CreateMode::New).expect("there is nothing yet");
    assert!(HostFile::open(&path, true).is_err());
    let shared = Opening { locking: Locking::ForceShare, ..Opening::new(true) };
    let shared = HostFile::open_with(&path, shared).expect("it lets others be");
    drop(writer);
    drop(HostFile::open(&path, false).expect("nor does it keep a writer out"));
    drop(shared);
}
