//! Random operations on images of every sort, each against plain bytes; and what `qemu-img` thinks of the image then.

use std::path::PathBuf;

use blockyard_block::{Preallocation, ReadFlags, Truncate};
use blockyard_qcow2::{
    Caches, Compression, CreateOptions, Files, Image, ImageFile, NewSnapshot, Zeroes, create,
};
use blockyard_units::{ByteLen, ByteRange};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::disk::{Disk, run};
use super::peer;

/// A sort of image.
#[derive(Clone, Copy, Debug)]
struct Sort {
    version: u32,
    cluster_size: u64,
    refcount_bits: u32,
    extended_l2: bool,
    zstd: bool,
}

impl Sort {
    /// Every one that can be, of sizes that meet every edge: a cluster that is a slice or many, refcounts of each
    /// width.
    fn all() -> Vec<Self> {
        let mut sorts = Vec::new();
        for cluster_size in [512, 4 << 10, 64 << 10, 2 << 20] {
            let plain = Self {
                version: 3,
                cluster_size,
                refcount_bits: 16,
                extended_l2: false,
                zstd: false,
            };
            sorts.push(Self { version: 2, ..plain });
            sorts.push(Self { zstd: true, ..plain });
            let widths = [1, 2, 4, 8, 16, 32, 64];
            sorts.extend(widths.map(|refcount_bits| Self { refcount_bits, ..plain }));
            if cluster_size >= 16 << 10 {
                sorts.push(Self { extended_l2: true, ..plain });
            }
        }
        sorts
    }

    fn name(&self) -> String {
        let Self { version, cluster_size, refcount_bits, extended_l2, zstd } = self;
        let flag = |on: bool, name| if on { name } else { "" };
        let (extended, zstd) = (flag(*extended_l2, "-x"), flag(*zstd, "-zstd"));
        format!("v{version}-c{cluster_size}-r{refcount_bits}{extended}{zstd}")
    }

    /// Bytes: two L2 tables at least, and an end inside a cluster.
    fn size(&self) -> u64 {
        let entry = if self.extended_l2 { 16 } else { 8 };
        let table = self.cluster_size / entry * self.cluster_size;
        table.min(8 << 20) + self.cluster_size * 3 + 512
    }
}

/// An image and what should be in it.
struct Case {
    image: Image,
    disk: Disk,
    bytes: Vec<u8>,
    random: ChaCha8Rng,
    writes: u64,
    /// Snapshots by id, with what they keep.
    kept: Vec<(String, Vec<u8>)>,
}

const TINY: Caches = Caches { l2: 0, refcount: 0 };

