//! Images over a simulated disk: tasks that use one, what a power loss leaves of it, and who judges that.

mod judge;
mod recovery;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::{Preallocation, ReadFlags, StoredBitmap, Truncate};
use blockyard_models::qcow2::{Bytes, Qcow2, Stopped};
use blockyard_models::{Durability, GuestRegister, Property, Violation, WriteKind, data};
use blockyard_qcow2::{
    AmendOptions, Caches, CheckOptions, CreateOptions, Files, Image, ImageError, ImageFile,
    NewSnapshot, Repair, Zeroes, amend, create, repair,
};
use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_sim::{Counts, Cut, Execution, Finding, Program, Recovery, SimHandle, World};
use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange, Design};

use crate::plain::{Plain, files};

/// Bytes of a cluster.
pub const CLUSTER: u64 = 512;

/// A feature that nobody knows.
pub const AUTOCLEAR: u64 = 1 << 20;

/// Of a bitmap whose granules are as long as a cluster.
pub type Granules = BTreeSet<u64>;

/// The dirty ones.
fn granules(bits: &DirtyBitmap) -> Granules {
    let of = |area: ByteRange| area.start() / CLUSTER..area.end().div_ceil(CLUSTER);
    bits.areas().flat_map(of).collect()
}

/// What a task does, in bytes of the guest's disk.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Write(u64, u64),
    Zeroes(u64, u64),
    Unmap(u64, u64),
    Discard(u64, u64),
    Read(u64, u64),
    Truncate(u64),
    Flush,
    /// Takes a snapshot.
    Snapshot,
    /// Goes back to the snapshot: so many bytes from the beginning on are again what they were filled with.
    Apply(u64),
    /// Deletes it.
    Delete,
    /// Stores the bitmap.
    Store,
}

/// An image and what is done to it.
#[derive(Clone)]
pub struct Images {
    pub design: Design,
    pub caches: Caches,
    /// What had been written when the tasks begin: (where, by which tag).
    pub filled: Arc<Vec<(ByteRange, u64)>>,
    /// Bytes of the guest's disk then.
    pub size: u64,
    /// Each begins when the image is open.
    pub tasks: Arc<Vec<Vec<Op>>>,
    /// Where the guest's data are looked at in the end.
    pub looked_at: Arc<Vec<ByteRange>>,
    /// Faults may have been injected: what failed may leak.
    pub faulty: bool,
    /// The image is made first.
    pub made: Option<CreateOptions>,
    /// The image is repaired, and nothing else is done to it.
    pub is_repaired: bool,
    /// The image is changed so, when it is closed.
    pub amended: Option<AmendOptions>,
    /// The data are on the disk `data`.
    pub external: bool,
    /// A bitmap is stored with the image, in which these granules were dirty when the tasks begin.
    pub bitmap: Option<Granules>,
    /// A feature is set that nobody knows, and that whoever changes the image without knowing it clears.
    pub has_autoclear: bool,
    /// A write finds that it would damage a structure.
    pub is_found_corrupt: bool,
}

impl Images {
    /// How to find what an image says was changed, if it vouches for that.
    fn vouched(&self) -> fn(&Qcow2, &mut Bytes<'_>) -> Result<Option<Granules>, Stopped> {
        match self.bitmap {
            Some(_) => judge::stored_bitmap,
            // As long as the feature is set, nothing was.
            None => |image, _| Ok((image.autoclear & AUTOCLEAR != 0).then(Granules::new)),
        }
    }
}

/// What was observed of the tasks, and of recovery.
struct Observed {
    register: GuestRegister,
    durability: Durability,
    /// Lengths: what the disk was to have, when that began, and when it ended well.
    lens: Vec<(u64, u32, Option<u32>)>,
    operations: u64,
    /// When the image was there, or in order.
    made: Option<u32>,
    /// When somebody was told that it is corrupt.
    corrupt: Option<u32>,
    /// What recovery came to.
    found: Option<Found>,
    /// What has been dirty in the bitmap whenever it was stored.
    stored: Vec<Granules>,
}

