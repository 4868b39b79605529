//! What a fuzzer's bytes are as a qcow2 image: opened, read, checked, repaired, and changed in every way there is.

use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use blockyard_block::{Preallocation, ReadFlags, Truncate};
use blockyard_qcow2::{
    Caches, Check, CheckOptions, CreateOptions, Files, Image, ImageError, ImageFile, NewSnapshot,
    Repair, Snapshot, Zeroes, check, create, repair,
};
use blockyard_runtime::{BoxFuture, Io, IoBuffer, IoErrorKind, Storage};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteRange};

/// Bytes: the longest that a disk becomes.
const DISK_MAX: u64 = 16 << 20;
/// Bytes of a guest's disk that are read at once, and how often.
const PIECE: u64 = 16 << 10;
const PIECES: u64 = 32;

/// A disk in memory that does not become long.
#[derive(Clone, Default)]
pub struct Disk(Arc<Shared<Vec<u8>>>);

impl Disk {
    /// With these bytes on it.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Shared::new(bytes)))
    }

    /// What is on it.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.write(|bytes| bytes.clone())
    }
}

fn at(range: ByteRange) -> std::ops::Range<usize> {
    ByteLen(range.start()).as_usize()..ByteLen(range.end()).as_usize()
}

impl Storage for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn len(&self) -> ByteLen {
        ByteLen(self.0.write(|bytes| bytes.len() as u64))
    }

    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        let read = self.0.write(|bytes| bytes.get(at(range)).map(<[u8]>::to_vec));
        let read = read.expect("reads-are-inside");
        Box::pin(ready(Ok(read.into())))
    }

    fn write(&self, offset: u64, data: IoBuffer, _fua: bool) -> BoxFuture<'static, Io<()>> {
        let range = ByteRange::new(offset, data.len() as u64);
        if range.end() > DISK_MAX {
            return Box::pin(ready(Err(IoErrorKind::NoSpace)));
        }
        self.0.write(|bytes| {
            bytes.resize(bytes.len().max(at(range).end), 0);
            bytes[at(range)].copy_from_slice(&data);
        });
        Box::pin(ready(Ok(())))
    }

    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        Box::pin(ready(Ok(())))
    }
}

/// Runs what waits for nobody else.
///
/// # Panics
/// If it waits.
pub fn run<T>(task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    let mut context = Context::from_waker(Waker::noop());
    // A turn is given to who waits for it at the next poll.
    for _ in 0..1 << 20 {
        if let Poll::Ready(result) = task.as_mut().poll(&mut context) {
            return result;
        }
    }
    panic!("one-task-waits-for-nobody")
}

/// The beginning of what the guest reads, as far as it can be read.
fn read_all(disk: &Disk) -> Vec<Option<Vec<u8>>> {
    let opened =
        run(Image::open("image", ImageFile::Disk(disk), Caches { l2: 0, refcount: 0 }, true));
    let Ok(image) = opened else { return Vec::new() };
    let (data, len) = (Disk::new(Vec::new()), image.len().0);
    let files = files(disk, &data, &image);
    let pieces = (0..PIECES).map(|piece| {
        // The beginning, and the end.
        let start =
            if piece % 2 == 0 { piece / 2 * PIECE } else { len.saturating_sub(piece * PIECE) };
        ByteRange::between(start, (start + PIECE).min(len))
    });
    let read = |range| run(image.read(&files, range, ReadFlags::default())).ok();
    pieces.map(|range| read(range).map(|bytes| bytes.to_vec())).collect()
}

/// What the image reaches: a data file of its own, if it has one.
fn files<'a>(disk: &'a Disk, data: &'a Disk, image: &Image) -> Files<'a> {
    let data = if image.is_external() { data } else { disk };
    Files { data: ImageFile::Disk(data), ..Files::of_disk(disk) }
}

fn checked(disk: &Disk, memory: u64) -> Option<Check> {
    let options = CheckOptions { memory, findings: 4 };
    run(check(ImageFile::Disk(disk), None, options, &mut |_| true)).ok()
}

