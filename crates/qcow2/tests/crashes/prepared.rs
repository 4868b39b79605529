//! What an image is before anything happens to it: made, filled, and perhaps damaged.

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::StoredBitmap;
use blockyard_models::data;
use blockyard_qcow2::{Caches, CreateOptions, Image, ImageFile, create};
use blockyard_runtime::{Runtime, Storage};
use blockyard_sim::{
    Budgets, DiskImage, Execution, Finding, Limits, Program, RandomWalk, World, run_once,
};
use blockyard_units::{ByteLen, ByteRange};

use crate::plain::{Plain, files};
use crate::program::CLUSTER;

/// What may be wrong with an image.
#[derive(Clone, Copy)]
pub enum Damage {
    /// A cluster is counted that nobody uses.
    Leak,
    /// A cluster is counted twice, and used once.
    CountedTwice,
    /// Those of data are not counted.
    NotCounted,
    /// An entry does not say that nobody else uses its cluster.
    NotCopied,
    /// An entry has the cluster of another.
    Shared,
    /// An entry has the cluster of a table.
    OverTable,
    /// No refcount block is listed.
    NoBlock,
}

impl Damage {
    /// To an image as `prepare` makes it, with three clusters of data.
    pub fn is_done_to(self, bytes: &mut Vec<u8>, is_told: bool) {
        let mut tables = Tables(bytes);
        let l2 = tables.entry(Tables::L1);
        let [first, second, third] = [0, 8, 16].map(|at| l2 as usize + at);
        match self {
            Self::Leak => {
                let end = tables.0.len() as u64;
                tables.0.resize(tables.0.len() + CLUSTER as usize, 0);
                tables.count(end, 1);
            }
            Self::CountedTwice => {
                let data = tables.entry(first);
                tables.put(first, &data.to_be_bytes());
                tables.count(data, 2);
            }
            Self::NotCounted => [second, third].into_iter().for_each(|at| {
                let data = tables.entry(at);
                tables.count(data, 0);
            }),
            Self::NotCopied => {
                let data = tables.entry(first);
                tables.put(first, &data.to_be_bytes());
            }
            Self::Shared => {
                let data = tables.entry(second) | 1 << 63;
                tables.put(third, &data.to_be_bytes());
            }
            Self::OverTable => tables.put(third, &((1 << 63) | Tables::L1 as u64).to_be_bytes()),
            Self::NoBlock => tables.put(Tables::REFCOUNTS, &[0; 8]),
        }
        // "Header": the dirty bit.
        tables.put(79, &[u8::from(is_told)]);
    }
}

/// An image as `prepare` makes it, with refcounts of 16 bits in one block.
struct Tables<'a>(&'a mut Vec<u8>);

impl Tables<'_> {
    const REFCOUNTS: usize = CLUSTER as usize;
    const BLOCK: usize = 2 * CLUSTER as usize;
    const L1: usize = 3 * CLUSTER as usize;

    fn put(&mut self, at: usize, value: &[u8]) {
        self.0[at..at + value.len()].copy_from_slice(value);
    }

    /// Where an entry leads to.
    fn entry(&self, at: usize) -> u64 {
        let bytes = self.0[at..at + 8].try_into().expect("eight-bytes");
        u64::from_be_bytes(bytes) & !(1 << 63)
    }

    fn count(&mut self, offset: u64, count: u16) {
        self.put(Self::BLOCK + 2 * (offset / CLUSTER) as usize, &count.to_be_bytes());
    }
}