/// What recovery looked at, of what a power loss left.
enum Found {
    Nothing,
    /// It could not open the image, or read it.
    Unreadable(ImageError),
    /// The structures: how many clusters have leaked.
    Checked(Result<u64, Violation>),
    /// Whether the image says that it is corrupt.
    Marked(bool),
    /// The structures of one that was to be repaired, and whether it says that they may be wrong.
    Repaired {
        is_dirty: bool,
        checked: Result<u64, Violation>,
    },
    /// The bitmap that is stored, and which granules are other than they were in the beginning.
    Bitmap {
        dirty: Granules,
        changed: Granules,
    },
    /// The guest's disk had this length, and these bytes at `range` when it was as long as ever.
    Read {
        len: u64,
        range: ByteRange,
        bytes: IoBuffer,
    },
}

#[derive(Clone)]
struct Tools {
    program: Images,
    runtime: Runtime,
    handle: SimHandle,
    disk: Arc<Plain>,
    /// With the data, if they are on a disk of their own.
    data: Option<Arc<Plain>>,
    /// Orders invocations and responses of overlapping requests: an invocation reads, a response adds.
    order: Arc<Shared<()>>,
    observed: Arc<Quiet<Observed>>,
}

// Programs are shared between executions of one thread only.
struct Actors {
    image: Arc<Image>,
    disk: Arc<Plain>,
    data: Option<Arc<Plain>>,
    handle: SimHandle,
    order: Arc<Shared<()>>,
    observed: Arc<Quiet<Observed>>,
    /// What was stored, and what was written since.
    bitmap: Quiet<Option<DirtyBitmap>>,
}

impl Actors {
    fn invoke(&self, range: ByteRange, invoke: impl FnOnce(&mut Observed, u64, u32)) -> u64 {
        let now = self.handle.observe_step();
        self.order.trusted([(Kind::Read, range.start(), range.end())], |()| {
            self.observed.with(|observed| {
                observed.operations += 1;
                let number = observed.operations;
                invoke(observed, number, now);
                number
            })
        })
    }

    fn respond(
        &self,
        range: ByteRange,
        respond: impl FnOnce(&mut Observed, u32) -> Result<(), Violation>,
    ) {
        let now = self.handle.observe_step();
        let judged = self.order.trusted([(Kind::Add, range.start(), range.end())], |()| {
            self.observed.with(|observed| respond(observed, now))
        });
        if let Err(violation) = judged {
            self.handle.report(finding(violation));
        }
    }

    async fn run(&self, op: Op, tag: u64) {
        let whole = ByteRange::between(0, u64::MAX);
        match op {
            // A disk that could not become longer.
            Op::Write(at, len) if at + len > self.image.len().0 => {}
            Op::Write(at, len) => {
                let range = ByteRange::new(at, len);
                let mut bytes = vec![0; len as usize];
                data::fill_pattern(tag, range, &mut bytes);
                let files = self.files();
                let write = self.image.write(&files, at, bytes.into());
                self.change(range, tag, WriteKind::Cached, write).await;
            }
            Op::Zeroes(at, len) | Op::Unmap(at, len) => {
                let range = ByteRange::new(at, len);
                let may_unmap = matches!(op, Op::Unmap(..));
                let files = self.files();
                let how = Zeroes { may_unmap, no_fallback: false };
                let zeroes = self.image.write_zeroes(&files, range, how);
                self.change(range, 0, WriteKind::Cached, zeroes).await;
            }
            Op::Discard(at, len) => {
                let range = ByteRange::new(at, len);
                let files = self.files();
                self.change(range, 0, WriteKind::Discard, self.image.discard(&files, range)).await;
            }
            Op::Truncate(len) => self.truncate(len).await,
            Op::Read(at, len) => {
                self.read(ByteRange::new(at, len)).await;
            }
            Op::Snapshot => {
                let new = NewSnapshot { name: "s".into(), ..NewSnapshot::default() };
                // Whether it is there is seen when it is used.
                let _taken = self.image.create_snapshot(&self.files(), new).await;
            }
            Op::Delete => {
                let _deleted = self.image.delete_snapshot(&self.files(), "s").await;
            }
            Op::Apply(len) => {
                let files = self.files();
                let range = ByteRange::new(0, len);
                let apply = self.image.apply_snapshot(&files, "s");
                self.change(range, 1, WriteKind::Fua, apply).await;
            }
            Op::Store => drop(self.store().await),
            Op::Flush => {
                let number = self.invoke(whole, |observed, number, now| {
                    observed.durability.begin_flush(number, now);
                });
                let well = self.image.flush(&self.files()).await.is_ok();
                let now = self.handle.observe_step();
                self.observed.with(|observed| observed.durability.end(number, well, now));
            }
        }
    }