/// Whatever the bytes are: nothing panics, looking changes nothing, a check finds the same whatever memory it has,
/// a repair leaves nothing worse and what the guest reads as it was.
///
/// # Panics
/// If not so.
pub fn check_image(bytes: &[u8]) {
    let disk = Disk::new(bytes.to_vec());
    let read = read_all(&disk);
    let before = checked(&disk, 1 << 20);
    assert_eq!(before, checked(&disk, 0), "a check in windows finds the same");
    assert!(disk.bytes() == bytes, "looking changes nothing");
    let Some(before) = before else { return };
    let options = CheckOptions { memory: 1 << 20, findings: 4 };
    let repaired = run(repair(ImageFile::Disk(&disk), None, Repair::All, options, &mut |_| true));
    let after = checked(&disk, 1 << 20).expect("a repaired image is one");
    if let Ok(repaired) = repaired {
        assert_eq!(repaired.corruptions, after.corruptions, "a repair tells what is left");
        assert!(after.corruptions <= before.corruptions, "{before:?} {after:?}");
    }
    let stays = read_all(&disk);
    let same = |(old, new): (&Option<Vec<u8>>, &Option<Vec<u8>>)| old.is_none() || old == new;
    assert!(read.is_empty() || stays.len() == read.len(), "what can be opened stays so");
    assert!(read.iter().zip(&stays).all(same), "what the guest reads stays as it was");
    let first = bytes.last().map_or(0, |byte| usize::from(*byte));
    let sound = after.is_sound();
    change(&disk, first);
    if let (true, Some(after)) = (sound, checked(&disk, 1 << 20)) {
        assert!(after.is_sound(), "what is sound stays so: {after:?}");
    }
    change(&Disk::new(bytes.to_vec()), first);
}

/// What is done to an image.
#[derive(Clone, Copy)]
enum Op {
    Write(u64),
    Zeroes(u64),
    Discard(u64),
    Compress(u64),
    Take,
    Apply,
    Delete,
    Resize(i64),
    Flush,
    /// Marks everything in all bitmaps, and stores them.
    Store,
}

/// A length, or an offset, from the end of the disk.
const END: u64 = 1 << 63;

/// Everything once at least; a snapshot is taken, written over, gone back to and forgotten.
const OPS: &[Op] = &[
    Op::Write(0),
    Op::Zeroes(512),
    Op::Take,
    Op::Write(5000),
    Op::Compress(0),
    Op::Discard(0),
    Op::Flush,
    Op::Apply,
    Op::Store,
    Op::Write(END),
    Op::Resize(70_000),
    Op::Write(END),
    Op::Zeroes(END),
    Op::Delete,
    Op::Flush,
    Op::Resize(-40_000),
    Op::Compress(END),
    Op::Discard(5000),
];

/// Changes an image in every way, beginning with one of them. That it can be done is not said.
fn change(disk: &Disk, first: usize) {
    let opened =
        run(Image::open("image", ImageFile::Disk(disk), Caches { l2: 0, refcount: 0 }, false));
    let Ok(image) = opened else { return };
    let data = Disk::new(Vec::new());
    let files = files(disk, &data, &image);
    for index in 0..OPS.len() {
        let _done = run(do_one(&image, &files, OPS[(first + index) % OPS.len()]));
    }
    let _done = run(image.close(&files));
}

async fn do_one(image: &Image, files: &Files<'_>, op: Op) -> Result<(), ImageError> {
    let (len, cluster) = (image.len().0, image.cluster_size().0);
    let range = |offset: u64, most: u64| {
        let offset = if offset == END { len.saturating_sub(most) } else { offset.min(len) };
        ByteRange::between(offset, (offset + most).min(len))
    };
    let first = |snapshots: Vec<Snapshot>| snapshots.into_iter().next().map(|found| found.id);
    match op {
        Op::Write(offset) => {
            let range = range(offset, 700);
            let bytes = vec![0x5a; range.len().as_usize()];
            image.write(files, range.start(), bytes.into()).await
        }
        Op::Zeroes(offset) => {
            let how = Zeroes { may_unmap: true, no_fallback: false };
            image.write_zeroes(files, range(offset, 5000), how).await
        }
        Op::Discard(offset) => image.discard(files, range(offset, 3 * cluster)).await,
        Op::Compress(offset) => {
            let from = range(offset, 1).start();
            let range = range(from - from % cluster, cluster);
            let bytes = vec![1; range.len().as_usize()];
            image.write_compressed(files, range.start(), bytes.into()).await
        }
        Op::Take => {
            let new = NewSnapshot { name: "taken".into(), ..NewSnapshot::default() };
            image.create_snapshot(files, new).await.map(|_| ())
        }
        Op::Apply => match first(image.snapshots(files).await?) {
            Some(id) => image.apply_snapshot(files, &id).await,
            None => Ok(()),
        },
        Op::Delete => match first(image.snapshots(files).await?) {
            Some(id) => image.delete_snapshot(files, &id).await,
            None => Ok(()),
        },
        Op::Resize(by) => {
            let len = ByteLen(len.saturating_add_signed(by));
            image.truncate(files, Truncate { len, preallocation: Preallocation::Off }).await
        }
        Op::Flush => image.flush(files).await,
        Op::Store => {
            let mut bitmaps = image.load_bitmaps(files).await?;
            image.disown_bitmaps(files).await?;
            bitmaps.iter_mut().for_each(|bitmap| bitmap.bits.mark_all());
            image.store_bitmaps(files, &bitmaps).await
        }
    }
}

