//! Images over a simulated disk: tasks that use one, what a power loss leaves of it, and who judges that.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockyard_block::{Preallocation, ReadFlags, Truncate};
use blockyard_models::qcow2::{Qcow2, Stopped};
use blockyard_models::{Durability, GuestRegister, Property, Violation, WriteKind, data};
use blockyard_qcow2::{
    Caches, CreateOptions, Files, Image, ImageError, ImageFile, NewSnapshot, Zeroes, create,
};
use blockyard_runtime::{BoxFuture, Io, IoBuffer, Runtime, Storage};
use blockyard_sim::{
    Counts, Cut, Execution, Finding, Program, Recovery, SimDisk, SimHandle, World,
};
use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange, Design};

/// Bytes of a cluster.
pub const CLUSTER: u64 = 512;

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
    /// The data are on the disk `data`.
    pub external: bool,
}

/// A disk that has no fast way to make zeroes, and leaves rubbish where something was discarded.
pub struct Plain(pub SimDisk);

impl Storage for Plain {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn len(&self) -> ByteLen {
        self.0.len()
    }
    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        self.0.read(range)
    }
    fn write(&self, offset: u64, data: IoBuffer, fua: bool) -> BoxFuture<'static, Io<()>> {
        self.0.write(offset, data, fua)
    }
    fn discard(&self, range: ByteRange) -> BoxFuture<'static, Io<()>> {
        self.0.write(range.start(), vec![0xdd; range.len().as_usize()].into(), false)
    }
    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        self.0.flush()
    }
    fn truncate(&self, len: ByteLen, reserve: bool) -> BoxFuture<'static, Io<()>> {
        self.0.truncate(len, reserve)
    }
}

/// What was observed of the tasks, and of recovery.
struct Observed {
    register: GuestRegister,
    durability: Durability,
    /// Lengths: what the disk was to have, when that began, and when it ended well.
    lens: Vec<(u64, u32, Option<u32>)>,
    operations: u64,
    /// When the image was there.
    made: Option<u32>,
    /// What recovery came to.
    found: Option<Found>,
}

/// What recovery looked at, of what a power loss left.
enum Found {
    Nothing,
    /// It could not open the image, or read it.
    Unreadable(ImageError),
    /// The structures: how many clusters have leaked.
    Checked(Result<u64, Violation>),
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
        self.respond(range, |observed, now| {
            observed.durability.end(number, well, now);
            observed.register.respond_write(number, well)
        });
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

/// What an image on `disk` reaches, with its data on another disk if there is one.
pub fn files<'a>(disk: &'a Plain, data: Option<&'a Plain>) -> Files<'a> {
    let data = ImageFile::Disk(data.unwrap_or(disk));
    Files { data, ..Files::of_disk(disk) }
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
        // Whoever cannot open it does nothing to it.
        let Ok(image) = self.open().await else { return };
        let Tools { disk, data, handle, order, observed, .. } = self.clone();
        let image = Arc::new(image);
        let actors = Arc::new(Actors { image, disk, data, handle, order, observed });
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
        // One fault may hit the first try.
        if actors.image.close(&actors.files()).await.is_err() {
            let _second = actors.image.close(&actors.files()).await;
        }
    }

    /// Looks at one thing, whichever: so that what a power loss left of the others needs no decision.
    async fn recover(self, looked_at: Vec<ByteRange>) {
        let things = u32::try_from(looked_at.len() + 1).expect("tests are small");
        let thing = self.runtime.choose(things).await;
        let found = match thing.checked_sub(1) {
            None => self.check().await,
            Some(index) => self.look(looked_at[index as usize]).await,
        };
        let found = found.unwrap_or_else(Found::Unreadable);
        self.observed.with(|observed| observed.found = Some(found));
    }

    async fn check(&self) -> Result<Found, ImageError> {
        // The image opens.
        self.open().await?;
        let mut known = BTreeMap::new();
        loop {
            let mut bytes = |range: ByteRange| known.get(&(range.start(), range.end())).cloned();
            match Qcow2::of(&mut bytes).and_then(|image| image.check(&mut bytes)) {
                Ok(leaks) => return Ok(Found::Checked(Ok(leaks))),
                Err(Stopped::Broken(violation)) => return Ok(Found::Checked(Err(violation))),
                Err(Stopped::Unread(range)) => {
                    let inside = range.intersection(&ByteRange::new(0, self.disk.len().0));
                    let mut read = Vec::new();
                    if !inside.is_empty() {
                        // A fault may hit recovery, which then says nothing.
                        let Ok(bytes) = self.disk.read(inside).await else {
                            return Ok(Found::Nothing);
                        };
                        read.extend_from_slice(&bytes);
                    }
                    read.resize(range.len().as_usize(), 0);
                    known.insert((range.start(), range.end()), read);
                }
            }
        }
    }

