//! Random operations on images of every sort, each against plain bytes; and what `qemu-img` thinks of the image then.

use std::path::PathBuf;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::{Preallocation, ReadFlags, StoredBitmap, Truncate};
use blockyard_qcow2::{
    Caches, Compression, CreateOptions, DataFile, Files, Image, ImageFile, NewSnapshot, Zeroes,
    create,
};
use blockyard_runtime::Storage;
use blockyard_units::{ByteLen, ByteRange};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::bitmaps::are_there;
use super::disk::{Disk, run};
use super::model::Model;
use super::peer;

/// As QEMU makes them.
const PLAIN: Sort = Sort {
    version: 3,
    cluster_size: 64 << 10,
    refcount_bits: 16,
    extended_l2: false,
    zstd: false,
    backing: false,
    external: None,
    bitmaps: false,
};

/// A sort of image.
#[derive(Clone, Copy, Debug)]
struct Sort {
    version: u32,
    cluster_size: u64,
    refcount_bits: u32,
    extended_l2: bool,
    zstd: bool,
    backing: bool,
    /// The data are in a file of their own; whether that one reads as the guest's disk does.
    external: Option<bool>,
    /// It has three bitmaps.
    bitmaps: bool,
}

impl Sort {
    /// Every one that can be, of sizes that meet every edge: a cluster that is a slice or many, refcounts of each
    /// width.
    fn all() -> Vec<Self> {
        let mut sorts = Vec::new();
        for cluster_size in [512, 4 << 10, 64 << 10, 2 << 20] {
            let plain = Self { cluster_size, ..PLAIN };
            sorts.push(Self { version: 2, ..plain });
            sorts.push(Self { version: 2, backing: true, ..plain });
            sorts.push(Self { backing: true, ..plain });
            sorts.push(Self { zstd: true, ..plain });
            let widths = [1, 2, 4, 8, 16, 32, 64];
            sorts.extend(widths.map(|refcount_bits| Self { refcount_bits, ..plain }));
            let recorded = Self { bitmaps: true, ..plain };
            sorts.push(Self { backing: true, ..recorded });
            sorts.extend([1, 16, 64].map(|refcount_bits| Self { refcount_bits, ..recorded }));
            if cluster_size >= 16 << 10 {
                sorts.push(Self { extended_l2: true, ..recorded });
                sorts.push(Self { extended_l2: true, ..plain });
                sorts.push(Self { extended_l2: true, backing: true, ..plain });
            }
        }
        // A data file is as long as the disk, so clusters are small.
        for (cluster_size, extended_l2) in [(512, false), (4 << 10, false), (16 << 10, true)] {
            let plain = Self { cluster_size, extended_l2, ..PLAIN };
            sorts.push(Self { external: Some(false), ..plain });
            sorts.push(Self { external: Some(false), backing: true, ..plain });
            sorts.push(Self { external: Some(true), ..plain });
            sorts.push(Self { external: Some(true), bitmaps: true, ..plain });
        }
        sorts
    }

    fn name(&self) -> String {
        let Self { version, cluster_size, refcount_bits, extended_l2, zstd, backing, .. } = self;
        let flag = |on: bool, name| if on { name } else { "" };
        let (data, raw) = (self.external == Some(false), self.external == Some(true));
        let data = [flag(data, "-data"), flag(raw, "-raw")].concat();
        let more = [flag(*extended_l2, "-x"), flag(*zstd, "-zstd"), flag(*backing, "-b")].concat();
        let more = more + flag(self.bitmaps, "-bitmaps");
        format!("v{version}-c{cluster_size}-r{refcount_bits}{more}{data}")
    }

    /// Bytes of the disk that one L2 table maps.
    fn reach(&self) -> u64 {
        self.cluster_size / if self.extended_l2 { 16 } else { 8 } * self.cluster_size
    }

    /// Bytes: two L2 tables, and an end inside a cluster.
    fn size(&self) -> u64 {
        self.reach() + self.cluster_size * 3 + 512
    }