    fn files(&self) -> Files<'_> {
        files(&self.disk, self.data.as_deref())
    }

    /// A request that writes data of `tag`.
    async fn change(
        &self,
        range: ByteRange,
        tag: u64,
        kind: WriteKind,
        request: impl Future<Output = Result<(), ImageError>>,
    ) {
        let number = self.invoke(range, |observed, number, now| {
            match (kind, tag) {
                (WriteKind::Discard, _) => observed.register.invoke_discard(number, range),
                (_, 0) => observed.register.invoke_write_zeroes(number, range),
                _ => observed.register.invoke_write(number, range, tag),
            }
            observed.durability.begin_write(number, range, tag, kind, now);
        });
        let well = request.await.is_ok();
        if self.image.is_corrupt() {
            let now = self.handle.observe_step();
            self.observed.with(|observed| *observed.corrupt.get_or_insert(now));
        }
        self.bitmap.with(|bitmap| bitmap.as_mut().map_or((), |bitmap| bitmap.mark(range)));
        self.respond(range, |observed, now| {
            observed.durability.end(number, well, now);
            observed.register.respond_write(number, well)
        });
    }

    /// Stores the bitmap, if there is one.
    async fn store(&self) -> Result<(), ImageError> {
        let Some(bits) = self.bitmap.with(|bitmap| bitmap.clone()) else { return Ok(()) };
        self.observed.with(|observed| observed.stored.push(granules(&bits)));
        let stored = StoredBitmap { name: "b".into(), bits, inconsistent: false };
        self.image.store_bitmaps(&self.files(), &[stored]).await
    }

    async fn close(&self) -> Result<(), ImageError> {
        self.store().await?;
        self.image.close(&self.files()).await
    }

    /// What a disk loses that becomes shorter is zero if it becomes longer again, and lasts without a flush.
    async fn truncate(&self, len: u64) {
        let old = self.image.len().0;
        let began = self.handle.observe_step();
        let index = self.observed.with(|observed| {
            observed.lens.push((len, began, None));
            observed.lens.len() - 1
        });
        let range = ByteRange::between(len.min(old), old);
        let truncate = Truncate { len: ByteLen(len), preallocation: Preallocation::Off };
        let files = self.files();
        let mut well = false;
        let request = async {
            let done = self.image.truncate(&files, truncate).await;
            well = done.is_ok();
            done
        };
        self.change(range, 0, WriteKind::Fua, request).await;
        let now = self.handle.observe_step();
        self.observed.with(|observed| observed.lens[index].2 = well.then_some(now));
    }

    /// What the guest sees stays, but for the length.
    async fn amend(&self, options: &AmendOptions, program: &Images) {
        let Images { caches, design, faulty, .. } = *program;
        let began = self.handle.observe_step();
        if let Some(size) = options.size {
            self.observed.with(|observed| observed.lens.push((size, began, None)));
        }
        let amended = amend(&self.files(), options, caches, design).await;
        assert!(amended.is_ok() || faulty, "{amended:?}");
        let now = self.handle.observe_step();
        if options.size.is_some() && amended.is_ok() {
            self.observed.with(|observed| {
                observed.lens.last_mut().expect("it was listed").2 = Some(now);
            });
        }
    }

    async fn read(&self, range: ByteRange) {
        let number = self.invoke(range, |observed, number, _| {
            observed.register.invoke_read(number, range);
        });
        let read = self.image.read(&self.files(), range, ReadFlags::default()).await;
        self.respond(range, |observed, _| match read {
            Ok(read) => observed.register.respond_read(number, &read),
            Err(_) => observed.register.respond_failed(number),
        });
    }
}

fn finding(violation: Violation) -> Finding {
    Finding { property: violation.property.word().into(), message: violation.message }
}

impl Tools {
    async fn open(&self) -> Result<Image, ImageError> {
        let file = ImageFile::Disk(&*self.disk);
        let image = Image::open("image", file, self.program.caches, false).await?;
        Ok(image.with_design(self.program.design))
    }