/// Adds a snapshot to an image as `prepare` makes it: its L1 table and the table of snapshots come behind everything
/// else, and all that the one L1 entry leads to has two owners.
pub fn add_snapshot(bytes: &mut Vec<u8>) {
    let cluster = CLUSTER as usize;
    let (own_l1, table) = (bytes.len(), bytes.len() + cluster);
    bytes.resize(own_l1 + 2 * cluster, 0);
    let mut tables = Tables(bytes);
    let l2 = tables.entry(Tables::L1);
    for at in [Tables::L1, own_l1] {
        tables.put(at, &l2.to_be_bytes());
    }
    tables.count(l2, 2);
    for at in (l2 as usize..l2 as usize + cluster).step_by(8) {
        let data = tables.entry(at);
        if data != 0 {
            tables.put(at, &data.to_be_bytes());
            tables.count(data, 2);
        }
    }
    let l1_entries: [u8; 4] = tables.0[36..40].try_into().expect("four-bytes");
    tables.put(table, &(own_l1 as u64).to_be_bytes());
    tables.put(table + 8, &l1_entries);
    // An id and a name of one letter each.
    tables.put(table + 12, &[0, 1, 0, 1]);
    tables.put(table + 40, b"1a");
    tables.count(own_l1 as u64, 1);
    tables.count(table as u64, 1);
    tables.put(60, &1_u32.to_be_bytes());
    tables.put(64, &(table as u64).to_be_bytes());
}

/// An image with these data, closed, and what is on the disk for those that it has in a file of their own.
pub fn prepare(
    options: &CreateOptions,
    filled: &[(ByteRange, u64)],
    bitmap: Option<&[u64]>,
) -> [Vec<u8>; 2] {
    const MOST: ByteLen = ByteLen(4 << 20);
    let names = ["image", "data"];
    let image = |name| DiskImage { capacity: MOST, ..DiskImage::new(name, Vec::new()) };
    let mut world = World::new(&names.map(image), Budgets::NONE, 0);
    let bits = bitmap.map(|dirty| {
        let bits = DirtyBitmap::new(ByteLen(options.size), ByteLen(CLUSTER));
        let mut bits = bits.expect("it is a granularity");
        dirty.iter().for_each(|granule| bits.mark(ByteRange::new(granule * CLUSTER, CLUSTER)));
        bits
    });
    let program = Prepare { options: options.clone(), filled: filled.to_vec(), bits };
    let limits = Limits { steps: u32::MAX, ..Limits::default() };
    run_once(&mut world, &program, &mut RandomWalk::new(0), limits, &mut |_, _| ());
    let bytes = |name: &str| world.disk(name).expect("it is there").observe_quietly(<[u8]>::to_vec);
    names.map(bytes)
}

struct Prepare {
    options: CreateOptions,
    filled: Vec<(ByteRange, u64)>,
    bits: Option<DirtyBitmap>,
}

struct Prepared;

impl Program for Prepare {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = Plain(world.disk("image").expect("there is one disk"));
        let data = Plain(world.disk("data").expect("there is another disk"));
        let data = self.options.data_file.is_some().then_some(data);
        let (options, filled) = (self.options.clone(), self.filled.clone());
        let stored = |bits| StoredBitmap { name: "b".into(), bits, inconsistent: false };
        let bitmaps: Vec<_> = self.bits.clone().map(stored).into_iter().collect();
        world.begin(|runtime: &Runtime| {
            drop(runtime.spawn("prepare", async move {
                let file = ImageFile::Disk(&disk as &dyn Storage);
                let files = files(&disk, data.as_ref());
                create(&files, &options).await.expect("it is made");
                let caches = Caches::default();
                let image = Image::open("image", file, caches, false).await.expect("it opens");
                // One behind the other, from the first on.
                let end = filled.last().map_or(0, |(range, _)| range.end());
                let mut bytes = vec![0; ByteLen(end).as_usize()];
                for (range, tag) in filled {
                    let at = ByteLen(range.start()).as_usize();
                    let piece = &mut bytes[at..at + range.len().as_usize()];
                    data::fill_pattern(tag, range, piece);
                }
                image.write(&files, 0, bytes.into()).await.expect("it writes");
                image.store_bitmaps(&files, &bitmaps).await.expect("they are stored");
                image.close(&files).await.expect("it closes");
            }));
        });
        Box::new(Prepared)
    }
}

impl Execution for Prepared {
    fn judge(&self, world: &World) -> Option<Finding> {
        assert!(world.unfinished().is_empty(), "what is prepared is there");
        None
    }

    fn digest(&self, _world: &World) -> u64 {
        0
    }
}