    fn options(&self) -> CreateOptions {
        CreateOptions {
            version: self.version,
            cluster_size: self.cluster_size,
            refcount_bits: self.refcount_bits,
            extended_l2: self.extended_l2,
            compression: if self.zstd { Compression::Zstd } else { Compression::Zlib },
            backing: self.backing.then(|| ("base.raw".into(), Some("raw".into()))),
            data_file: self.external.map(|raw| {
                // QEMU does not look beside the image.
                let path = directory(&self.name()).join("data.raw");
                DataFile { name: path.to_string_lossy().into_owned(), raw }
            }),
            ..CreateOptions::new(self.size())
        }
    }
}

/// Where the files of a case are.
fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// An image and what should be in it.
struct Case {
    image: Image,
    disk: Disk,
    backing: Option<Disk>,
    /// With the data, if they are in a file of their own, and whether that one reads as the guest's disk does.
    data: Option<(Disk, bool)>,
    model: Model,
    random: ChaCha8Rng,
    /// Around these offsets things happen.
    places: Vec<u64>,
    writes: u64,
    /// Snapshots by id, with what they keep.
    kept: Vec<(String, Model)>,
    bitmaps: Vec<StoredBitmap>,
}

/// One slice of each.
const TINY: Caches = Caches { l2: 0, refcount: 0 };

impl Case {
    fn new(sort: &Sort) -> Self {
        let options = sort.options();
        let disk = Disk::default();
        // What it is filled with before shows only if the file is raw.
        let rubbish = vec![0xee; sort.cluster_size as usize * 2];
        let data = sort.external.map(|raw| {
            let bytes = if raw { Vec::new() } else { rubbish };
            (Disk::new(bytes), raw)
        });
        run(create(&files(&disk, None, data.as_ref()), &options)).expect("it is made");
        let seed = sort.cluster_size ^ u64::from(sort.refcount_bits);
        let mut model = Model::new(options.size);
        // It ends inside a cluster, before the image does.
        let below: Vec<u8> = (0..sort.cluster_size * 2 + 700).map(|at| at as u8 | 1).collect();
        let backing = sort.backing.then(|| Disk::new(below.clone()));
        if sort.backing {
            model.write(0, &below);
        }
        let image = Self::open(&disk);
        let bitmaps = if sort.bitmaps { bitmaps(options.size) } else { Vec::new() };
        // Only if they are there going back to a snapshot is refused, which they would know nothing of.
        run(image.store_bitmaps(&files(&disk, None, data.as_ref()), &bitmaps))
            .expect("they are stored");
        Self {
            image,
            disk,
            backing,
            data,
            model,
            random: ChaCha8Rng::seed_from_u64(seed),
            places: vec![0, sort.reach(), options.size],
            writes: 0,
            kept: Vec::new(),
            bitmaps,
        }
    }

    fn open(disk: &Disk) -> Image {
        run(Image::open("image", ImageFile::Disk(disk), TINY, false)).expect("it opens")
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit.max(1)
    }

    /// Somewhere around one of the places, and mostly short.
    fn range(&mut self) -> ByteRange {
        let (size, cluster) = (self.model.len, self.image.cluster_size().0);
        let pick = self.below(self.places.len() as u64) as usize;
        let place = self.places[pick];
        let from = (place + self.below(8 * cluster)).saturating_sub(4 * cluster).min(size - 1);
        let longest = [512, cluster, 3 * cluster][self.below(3) as usize];
        let range = ByteRange::new(from, (1 + self.below(longest)).min(size - from));
        if self.below(3) == 0 {
            return range.align_outward(ByteLen(cluster)).intersection(&ByteRange::new(0, size));
        }
        range
    }

    fn fill(&mut self, range: ByteRange) -> Vec<u8> {
        self.writes += 1;
        let word = self.writes.to_be_bytes().into_iter().cycle();
        word.take(range.len().as_usize()).collect()
    }