    /// Opens the image, runs the tasks, looks at everything, and closes.
    async fn main(self, tasks: Vec<Vec<Op>>, looked_at: Vec<ByteRange>) {
        if let Some(options) = &self.program.made {
            let options = CreateOptions { design: self.program.design, ..options.clone() };
            let made = create(&files(&self.disk, self.data.as_deref()), &options).await;
            let now = made.is_ok().then(|| self.handle.observe_step());
            self.observed.with(|observed| observed.made = now);
        }
        if self.program.is_repaired {
            let (file, options) = (ImageFile::Disk(&*self.disk), CheckOptions::default());
            let repaired = repair(file, None, Repair::All, options, &mut |_| true).await;
            let now = repaired.is_ok().then(|| self.handle.observe_step());
            return self.observed.with(|observed| observed.made = now);
        }
        // Whoever cannot open it does nothing to it.
        let Ok(image) = self.open().await else { return };
        let Tools { disk, data, handle, order, observed, .. } = self.clone();
        if image.clear_autoclear(ImageFile::Disk(&*disk)).await.is_err() {
            return;
        }
        let loaded = image.load_bitmaps(&files(&disk, data.as_deref())).await;
        let Ok(mut loaded) = loaded else { return };
        let bitmap = Quiet::new(loaded.pop().map(|stored| stored.bits));
        let image = Arc::new(image);
        let actors = Arc::new(Actors { image, disk, data, handle, order, observed, bitmap });
        let mut ends = Vec::new();
        for (number, ops) in (0..).zip(tasks) {
            let actors = actors.clone();
            ends.push(self.runtime.spawn(format!("task{number}"), async move {
                for (index, op) in (0..).zip(ops) {
                    actors.run(op, 1000 * (number + 1) + index).await;
                }
            }));
        }
        for end in ends {
            end.join().await;
        }
        for range in looked_at {
            let range = range.intersection(&ByteRange::new(0, actors.image.len().0));
            if !range.is_empty() {
                actors.read(range).await;
            }
        }
        if let Some(overlap) = actors.image.take_overlap()
            && !self.program.is_found_corrupt
        {
            actors.handle.report(finding(judge::broken(overlap.to_string())));
        }
        // One fault may hit the first try.
        if actors.close().await.is_err() {
            let _second = actors.close().await;
        }
        if let Some(options) = &self.program.amended {
            actors.amend(options, &self.program).await;
        }
    }
}

/// An execution, or its recovery.
struct Run {
    tools: Tools,
    recovers: bool,
}

impl Program for Images {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let mut register = GuestRegister::new("disk");
        let mut durability = Durability::new("disk");
        for (range, tag) in &*self.filled {
            register.fill(*range, *tag);
            durability.fill(*range, *tag);
        }
        let lens = vec![(self.size, 0, Some(0))];
        let stored = self.bitmap.iter().cloned().collect();
        let (operations, made, corrupt, found) = (0, None, None, None);
        let observed =
            Observed { register, durability, lens, operations, made, corrupt, found, stored };
        let handle = world.handle();
        let observed = Arc::new(Quiet::new(observed));
        let disk = Arc::new(Plain(world.disk("image").expect("there is one disk")));
        let data = self.external.then(|| world.disk("data").expect("there is another disk"));
        let data = data.map(|data| Arc::new(Plain(data)));
        let tools = world.begin(|runtime| {
            let (program, runtime, order) = (self.clone(), runtime.clone(), Arc::default());
            let tools = Tools { program, runtime, handle, disk, data, order, observed };
            let main = tools.clone().main((*self.tasks).clone(), (*self.looked_at).clone());
            drop(tools.runtime.spawn("main", main));
            tools
        });
        Box::new(Run { tools, recovers: false })
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        if let [task, ..] = &*world.unfinished() {
            let message = format!("{task} never ends");
            return Some(Finding { property: "progress".into(), message });
        }
        let judged =
            if self.recovers { self.judge_recovery(&world.cut()) } else { self.judge_end() };
        judged.err().map(finding)
    }

    fn digest(&self, world: &World) -> u64 {
        world.disk_digests().iter().fold(0, |digest, hash| digest.rotate_left(7) ^ hash)
    }

    fn counts(&self) -> Counts {
        let states = u64::from(self.recovers);
        Counts::from([("crash states".into(), [states, 0, 0])])
    }

    fn recovery(&self) -> Option<Recovery<'_>> {
        Some(Box::new(|world| {
            let looked_at = (*self.tools.program.looked_at).clone();
            world.begin(|runtime| {
                drop(runtime.spawn("recovery", self.tools.clone().recover(looked_at)));
            });
            Box::new(Run { tools: self.tools.clone(), recovers: true })
        }))
    }
}
