//! Images that say what no writer would: what is asked of them fails cleanly, and costs little.

use blockyard_block::ReadFlags;
use blockyard_qcow2::{
    Caches, Check, CheckOptions, CreateOptions, Files, Image, ImageFile, NewSnapshot, Severity,
    check, create,
};
use blockyard_units::ByteRange;

use super::disk::{Disk, run};

const OWN: u64 = 1 << 63;

/// The bytes of an image, to be changed by hand.
pub struct Bent(pub Vec<u8>);

impl Bent {
    pub fn get(&self, at: u64, len: usize) -> u64 {
        let at = usize::try_from(at).expect("images are small");
        self.0[at..at + len].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    pub fn put(&mut self, at: u64, number: u64, len: usize) {
        let at = usize::try_from(at).expect("images are small");
        self.0[at..at + len].copy_from_slice(&number.to_be_bytes()[8 - len..]);
    }

    pub fn l1(&self) -> u64 {
        self.get(40, 8)
    }

    /// Where the first L2 table is.
    pub fn l2(&self) -> u64 {
        self.get(self.l1(), 8) & !OWN
    }
}

/// An image of `len` bytes, all of them written.
fn written(options: &CreateOptions) -> Vec<u8> {
    let disk = Disk::default();
    let files = Files::of_disk(&disk);
    run(create(&files, options)).expect("the options go together");
    let image = opened(&disk);
    let bytes = vec![7; usize::try_from(options.size).expect("images are small")];
    run(image.write(&files, 0, bytes.into())).expect("there is room");
    run(image.close(&files)).expect("there is room");
    disk.bytes()
}

fn opened(disk: &Disk) -> Image {
    let image = Image::open("image", ImageFile::Disk(disk), Caches::default(), false);
    run(image).expect("it opens")
}

fn checked(disk: &Disk, memory: u64) -> Check {
    let options = CheckOptions { memory, findings: 1000 };
    run(check(ImageFile::Disk(disk), None, options, &mut |_| true)).expect("it can be checked")
}

#[test]
fn a_check_tells_of_refcounts_in_every_window() {
    let small = CreateOptions { cluster_size: 512, refcount_bits: 64, ..CreateOptions::new(0) };
    let mut image = Bent(written(&CreateOptions { size: 256 << 10, ..small }));
    let reftable = image.get(48, 8);
    // 64 clusters each: a leak and a count that is too low in each part.
    for block in 0..8 {
        let at = image.get(reftable + block * 8, 8);
        image.put(at + 50 * 8, 2, 8);
        image.put(at + 60 * 8, 0, 8);
    }
    let disk = Disk::new(image.0);
    let whole = checked(&disk, 1 << 20);
    for memory in [0, 64 * 4 * 3, 64 * 4 * 5] {
        assert_eq!(checked(&disk, memory), whole, "{memory}");
    }
    let too_low = |cluster: u64| (Severity::Corruption, (cluster * 64 + 60) * 512);
    let found = |of: (Severity, u64)| {
        whole.findings.iter().any(|found| (found.severity, found.offset) == of)
    };
    assert!((0..8).map(too_low).all(found), "{:?}", whole.findings);
    assert!(whole.leaks >= 8, "{whole:?}");
}

/// A snapshot table of one entry, in the cluster behind the end.
fn with_snapshot(image: &mut Bent, l1: u64, entries: u64, disk_size: u64) {
    let at = image.0.len() as u64;
    image.0.resize(image.0.len() + 4096, 0);
    image.put(at, l1, 8);
    image.put(at + 8, entries, 4);
    image.put(at + 12, 1, 2);
    image.put(at + 14, 1, 2);
    image.put(at + 36, 24, 4);
    image.put(at + 48, disk_size, 8);
    image.0[usize::try_from(at).expect("images are small") + 64..][..2].copy_from_slice(b"1a");
    image.put(60, 1, 4);
    image.put(64, at, 8);
}

#[test]
fn a_snapshot_of_an_impossible_size_is_not_applied() {
    for disk_size in [u64::MAX, 1 << 62, 1 << 50] {
        let options = CreateOptions { cluster_size: 4096, ..CreateOptions::new(64 << 10) };
        let mut image = Bent(written(&options));
        let l1 = image.l1();
        with_snapshot(&mut image, l1, 1, disk_size);
        let disk = Disk::new(image.0);
        let before = disk.bytes();
        let image = opened(&disk);
        let said = run(image.apply_snapshot(&Files::of_disk(&disk), "a"));
        let said = said.expect_err("it is no size").to_string();
        assert!(said.contains("longer than clusters"), "{said}");
        assert!(disk.bytes() == before, "nothing is written");
    }
}

#[test]
fn a_snapshot_table_without_end_is_not_read() {
    let options = CreateOptions { cluster_size: 4096, ..CreateOptions::new(64 << 10) };
    let mut image = Bent(written(&options));
    let l1 = image.l1();
    with_snapshot(&mut image, l1, 1, 64 << 10);
    let at = image.get(64, 8);
    image.put(60, 65_536, 4);
    // Each says that its id and name have 128 KiB.
    for entry in 0..600 {
        let place = at + entry * (40 + 2 * 65_535_u64).next_multiple_of(8);
        let room = usize::try_from(place + 40).expect("images are small");
        image.0.resize(image.0.len().max(room), 0);
        image.put(place + 12, u64::from(u32::MAX), 4);
        image.put(place + 36, 0, 4);
    }
    let disk = Disk::new(image.0);
    let file = ImageFile::Disk(&disk);
    let written = run(Image::open("image", file, Caches::default(), false));
    assert!(written.is_err(), "whoever writes must know where it ends");
    let image = run(Image::open("image", file, Caches::default(), true)).expect("it opens");
    // What it would read otherwise is too long to be printed.
    let Err(said) = run(image.snapshots(&Files::of_disk(&disk))) else {
        panic!("the table is too long")
    };
    assert!(said.to_string().contains("at most 64 MiB"), "{said}");
}

/// Two L1 entries that refer to the same table, whose clusters' counts may have no room for both.
#[test]
fn a_table_that_is_referred_to_twice_overflows_no_count() {
    for (bits, count, fits) in [(1, 1, false), (2, 2, false), (8, 254, false), (8, 2, true)] {
        let small =
            CreateOptions { cluster_size: 512, refcount_bits: bits, ..CreateOptions::new(0) };
        let mut image = Bent(written(&CreateOptions { size: 64 << 10, ..small }));
        let (l1, l2) = (image.l1(), image.l2());
        image.put(l1, l2, 8);
        image.put(l1 + 8, l2, 8);
        let clusters: Vec<u64> = (0..64)
            .map(|entry| image.get(l2 + entry * 8, 8) & !OWN)
            .chain([l2])
            .map(|host| host / 512)
            .collect();
        for cluster in clusters {
            let per_block = 4096 / u64::from(bits);
            let block = image.get(image.get(48, 8) + cluster / per_block * 8, 8);
            let within = cluster % per_block * u64::from(bits);
            let old = image.get(block + within / 8, 1);
            let mask = 0xff >> (8 - bits);
            let new = old & !(mask << (within % 8)) | count << (within % 8);
            image.put(block + within / 8, new, 1);
        }
        for entry in 0..64 {
            let own = image.get(l2 + entry * 8, 8);
            image.put(l2 + entry * 8, own & !OWN, 8);
        }
        let disk = Disk::new(image.0);
        let before = disk.bytes();
        let (image, files) = (opened(&disk), Files::of_disk(&disk));
        let new = NewSnapshot { name: "one".into(), ..NewSnapshot::default() };
        let done = run(image.create_snapshot(&files, new));
        assert_eq!(done.is_ok(), fits, "{bits} bits, {count}: {done:?}");
        if let Err(error) = done {
            let said = error.to_string();
            assert!(said.contains("no room") || said.contains("a refcount"), "{said}");
            assert!(disk.bytes() == before, "{bits} bits: nothing is written");
        }
        let read = run(image.read(&files, ByteRange::new(0, 64 << 10), ReadFlags::default()));
        assert!(read.expect("it is there").iter().all(|byte| *byte == 7));
    }
}