    fn step(&mut self) {
        let (disk, backing, data) = (self.disk.clone(), self.backing.clone(), self.data.clone());
        let files = files(&disk, backing.as_ref(), data.as_ref());
        let range = self.range();
        let step = self.below(16);
        if step < 7 {
            self.bitmaps.iter_mut().for_each(|bitmap| bitmap.bits.record(range));
        }
        match step {
            0..4 => {
                let fill = self.fill(range);
                self.model.write(range.start(), &fill);
                run(self.image.write(&files, range.start(), fill.into())).expect("it writes");
            }
            4..6 => {
                let how = Zeroes { may_unmap: self.below(2) == 0, no_fallback: false };
                self.model.zero(range);
                run(self.image.write_zeroes(&files, range, how)).expect("it writes zeroes");
            }
            6 => {
                run(self.image.discard(&files, range)).expect("it discards");
                let (read, old) = (self.read(&files, range), self.model.read(range));
                let fits = read.iter().zip(&old).all(|(read, old)| read == old || *read == 0);
                assert!(fits, "a discard leaves what was there, or zeroes");
                self.model.write(range.start(), &read);
            }
            7 => run(self.image.flush(&files)).expect("it flushes"),
            8 if self.below(4) == 0 => self.resize(&files),
            9 if self.below(8) == 0 => {
                self.close(&files);
                self.image = Self::open(&disk);
                let loaded = run(self.image.load_bitmaps(&files)).expect("they are loaded");
                assert!(loaded == self.bitmaps, "bitmaps are what was stored");
            }
            10..12 if self.data.is_none() => {
                let whole = range.align_outward(self.image.cluster_size());
                let range = whole.intersection(&ByteRange::new(0, self.model.len));
                let mut fill = self.fill(range);
                if self.below(4) == 0 {
                    // What cannot be made shorter.
                    self.random.fill_bytes(&mut fill);
                }
                self.model.write(range.start(), &fill);
                self.bitmaps.iter_mut().for_each(|bitmap| bitmap.bits.record(range));
                let written = run(self.image.write_compressed(&files, range.start(), fill.into()));
                written.expect("it writes compressed data");
            }
            12 if self.below(3) == 0 && self.data.is_none() => self.snapshot(&files),
            _ => {
                let read = self.read(&files, range);
                assert!(read == self.model.read(range), "what is read at {range} is what is there");
            }
        }
        let range = range.intersection(&ByteRange::new(0, self.model.len));
        if let Some((data, true)) = self.data.as_ref().filter(|_| !range.is_empty()) {
            let raw = run(data.read(range)).expect("it reads").to_vec();
            assert!(raw == self.model.read(range), "a raw file has at {range} what the guest sees");
        }
    }

    fn resize(&mut self, files: &Files<'_>) {
        let (size, near) = (self.model.len, 8 * self.image.cluster_size().0);
        let len = (size + self.below(near)).saturating_sub(near / 2).max(512);
        let len = ByteLen(len.next_multiple_of(512));
        // With snapshots it does not become shorter.
        if self.kept.is_empty() || len.0 >= size {
            let truncate = Truncate { len, preallocation: Preallocation::Off };
            run(self.image.truncate(files, truncate)).expect("it changes its length");
            self.model.resize(len.0);
            self.bitmaps.iter_mut().for_each(|bitmap| bitmap.bits.resize(len));
        }
    }

    fn close(&self, files: &Files<'_>) {
        run(self.image.store_bitmaps(files, &self.bitmaps)).expect("they are stored");
        run(self.image.close(files)).expect("it closes");
    }

    /// Takes a snapshot, goes back to one, or forgets one.
    fn snapshot(&mut self, files: &Files<'_>) {
        let pick = self.below(self.kept.len() as u64) as usize;
        match self.below(4) {
            0 if !self.kept.is_empty() => {
                let (id, model) = self.kept[pick].clone();
                // Refcounts may be too narrow for one more reference.
                if run(self.image.apply_snapshot(files, &id)).is_ok() {
                    self.model = model;
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
                    self.kept.push((id, self.model.clone()));
                }
            }
        }
    }

    fn read(&self, files: &Files<'_>, range: ByteRange) -> Vec<u8> {
        run(self.image.read(files, range, ReadFlags::default())).expect("it reads").to_vec()
    }

