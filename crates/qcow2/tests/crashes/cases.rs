//! Small images, and what is done to them.

use std::sync::Arc;

use blockyard_qcow2::{AmendOptions, Caches, CreateOptions, DataFile};
use blockyard_sim::{Budgets, DiskImage, Exploration, Explorer, Limits, Reduction, Setup, Summary};
use blockyard_units::{ByteLen, ByteRange, Design};

use crate::prepared::{Damage, add_snapshot, prepare};
use crate::program::{AUTOCLEAR, CLUSTER, Images, Op};
use Op::{Apply, Delete, Discard, Flush, Read, Snapshot, Store, Truncate, Unmap, Write, Zeroes};

/// Clusters that one L2 table maps.
const TABLE: u64 = CLUSTER / 8;

/// An image and what is done to it.
pub struct Case {
    /// A fault and a power loss in one execution are few enough to try all.
    pub is_small: bool,
    pub name: &'static str,
    images: Images,
    bytes: Vec<u8>,
    /// On the disk with the data, if there is one.
    data: Option<Vec<u8>>,
    capacity: u64,
}

impl Case {
    pub fn explore(&self, budgets: Budgets) -> Exploration {
        self.explore_design(budgets, Design::default(), 200_000)
    }

    pub fn explore_design(&self, budgets: Budgets, design: Design, limit: u64) -> Exploration {
        let faulty = budgets.faults > 0;
        let program = Images { design, faulty, ..self.images.clone() };
        let capacity = ByteLen(self.capacity.max(self.bytes.len() as u64));
        let disk =
            |name: &str, bytes: Vec<u8>| DiskImage { capacity, ..DiskImage::new(name, bytes) };
        let mut images = vec![disk("image", self.bytes.clone())];
        images.extend(self.data.clone().map(|data| disk("data", data)));
        let setup = Setup { images, budgets, ..Setup::default() };
        let limits = Limits { executions: limit, ..Limits::default() };
        let mut go_on = |_: &Summary| true;
        Explorer::new(&program, setup, limits, &mut go_on).depth_first(Reduction::Optimal)
    }
}

/// What a case is made of.
struct Plan {
    name: &'static str,
    refcount_bits: u32,
    version: u32,
    /// Slices of either cache.
    slices: u64,
    /// Bytes of the guest's disk.
    size: u64,
    /// Clusters of the guest's disk that have data: the first one, and how many.
    filled: (u64, u64),
    /// Data are added behind them until the file has so many clusters.
    file_clusters: Option<u64>,
    /// There is a snapshot of them.
    snapshot: bool,
    /// The image is made by the tasks' program.
    made: bool,
    /// The data are in a file of their own; whether that is to read as the guest's disk does.
    external: Option<bool>,
    /// A bitmap is stored with it, in which these granules are dirty.
    bitmap: Option<&'static [u64]>,
    /// It has a feature that nobody knows.
    has_autoclear: bool,
    /// It names a backing file, in which nothing stands.
    backing: bool,
    /// It is repaired, and nothing else.
    is_repaired: bool,
    /// It is changed in the end.
    amended: Option<AmendOptions>,
    /// This is wrong with it, and whether it says that something may be: then whoever opens it repairs it.
    damage: Option<(Damage, bool)>,
    tasks: Vec<Vec<Op>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "",
            refcount_bits: 16,
            version: 3,
            slices: 1,
            size: 2 * TABLE * CLUSTER,
            filled: (0, 0),
            file_clusters: None,
            snapshot: false,
            made: false,
            external: None,
            bitmap: None,
            has_autoclear: false,
            backing: false,
            is_repaired: false,
            amended: None,
            damage: None,
            tasks: Vec::new(),
        }
    }
}

/// In clusters.
fn write(cluster: u64) -> Op {
    Write(cluster * CLUSTER, CLUSTER)
}