impl Case {
    fn open(disk: Disk, bytes: Vec<u8>, seed: u64) -> Self {
        let image =
            run(Image::open("image", ImageFile::Disk(&disk), TINY, false)).expect("it opens");
        Self {
            image,
            disk,
            bytes,
            random: ChaCha8Rng::seed_from_u64(seed),
            writes: 0,
            kept: Vec::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit.max(1)
    }

    /// Somewhere, and mostly short.
    fn range(&mut self) -> ByteRange {
        let size = self.bytes.len() as u64;
        let cluster = self.image.cluster_size().0;
        let longest = [512, cluster, 3 * cluster][self.below(3) as usize].min(size);
        let len = 1 + self.below(longest);
        let start = self.below(size - len + 1);
        let range = ByteRange::new(start, len);
        if self.below(3) == 0 {
            return range.align_outward(ByteLen(cluster)).intersection(&ByteRange::new(0, size));
        }
        range
    }

    fn at(&mut self, range: ByteRange) -> &mut [u8] {
        let at = ByteLen(range.start()).as_usize();
        &mut self.bytes[at..at + range.len().as_usize()]
    }

    fn step(&mut self) {
        let (disk, range) = (self.disk.clone(), self.range());
        let files = Files::of_disk(&disk);
        match self.below(16) {
            0..4 => {
                self.writes += 1;
                let fill: Vec<u8> = self
                    .writes
                    .to_be_bytes()
                    .iter()
                    .copied()
                    .cycle()
                    .take(range.len().as_usize())
                    .collect();
                self.at(range).copy_from_slice(&fill);
                run(self.image.write(&files, range.start(), fill.into())).expect("it writes");
            }
            4..6 => {
                let how = Zeroes { may_unmap: self.below(2) == 0, no_fallback: false };
                self.at(range).fill(0);
                run(self.image.write_zeroes(&files, range, how)).expect("it writes zeroes");
            }
            6 => {
                run(self.image.discard(&files, range)).expect("it discards");
                let read = self.read(range);
                let old = self.at(range).to_vec();
                let fits = read.iter().zip(&old).all(|(read, old)| read == old || *read == 0);
                assert!(fits, "a discard leaves what was there, or zeroes");
                self.at(range).copy_from_slice(&read);
            }
            7 => run(self.image.flush(&files)).expect("it flushes"),
            8 if self.below(4) == 0 => {
                let size = self.bytes.len() as u64;
                let len = ByteLen((size / 2 + self.below(size)).next_multiple_of(512));
                let truncate = Truncate { len, preallocation: Preallocation::Off };
                // With snapshots it does not become shorter.
                if self.kept.is_empty() || len.0 >= size {
                    run(self.image.truncate(&files, truncate)).expect("it changes its length");
                    self.bytes.resize(len.as_usize(), 0);
                }
            }
            9 if self.below(8) == 0 => {
                run(self.image.close(&files)).expect("it closes");
                self.image = run(Image::open("image", ImageFile::Disk(&disk), TINY, false))
                    .expect("it opens again");
            }
            10..12 => {
                let whole = range.align_outward(self.image.cluster_size());
                let range = whole.intersection(&ByteRange::new(0, self.bytes.len() as u64));
                self.writes += 1;
                let fill = self.writes.to_be_bytes().into_iter().cycle();
                let mut fill: Vec<u8> = fill.take(range.len().as_usize()).collect();
                if self.below(4) == 0 {
                    // What cannot be made shorter.
                    self.random.fill_bytes(&mut fill);
                }
                self.at(range).copy_from_slice(&fill);
                let written = run(self.image.write_compressed(&files, range.start(), fill.into()));
                written.expect("it writes compressed data");
            }
            12 if self.below(3) == 0 => self.snapshot(&files),
            _ => {
                let read = self.read(range);
                assert!(read == self.at(range), "what is read at {range} is what was written");
            }
        }
    }

    /// Takes a snapshot, goes back to one, or forgets one.
    fn snapshot(&mut self, files: &Files<'_>) {
        let pick = self.below(self.kept.len() as u64) as usize;
        match self.below(4) {
            0 if !self.kept.is_empty() => {
                let (id, bytes) = self.kept[pick].clone();
                // Refcounts may be too narrow for one more reference.
                if run(self.image.apply_snapshot(files, &id)).is_ok() {
                    self.bytes = bytes;
                }
            }
            1 if !self.kept.is_empty() => {
                let (id, _) = self.kept.remove(pick);
                run(self.image.delete_snapshot(files, &id)).expect("it forgets a snapshot");
            }
            _ => {
                let name = format!("snapshot {}", self.writes);
                let new = NewSnapshot { name, ..NewSnapshot::default() };
                if let Ok(id) = run(self.image.create_snapshot(files, new)) {
                    self.kept.push((id, self.bytes.clone()));
                }
            }
        }
    }

    fn read(&self, range: ByteRange) -> Vec<u8> {
        let files = Files::of_disk(&self.disk);
        run(self.image.read(&files, range, ReadFlags::default())).expect("it reads").to_vec()
    }

    fn finish(self, name: &str) {
        let files = Files::of_disk(&self.disk);
        let whole = ByteRange::new(0, self.bytes.len() as u64);
        assert!(self.read(whole) == self.bytes, "{name}: all of it is as it was written");
        run(self.image.close(&files)).expect("it closes");
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let (image, raw) =
            (directory.join(format!("{name}.qcow2")), directory.join(format!("{name}.raw")));
        std::fs::write(&image, self.disk.bytes()).expect("there is room for the image");
        std::fs::write(&raw, &self.bytes).expect("there is room for its contents");
        peer::checks_clean(&image, name);
        let compared = peer::qemu_img(&[
            "compare",
            "-f",
            "qcow2",
            "-F",
            "raw",
            &image.to_string_lossy(),
            &raw.to_string_lossy(),
        ]);
        assert!(compared.status.success(), "{name}: {}", String::from_utf8_lossy(&compared.stdout));
        std::fs::remove_file(image).expect("it is there");
        std::fs::remove_file(raw).expect("it is there");
    }
}

#[test]
fn images_of_every_sort_are_whole_for_qemu_after_random_operations() {
    if !peer::is_there() {
        return;
    }
    for sort in Sort::all() {
        let name = sort.name();
        let options = CreateOptions {
            version: sort.version,
            cluster_size: sort.cluster_size,
            refcount_bits: sort.refcount_bits,
            extended_l2: sort.extended_l2,
            compression: if sort.zstd { Compression::Zstd } else { Compression::Zlib },
            ..CreateOptions::new(sort.size())
        };
        let disk = Disk::default();
        run(create(ImageFile::Disk(&disk), &options)).expect("it is made");
        let bytes = vec![0; ByteLen(options.size).as_usize()];
        let mut case = Case::open(disk, bytes, sort.cluster_size ^ u64::from(sort.refcount_bits));
        // Large clusters take their time, and meet their edges sooner.
        for _ in 0..if sort.cluster_size > 64 << 10 { 40 } else { 200 } {
            case.step();
        }
        case.finish(&name);
    }
}

#[test]
fn tables_longer_than_one_refcount_block_counts_are_moved_whole() {
    if !peer::is_there() {
        return;
    }
    let options =
        CreateOptions { cluster_size: 512, refcount_bits: 64, ..CreateOptions::new(1 << 20) };
    let disk = Disk::default();
    run(create(ImageFile::Disk(&disk), &options)).expect("it is made");
    let mut case = Case::open(disk.clone(), vec![0; 1 << 20], 1);
    let files = Files::of_disk(&disk);
    for len in [64 << 20, 160 << 20, 256 << 20] {
        for _ in 0..100 {
            case.step();
        }
        let len = ByteLen(len.max(case.bytes.len() as u64));
        let truncate = Truncate { len, preallocation: Preallocation::Off };
        run(case.image.truncate(&files, truncate)).expect("it becomes longer");
        case.bytes.resize(len.as_usize(), 0);
        let new = NewSnapshot { name: format!("at {}", len.0), ..NewSnapshot::default() };
        run(case.image.create_snapshot(&files, new)).expect("it keeps what is there");
    }
    case.finish("long-tables");
}