    /// What is in it now and in its snapshots is there for QEMU too, which finds nothing wrong.
    fn finish(self, name: &str) {
        let files = files(&self.disk, self.backing.as_ref(), self.data.as_ref());
        self.close(&files);
        let directory = directory(name);
        std::fs::create_dir_all(&directory).expect("the directory is writable");
        if let Some((data, raw)) = &self.data {
            std::fs::write(directory.join("data.raw"), data.bytes()).expect("there is room");
            let expected = self.model.read(ByteRange::new(0, self.model.len));
            assert!(!raw || data.bytes() == expected, "{name}: a raw file is the guest's disk");
        }
        let image = directory.join("image.qcow2");
        std::fs::write(&image, self.disk.bytes()).expect("there is room for the image");
        if let Some(backing) = &self.backing {
            std::fs::write(directory.join("base.raw"), backing.bytes()).expect("there is room");
        }
        peer::checks_clean(&image, name);
        are_there(&image, &self.bitmaps, name);
        let raw = directory.join("expected.raw");
        self.model.save(&raw);
        peer::holds_the_same((&image, "driver=qcow2"), &raw, name);
        for (id, model) in self.kept.iter().take(2) {
            model.save(&raw);
            let opened = Image::open_snapshot("image", ImageFile::Disk(&self.disk), TINY, id);
            let opened = run(opened).expect("the snapshot is there");
            assert_eq!(opened.len().0, model.len, "{name}: snapshot {id}");
            for place in model.places() {
                let read = run(opened.read(&files, place, ReadFlags::default()));
                let read = read.expect("it reads");
                assert!(*read == *model.read(place), "{name}: snapshot {id}, {place}");
            }
            // QEMU converts so much of a snapshot as the disk is long now.
            if model.len <= self.model.len {
                let read = directory.join("snapshot.raw");
                peer::convert_snapshot(&image, id, &read);
                peer::holds_the_same((&read, "driver=raw"), &raw, name);
            }
        }
        std::fs::remove_dir_all(directory).expect("it is there");
    }
}

/// Of which one does not record.
fn bitmaps(size: u64) -> Vec<StoredBitmap> {
    let bitmap = |(name, granularity, records): (&str, _, bool)| {
        let bits = DirtyBitmap::new(ByteLen(size), ByteLen(granularity));
        let mut bits = bits.expect("it is a granularity");
        bits.mark(ByteRange::new(0, 700));
        if !records {
            bits.disable();
        }
        StoredBitmap { name: name.into(), bits, inconsistent: false }
    };
    [("fine", 512, true), ("coarse", 64 << 10, true), ("off", 4096, false)].map(bitmap).into()
}

fn files<'a>(
    disk: &'a Disk,
    backing: Option<&'a Disk>,
    data: Option<&'a (Disk, bool)>,
) -> Files<'a> {
    Files {
        data: ImageFile::Disk(data.map_or(disk, |(data, _)| data)),
        backing: backing.map(|disk| ImageFile::Disk(disk)),
        ..Files::of_disk(disk)
    }
}

#[test]
fn images_of_every_sort_are_whole_for_qemu_after_random_operations() {
    if !peer::is_there() {
        return;
    }
    for sort in Sort::all() {
        let mut case = Case::new(&sort);
        // Large clusters take their time, and meet their edges sooner.
        for _ in 0..if sort.cluster_size > 64 << 10 { 60 } else { 200 } {
            case.step();
        }
        case.finish(&sort.name());
    }
}

#[test]
fn tables_longer_than_one_refcount_block_counts_are_moved_whole() {
    if !peer::is_there() {
        return;
    }
    let sort = Sort { cluster_size: 512, refcount_bits: 64, ..PLAIN };
    let mut case = Case::new(&sort);
    for len in [64 << 20, 160 << 20, 256 << 20] {
        for _ in 0..100 {
            case.step();
        }
        let (disk, len) = (case.disk.clone(), ByteLen(len));
        let files = files(&disk, None, None);
        let truncate = Truncate { len, preallocation: Preallocation::Off };
        run(case.image.truncate(&files, truncate)).expect("it becomes longer");
        case.model.resize(len.0);
        case.places.push(len.0);
        let new = NewSnapshot { name: format!("at {len}"), ..NewSnapshot::default() };
        run(case.image.create_snapshot(&files, new)).expect("it keeps what is there");
    }
    case.finish("long-tables");
}