pub fn all() -> Vec<Case> {
    let plans = [
        Plan { name: "allocate", tasks: vec![vec![write(0), Flush, write(0)]], ..Plan::default() },
        Plan {
            name: "allocate a part",
            tasks: vec![vec![Write(100, 700), Flush, Write(0, 100)]],
            ..Plan::default()
        },
        Plan {
            name: "two tables, one slice",
            tasks: vec![vec![write(0), write(TABLE), write(1), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "two tables, two slices",
            slices: 2,
            tasks: vec![vec![write(0), write(TABLE), write(1), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "zero, kept, written",
            filled: (0, 2),
            tasks: vec![vec![Zeroes(0, CLUSTER), Flush, Write(0, 64), write(2)]],
            ..Plan::default()
        },
        Plan {
            name: "unmap and use again",
            filled: (0, 2),
            tasks: vec![vec![Unmap(0, CLUSTER), write(3), Flush, write(4), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "discard and use again",
            filled: (0, 2),
            tasks: vec![vec![Discard(0, CLUSTER), Flush, write(3), write(4), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "amend to version 2",
            filled: (0, 2),
            backing: true,
            tasks: vec![vec![Zeroes(0, CLUSTER), Zeroes(4 * CLUSTER, CLUSTER), Flush]],
            amended: Some(AmendOptions { version: Some(2), ..AmendOptions::default() }),
            ..Plan::default()
        },
        Plan {
            name: "amend to version 2, two blocks",
            size: 5 * TABLE * CLUSTER,
            filled: (0, 256),
            tasks: vec![vec![Zeroes(193 * CLUSTER, CLUSTER), Zeroes(254 * CLUSTER, CLUSTER)]],
            amended: Some(AmendOptions { version: Some(2), ..AmendOptions::default() }),
            ..Plan::default()
        },
        Plan {
            name: "amend to version 2, nothing below",
            filled: (0, 2),
            tasks: vec![vec![Zeroes(0, CLUSTER), Flush]],
            amended: Some(AmendOptions { version: Some(2), ..AmendOptions::default() }),
            ..Plan::default()
        },
        Plan {
            name: "amend to version 3 and more",
            version: 2,
            filled: (0, 2),
            snapshot: true,
            amended: Some(AmendOptions {
                version: Some(3),
                lazy_refcounts: Some(true),
                refcount_bits: Some(8),
                ..AmendOptions::default()
            }),
            tasks: vec![vec![]],
            ..Plan::default()
        },
        Plan {
            name: "amend refcounts and length",
            filled: (0, 2),
            amended: Some(AmendOptions {
                refcount_bits: Some(64),
                size: Some(4 * TABLE * CLUSTER),
                ..AmendOptions::default()
            }),
            tasks: vec![vec![write(3), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "found corrupt",
            filled: (0, 3),
            damage: Some((Damage::OverTable, false)),
            tasks: vec![vec![write(0), write(2), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "repair a count, not told",
            filled: (0, 3),
            damage: Some((Damage::CountedTwice, false)),
            is_repaired: true,
            tasks: vec![vec![Read(0, CLUSTER)]],
            ..Plan::default()
        },
        Plan {
            name: "repair leaks, nothing else",
            damage: Some((Damage::Leak, true)),
            is_repaired: true,
            ..Plan::damaged()
        },
        Plan {
            name: "repair counts, nothing else",
            damage: Some((Damage::NotCounted, true)),
            is_repaired: true,
            ..Plan::damaged()
        },
        Plan { name: "repair leaks", damage: Some((Damage::Leak, true)), ..Plan::damaged() },
        Plan { name: "repair counts", damage: Some((Damage::NotCounted, true)), ..Plan::damaged() },
        Plan { name: "repair flags", damage: Some((Damage::NotCopied, true)), ..Plan::damaged() },
        Plan {
            name: "repair a cluster with two uses",
            damage: Some((Damage::Shared, true)),
            ..Plan::damaged()
        },
        Plan {
            name: "repair a cluster of a table",
            damage: Some((Damage::OverTable, true)),
            ..Plan::damaged()
        },
        Plan {
            name: "repair a lost refcount block",
            damage: Some((Damage::NoBlock, true)),
            ..Plan::damaged()
        },
        Plan {
            name: "discard, version 2",
            version: 2,
            filled: (0, 2),
            tasks: vec![vec![Discard(0, CLUSTER), Flush, write(3), Zeroes(CLUSTER, CLUSTER)]],
            ..Plan::default()
        },
        Plan {
            name: "one bit counts",
            refcount_bits: 1,
            filled: (0, 1),
            tasks: vec![vec![write(1), Discard(0, CLUSTER), Flush, write(2), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "a refcount block",
            refcount_bits: 64,
            file_clusters: Some(63),
            tasks: vec![vec![write(100), write(101), Flush, write(102)]],
            ..Plan::default()
        },
        Plan {
            name: "a longer refcount table",
            refcount_bits: 64,
            size: 4 * TABLE * TABLE * CLUSTER,
            file_clusters: Some(63 * TABLE),
            tasks: vec![vec![Write(63 * TABLE * CLUSTER, 62 * CLUSTER), write(64 * TABLE), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "a new image",
            made: true,
            tasks: vec![vec![write(0), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "snapshot, write, delete",
            filled: (0, 1),
            tasks: vec![vec![Snapshot, write(0), Delete, write(1), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "snapshot, write, apply",
            filled: (0, 1),
            tasks: vec![vec![Snapshot, write(0), Apply(CLUSTER), write(1), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "below a snapshot",
            filled: (0, 2),
            snapshot: true,
            tasks: vec![vec![write(0), Flush, Discard(CLUSTER, CLUSTER), write(3), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "shrink and grow",
            filled: (0, 3),
            size: 4 * CLUSTER,
            tasks: vec![vec![Truncate(CLUSTER), Truncate(3 * CLUSTER), write(2)]],
            ..Plan::default()
        },
        Plan {
            name: "a longer L1 table",
            size: TABLE * TABLE * CLUSTER,
            filled: (0, 1),
            tasks: vec![vec![
                write(1),
                Truncate((TABLE + 1) * TABLE * CLUSTER),
                write(TABLE),
                write(TABLE * TABLE),
                Flush,
            ]],
            ..Plan::default()
        },
        Plan {
            name: "an external data file",
            filled: (0, 1),
            external: Some(false),
            tasks: vec![vec![Unmap(0, CLUSTER), write(1), Flush, Write(0, 64), write(1)]],
            ..Plan::default()
        },
        Plan {
            name: "a raw external data file",
            filled: (0, 2),
            external: Some(true),
            tasks: vec![vec![
                Zeroes(0, CLUSTER),
                write(2),
                Flush,
                Discard(CLUSTER, CLUSTER),
                write(0),
            ]],
            ..Plan::default()
        },
        Plan {
            name: "a bitmap, read",
            filled: (0, 1),
            size: 8 * CLUSTER,
            bitmap: Some(&[0]),
            tasks: vec![vec![Read(0, CLUSTER), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "a bitmap, written in place",
            filled: (0, 2),
            size: 8 * CLUSTER,
            bitmap: Some(&[]),
            tasks: vec![vec![write(0)]],
            ..Plan::default()
        },
        Plan {
            name: "a bitmap, written",
            filled: (0, 1),
            size: 8 * CLUSTER,
            bitmap: Some(&[3]),
            tasks: vec![vec![write(1), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "a bitmap, stored",
            filled: (0, 3),
            size: 8 * CLUSTER,
            bitmap: Some(&[]),
            tasks: vec![vec![write(0), Store, write(1), Flush, write(2)]],
            ..Plan::default()
        },
        Plan {
            name: "a bitmap, unmapped",
            filled: (0, 2),
            size: 8 * CLUSTER,
            bitmap: Some(&[5]),
            tasks: vec![vec![Unmap(0, CLUSTER), Store, Discard(CLUSTER, CLUSTER), write(3)]],
            ..Plan::default()
        },
        Plan {
            name: "an unknown feature",
            filled: (0, 2),
            has_autoclear: true,
            tasks: vec![vec![write(0), write(1), Flush]],
            ..Plan::default()
        },
        Plan {
            name: "two writers, one cluster",
            tasks: vec![vec![Write(0, 256), Flush], vec![Write(256, 256)]],
            ..Plan::default()
        },
        Plan {
            name: "two writers, two clusters",
            tasks: vec![vec![write(0), Flush], vec![write(1)]],
            ..Plan::default()
        },
        Plan {
            name: "discard beside a write",
            filled: (0, 1),
            tasks: vec![vec![Discard(0, CLUSTER), Flush, write(1)], vec![write(0)]],
            ..Plan::default()
        },
        Plan {
            name: "discard beside a read",
            filled: (0, 1),
            tasks: vec![vec![Discard(0, CLUSTER), Flush, write(1)], vec![Read(0, CLUSTER)]],
            ..Plan::default()
        },
    ];
    plans.into_iter().map(Plan::make).collect()
}

impl Plan {
    /// What is looked at has its data whatever the damage.
    fn damaged() -> Self {
        Self { filled: (0, 3), tasks: vec![vec![Read(0, CLUSTER), write(3)]], ..Self::default() }
    }

    fn make(self) -> Case {
        let Self { name, refcount_bits, version, slices, size, filled, tasks, .. } = self;
        let ranges = |filled: (u64, u64)| -> Vec<_> {
            (filled.0..filled.0 + filled.1)
                .map(|cluster| (ByteRange::new(cluster * CLUSTER, CLUSTER), cluster + 1))
                .collect()
        };
        let mut filled = filled;
        let options = CreateOptions {
            version,
            refcount_bits,
            cluster_size: CLUSTER,
            data_file: self.external.map(|raw| DataFile { name: "data".into(), raw }),
            backing: self.backing.then(|| ("below".into(), Some("raw".into()))),
            ..CreateOptions::new(size)
        };
        let [mut bytes, data] = prepare(&options, &ranges(filled), self.bitmap);
        while let Some(wanted) = self.file_clusters {
            let clusters = bytes.len() as u64 / CLUSTER;
            if clusters == wanted {
                break;
            }
            filled.1 = (filled.1 + wanted).checked_sub(clusters).expect("it is found");
            [bytes, _] = prepare(&options, &ranges(filled), self.bitmap);
        }
        if self.snapshot {
            add_snapshot(&mut bytes);
        }
        if let Some((damage, is_told)) = self.damage {
            damage.is_done_to(&mut bytes, is_told);
        }
        if self.has_autoclear {
            bytes[88..96].copy_from_slice(&AUTOCLEAR.to_be_bytes());
        }
        if self.made {
            bytes.clear();
        }
        let filled = ranges(filled);
        let mut looked_at: Vec<ByteRange> = tasks
            .iter()
            .flatten()
            .flat_map(|op| {
                let range = match *op {
                    Write(at, len)
                    | Zeroes(at, len)
                    | Unmap(at, len)
                    | Discard(at, len)
                    | Read(at, len) => ByteRange::new(at, len),
                    Truncate(len) => ByteRange::between(len.min(size), len.max(size)),
                    Flush | Snapshot | Apply(_) | Delete | Store => ByteRange::new(0, CLUSTER),
                };
                let clusters = range.start() / CLUSTER..range.end().div_ceil(CLUSTER);
                clusters.take(4).map(|cluster| ByteRange::new(cluster * CLUSTER, CLUSTER))
            })
            .collect();
        looked_at.sort_by_key(|range| range.start());
        looked_at.dedup();
        let is_told = self.damage.is_none_or(|(_, is_told)| is_told);
        let is_found_corrupt = !is_told && !self.is_repaired;
        if is_found_corrupt {
            // What the guest sees of it is what the damage is.
            looked_at.clear();
        }
        let images = Images {
            design: Design::default(),
            caches: Caches { l2: slices * CLUSTER, refcount: slices * CLUSTER },
            filled: Arc::new(filled),
            size,
            tasks: Arc::new(tasks),
            looked_at: Arc::new(looked_at),
            faulty: false,
            made: self.made.then_some(options),
            is_repaired: self.is_repaired,
            amended: self.amended,
            external: self.external.is_some(),
            bitmap: self.bitmap.map(|dirty| dirty.iter().copied().collect()),
            has_autoclear: self.has_autoclear,
            is_found_corrupt,
        };
        let capacity = bytes.len() as u64 + 256 * CLUSTER;
        let is_small = images.tasks.len() == 1 && bytes.len() < 256 << 10;
        let data = self.external.map(|_| data);
        Case { is_small, name, images, bytes, data, capacity }
    }
}
