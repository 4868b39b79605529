//! Small images, and what is done to them.

use std::sync::Arc;

use blockyard_models::data;
use blockyard_qcow2::{Caches, CreateOptions, Files, Image, ImageFile, create};
use blockyard_runtime::{Runtime, Storage};
use blockyard_sim::{
    Budgets, DiskImage, Execution, Exploration, Explorer, Finding, Limits, Program, RandomWalk,
    Reduction, Setup, Summary, World, run_once,
};
use blockyard_units::{ByteLen, ByteRange, Design};

use crate::program::{CLUSTER, Images, Op, Plain};
use Op::{Discard, Flush, Read, Truncate, Unmap, Write, Zeroes};

/// Clusters that one L2 table maps.
const TABLE: u64 = CLUSTER / 8;

/// An image and what is done to it.
pub struct Case {
    pub name: &'static str,
    images: Images,
    bytes: Vec<u8>,
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
        let image = DiskImage { capacity, ..DiskImage::new("image", self.bytes.clone()) };
        let setup = Setup { images: vec![image], budgets, ..Setup::default() };
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
        // The file has 64 clusters before a block is needed.
        Plan {
            name: "a refcount block",
            refcount_bits: 64,
            filled: (0, 58),
            tasks: vec![vec![write(58), write(59), Flush, write(60)]],
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
            tasks: vec![vec![write(1), Truncate((TABLE + 1) * TABLE * CLUSTER), write(TABLE * TABLE)]],
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
    fn make(self) -> Case {
        let Self { name, refcount_bits, version, slices, size, filled, tasks } = self;
        let filled: Vec<_> = (filled.0..filled.0 + filled.1)
            .map(|cluster| (ByteRange::new(cluster * CLUSTER, CLUSTER), cluster + 1))
            .collect();
        let options = CreateOptions {
            version,
            refcount_bits,
            cluster_size: CLUSTER,
            ..CreateOptions::new(size)
        };
        let bytes = prepare(&options, &filled);
        let mut looked_at: Vec<ByteRange> = tasks
            .iter()
            .flatten()
            .flat_map(|op| {
                let range = match *op {
                    Write(at, len) | Zeroes(at, len) | Unmap(at, len) | Discard(at, len)
                    | Read(at, len) => ByteRange::new(at, len),
                    Truncate(len) => ByteRange::between(len.min(size), len.max(size)),
                    Flush => ByteRange::new(0, CLUSTER),
                };
                let clusters = range.start() / CLUSTER..range.end().div_ceil(CLUSTER);
                clusters.take(4).map(|cluster| ByteRange::new(cluster * CLUSTER, CLUSTER))
            })
            .collect();
        looked_at.sort_by_key(|range| range.start());
        looked_at.dedup();
        let images = Images {
            design: Design::default(),
            caches: Caches { l2: slices * CLUSTER, refcount: slices * CLUSTER },
            filled: Arc::new(filled),
            size,
            tasks: Arc::new(tasks),
            looked_at: Arc::new(looked_at),
            faulty: false,
        };
        let capacity = bytes.len() as u64 + 64 * CLUSTER;
        Case { name, images, bytes, capacity }
    }
}

/// An image with these data, closed.
fn prepare(options: &CreateOptions, filled: &[(ByteRange, u64)]) -> Vec<u8> {
    const MOST: ByteLen = ByteLen(4 << 20);
    let image = DiskImage { capacity: MOST, ..DiskImage::new("image", Vec::new()) };
    let mut world = World::new(&[image], Budgets::NONE, 0);
    let program = Prepare { options: options.clone(), filled: filled.to_vec() };
    let limits = Limits { steps: u32::MAX, ..Limits::default() };
    run_once(&mut world, &program, &mut RandomWalk::new(0), limits, &mut |_, _| ());
    world.disk("image").expect("there is one disk").observe_quietly(<[u8]>::to_vec)
}

struct Prepare {
    options: CreateOptions,
    filled: Vec<(ByteRange, u64)>,
}

struct Prepared;

impl Program for Prepare {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = Plain(world.disk("image").expect("there is one disk"));
        let (options, filled) = (self.options.clone(), self.filled.clone());
        world.begin(|runtime: &Runtime| {
            drop(runtime.spawn("prepare", async move {
                let file = ImageFile::Disk(&disk as &dyn Storage);
                create(file, &options).await.expect("it is made");
                let caches = Caches::default();
                let image = Image::open("image", file, caches, false).await.expect("it opens");
                let files = Files::of_disk(&disk);
                for (range, tag) in filled {
                    let mut bytes = vec![0; range.len().as_usize()];
                    data::fill_pattern(tag, range, &mut bytes);
                    image.write(&files, range.start(), bytes.into()).await.expect("it writes");
                }
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