/// Small images of every sort, to begin with.
///
/// # Panics
/// `seeds-are-images`
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (cluster_size, refcount_bits, version, extended_l2) in [
        (512, 16, 3, false),
        (512, 1, 3, false),
        (512, 64, 3, false),
        (1024, 4, 3, false),
        (512, 16, 2, false),
        (16 << 10, 16, 3, true),
    ] {
        let options = CreateOptions {
            cluster_size,
            refcount_bits,
            version,
            extended_l2,
            ..CreateOptions::new(96 << 10)
        };
        let disk = Disk::default();
        run(create(&Files::of_disk(&disk), &options)).expect("seeds-are-images");
        seeds.push(disk.bytes());
        let image = Image::open("image", ImageFile::Disk(&disk), Caches::default(), false);
        let image = run(image).expect("seeds-are-images");
        let files = Files::of_disk(&disk);
        for (offset, len) in [(0, 1500), (33 << 10, 700), (95 << 10, 1024)] {
            let data = vec![offset as u8 | 1; len];
            run(image.write(&files, offset, data.into())).expect("seeds-are-images");
        }
        let how = Zeroes { may_unmap: false, no_fallback: false };
        run(image.write_zeroes(&files, ByteRange::new(512, 3000), how)).expect("seeds-are-images");
        run(image.close(&files)).expect("seeds-are-images");
        seeds.push(disk.bytes());
        if refcount_bits > 1 {
            seeds.push(with_snapshot(disk.bytes()));
        }
        if version == 3 {
            seeds.push(with_bitmap(disk.bytes()));
        }
    }
    seeds
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    bytes[at..at + number.len()].copy_from_slice(number);
}

/// Where another cluster begins.
fn grow(bytes: &mut Vec<u8>) -> usize {
    let cluster = 1 << number(bytes, 20, 4);
    let at = bytes.len().next_multiple_of(cluster);
    bytes.resize(at + cluster, 0);
    at
}

/// The counts of what was put in by hand.
fn counted(bytes: Vec<u8>) -> Vec<u8> {
    let disk = Disk::new(bytes);
    let options = CheckOptions::default();
    let after = run(repair(ImageFile::Disk(&disk), None, Repair::All, options, &mut |_| true));
    assert!(after.expect("seeds-are-images").is_clean(), "seeds-are-images");
    disk.bytes()
}

/// With an internal snapshot of what is there.
fn with_snapshot(mut bytes: Vec<u8>) -> Vec<u8> {
    let (l1, entries) = (number(&bytes, 40, 8) as usize, number(&bytes, 36, 4) as usize);
    let copy = grow(&mut bytes);
    bytes.copy_within(l1..l1 + entries * 8, copy);
    let table = grow(&mut bytes);
    put(&mut bytes, table, &(copy as u64).to_be_bytes());
    put(&mut bytes, table + 8, &(entries as u32).to_be_bytes());
    put(&mut bytes, table + 12, &[0, 1, 0, 3]);
    put(&mut bytes, table + 36, &16_u32.to_be_bytes());
    put(&mut bytes, table + 40 + 16, b"1one");
    put(&mut bytes, 60, &1_u32.to_be_bytes());
    put(&mut bytes, 64, &(table as u64).to_be_bytes());
    counted(bytes)
}

/// With a persistent bitmap.
fn with_bitmap(mut bytes: Vec<u8>) -> Vec<u8> {
    let (bits, table, directory) = (grow(&mut bytes), grow(&mut bytes), grow(&mut bytes));
    put(&mut bytes, bits, &[0x55; 16]);
    put(&mut bytes, table, &(bits as u64).to_be_bytes());
    put(&mut bytes, directory, &(table as u64).to_be_bytes());
    put(&mut bytes, directory + 8, &1_u32.to_be_bytes());
    put(&mut bytes, directory + 16, &[1, 9, 0, 3, 0, 0, 0, 0]);
    put(&mut bytes, directory + 24, b"one");
    // The extensions begin behind the header, and there are none.
    let at = number(&bytes, 100, 4) as usize;
    put(&mut bytes, at, &0x2385_2875_u32.to_be_bytes());
    put(&mut bytes, at + 4, &24_u32.to_be_bytes());
    put(&mut bytes, at + 8, &1_u32.to_be_bytes());
    put(&mut bytes, at + 16, &32_u64.to_be_bytes());
    put(&mut bytes, at + 24, &(directory as u64).to_be_bytes());
    put(&mut bytes, at + 32, &[0; 8]);
    put(&mut bytes, 88, &1_u64.to_be_bytes());
    counted(bytes)
}