    async fn look(&self, range: ByteRange) -> Result<Found, ImageError> {
        let image = self.open().await?;
        let files = files(&self.disk, self.data.as_deref());
        let len = image.len().0;
        if len < range.end() {
            let len = ByteLen(range.end().next_multiple_of(CLUSTER));
            let truncate = Truncate { len, preallocation: Preallocation::Off };
            image.truncate(&files, truncate).await?;
        }
        let bytes = image.read(&files, range, ReadFlags::default()).await?;
        Ok(Found::Read { len, range, bytes })
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
        let observed =
            Observed { register, durability, lens, operations: 0, made: None, found: None };
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

impl Run {
    /// The image was closed: it is in order, and has no leak unless something failed.
    fn judge_end(&self) -> Result<(), Violation> {
        let is_made = self.tools.observed.with(|observed| observed.made.is_some());
        if self.tools.program.made.is_some() && !is_made {
            return Ok(());
        }
        let checked = self.tools.disk.0.observe_quietly(|disk| {
            let mut bytes = |range: ByteRange| {
                let [from, to] =
                    [range.start(), range.end()].map(|at| (at as usize).min(disk.len()));
                let mut bytes = disk[from..to].to_vec();
                bytes.resize(range.len().as_usize(), 0);
                Some(bytes)
            };
            Qcow2::of(&mut bytes).and_then(|image| image.check(&mut bytes))
        });
        match checked {
            Err(Stopped::Broken(violation)) => Err(violation),
            Err(Stopped::Unread(range)) => unreachable!("everything is read, {range} too"),
            Ok(leaks) if leaks > 0 && !self.tools.program.faulty => {
                Err(broken(format!("{leaks} clusters have leaked, and nothing failed")))
            }
            Ok(_) => Ok(()),
        }
    }

    fn judge_recovery(&self, cut: &Cut) -> Result<(), Violation> {
        let happened = |step: u32| cut.contains(step);
        self.tools.observed.with(|observed| match observed.found.take() {
            // A fault may hit recovery.
            None | Some(Found::Nothing) => Ok(()),
            Some(Found::Unreadable(ImageError::File(_))) => Ok(()),
            // It was not there yet.
            Some(Found::Unreadable(ImageError::Unsupported(_)))
                if self.tools.program.made.is_some() && !observed.made.is_some_and(happened) =>
            {
                Ok(())
            }
            Some(Found::Unreadable(error)) => Err(broken(error.to_string())),
            Some(Found::Checked(checked)) => checked.map(drop),
            Some(Found::Read { len, range, bytes }) => {
                observed.judge_len(len, &happened)?;
                let (inside, behind) = bytes
                    .split_at((len.clamp(range.start(), range.end()) - range.start()) as usize);
                if behind.iter().any(|byte| *byte != 0) {
                    let message =
                        format!("behind the end at {len} the disk grows by what was there");
                    return Err(Violation { property: Property::Durability, message });
                }
                let inside_range = ByteRange::new(range.start(), inside.len() as u64);
                observed.durability.check(inside_range, inside, &happened)
            }
        })
    }
}

fn broken(message: String) -> Violation {
    Violation { property: Property::MetadataIntegrity, message }
}

impl Observed {
    /// The length is the last one that was promised, or one that came later.
    fn judge_len(&self, len: u64, happened: &dyn Fn(u32) -> bool) -> Result<(), Violation> {
        let promised = |(_, _, ended): &(u64, u32, Option<u32>)| ended.is_some_and(happened);
        let last = self.lens.iter().rposition(promised).unwrap_or(0);
        if self.lens[last..].iter().any(|(later, ..)| *later == len) {
            return Ok(());
        }
        let message = format!("the disk has {len} bytes, and {} were promised", self.lens[last].0);
        Err(Violation { property: Property::Durability, message })
    }
}
