//! A node, and the one path that every request takes through it.
//!
//! A write-like request of any kind: it is listed, and waits for those that it must not overlap; hooks run; the driver
//! gets it in pieces that it takes; what it may have changed is marked and counted; and its range is released.

mod flush;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use blockyard_bitmap::SharedBitmap;
use blockyard_graph::{DetectZeroes, Discard, NodeOptions, Parent};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::Rarely;
use blockyard_units::{ByteLen, ByteRange, JobId, Mutant, NodeId, UnchangedMarks};

use crate::bitmaps::{BitmapOwner, BitmapState};
use crate::copy_on_read::copy_on_read;
use crate::debug::Debugger;
use crate::driver::{Amended, BackingFile, BlockDriver};
use crate::error::BlockError;
use crate::io::Io;
use crate::pieces::Pieces;
use crate::recording::{ALWAYS_FITS, Bitmaps, Length};
use crate::request::{ReadFlags, Write, WriteKind};
use crate::state::holder_key;
use crate::stats::{Counted, Histogram, Outcome, Stats};
use crate::tracked::{Count, FAR_END, InFlight, LONGEST, Tracked};

/// Runs before a write-like request reaches the driver: after it has waited for those it must not overlap.
pub trait BeforeWrite: Send + Sync {
    /// Does what must precede `write`; an error fails the request.
    fn before<'a>(&'a self, io: &'a Io, write: &'a Write) -> BoxFuture<'a, Result<(), BlockError>>;
}

/// A hook, and the job that it is of, if it is.
type Hook = (Option<JobId>, Arc<dyn BeforeWrite>);

/// A range that a filter keeps to itself; see [`Node::begin_serialising`].
#[must_use = "the range is to be released"]
pub struct Serialised(InFlight);

/// Bytes: what a bitmap's granularity is between, if nobody says it.
const GRANULARITY: (ByteLen, ByteLen) = (ByteLen(4096), ByteLen(65536));

/// How a write comes in: what its edge allows, and the bitmaps of the device, if it comes from one.
pub(crate) struct Through<'a> {
    pub options: NodeOptions,
    /// It may make the node longer.
    pub grows: bool,
    pub device: Option<&'a Arc<Bitmaps>>,
}

/// The end of a write, for bitmaps.
struct Marks {
    number: u64,
    range: ByteRange,
    length: Length,
    /// Those that watch are to know of it.
    observed: bool,
    /// It is to be marked.
    marked: bool,
}

/// A node of the block graph: a driver, its requests in flight, its bitmaps and hooks.
pub struct Node {
    id: NodeId,
    name: String,
    /// Of its edges.
    holder: u64,
    driver: Box<dyn BlockDriver>,
    tracked: Tracked,
    bitmaps: Bitmaps,
    hooks: Rarely<Vec<Hook>>,
    /// Bytes; a write that ends behind it is told once. 0: none is.
    threshold: Rarely<u64>,
    copy_on_read: Rarely<bool>,
}

/// Makes a write as the node's options have it; whether there is anything left to do: a discard may be ignored.
fn make_as_options_say(options: NodeOptions, write: &mut Write) -> bool {
    let NodeOptions { discard, detect_zeroes, .. } = options;
    if detect_zeroes != DetectZeroes::Off && write.is_data_of_zeroes() {
        write.kind = WriteKind::Zeroes;
        write.flags.may_unmap |= detect_zeroes == DetectZeroes::Unmap;
    }
    write.flags.may_unmap &= discard == Discard::Unmap;
    discard == Discard::Unmap || !matches!(write.kind, WriteKind::Discard)
}

/// How a request ended: what it is counted as, where it was, its result, and when it began.
type Ended<'a, T> = (Option<Counted>, ByteRange, &'a Result<T, BlockError>, Option<u64>);

impl Node {
    pub(crate) fn new(id: NodeId, name: String, driver: Box<dyn BlockDriver>) -> Self {
        let holder = holder_key(Parent::Node(id), &name);
        let bitmaps = Bitmaps::new(BitmapOwner::Node(name.clone()));
        Self {
            id,
            name,
            holder,
            driver,
            tracked: Tracked::default(),
            bitmaps,
            hooks: Rarely::default(),
            threshold: Rarely::default(),
            copy_on_read: Rarely::default(),
        }
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its node-name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn holder(&self) -> u64 {
        self.holder
    }

    pub(crate) fn driver(&self) -> &dyn BlockDriver {
        &*self.driver
    }

    /// Whether it shows what its child was, as long as that keeps a way back.
    pub fn looks_back(&self) -> bool {
        self.driver.looks_back()
    }

    /// Who is told of the points that its requests come by, if it is there for tests.
    pub fn debugger(&self) -> Option<&dyn Debugger> {
        self.driver.debugger()
    }

    /// The backing file that it names itself, if it is an image that does.
    pub fn backing_file(&self) -> Option<BackingFile> {
        self.driver.backing_file()
    }

    /// Whether it is an image that can name its backing file.
    pub fn keeps_backing_file(&self) -> bool {
        self.driver.keeps_backing_file()
    }

    /// The file that has its data, if it is an image that names one.
    pub fn data_file(&self) -> Option<String> {
        self.driver.data_file()
    }

    /// Every write-like request through this node is recorded in a job's `bitmap` from its next end on.
    pub fn add_bitmap(&self, job: JobId, bitmap: Arc<SharedBitmap>) {
        self.bitmaps.add_job(job, bitmap);
    }

    /// Nothing is recorded for the job any more.
    pub fn remove_bitmap(&self, job: JobId) {
        self.bitmaps.remove_job(job);
    }

    /// Its bitmaps.
    pub fn bitmaps(&self) -> &Bitmaps {
        &self.bitmaps
    }

    /// Bytes: the granularity of a bitmap of which nobody says it.
    pub fn default_granularity(&self) -> ByteLen {
        let (least, most) = GRANULARITY;
        let cluster = self.driver.cluster_size();
        // What is written at once is no reason to know it so exactly.
        let allocates = cluster > self.driver.limits().alignment();
        if allocates { cluster.clamp(least, most) } else { most }
    }

    /// A clean bitmap, which records if it is `enabled` and consistent. `io`: the node's own view.
    ///
    /// # Errors
    /// Its name is no name or taken, it cannot be of this granularity, or not be stored; nothing has changed.
    pub fn add_named_bitmap(
        &self,
        io: &Io,
        name: &str,
        granularity: ByteLen,
        enabled: bool,
        state: BitmapState,
    ) -> Result<(), BlockError> {
        let len = self.len(io);
        let state = self.state_to_add(io.layer().design(), name, (len, granularity), state)?;
        self.bitmaps.add(name, (len, granularity), enabled, state)
    }

    /// `hook` runs before every write-like request from the next one on; if it is a job's, until that removes it.
    pub fn add_hook(&self, job: Option<JobId>, hook: Arc<dyn BeforeWrite>) {
        self.hooks.write(|hooks| hooks.push((job, hook)));
    }

    /// Nothing runs for the job from the next request on.
    pub fn remove_hooks(&self, job: JobId) {
        self.hooks.write(|hooks| hooks.retain(|(of, _)| *of != Some(job)));
    }

    /// Bytes: what it allocates at once.
    pub fn cluster_size(&self) -> ByteLen {
        self.driver.cluster_size()
    }

    /// The next write that succeeds and ends behind `threshold` bytes is told, once; 0: none.
    pub fn set_write_threshold(&self, threshold: u64) {
        self.threshold.write(|old| *old = threshold);
    }

    /// Bytes; 0 if there is none.
    pub fn write_threshold(&self) -> u64 {
        self.threshold.read(|threshold| *threshold)
    }

    /// Whether reads from the next one on copy up what comes from a backing child, where their edge allows it.
    pub fn set_copy_on_read(&self, on: bool) {
        self.copy_on_read.write(|old| *old = on);
    }

    /// Requests in flight, for the end of a run.
    pub fn in_flight(&self) -> usize {
        self.tracked.count()
    }

    /// What was counted of the requests through this node.
    pub fn stats(&self) -> Stats {
        self.tracked.stats()
    }

    /// Counts durations of requests of these kinds from now on, and of no others.
    pub fn set_histograms(&self, histograms: Vec<(Counted, Histogram)>) {
        self.tracked.set_stats(|stats| stats.set_histograms(histograms));
    }

    /// The length of what it shows. `io`: the node's own view.
    pub fn len(&self, io: &Io) -> ByteLen {
        self.driver.len(io)
    }

    /// Whose bytes are those of its main child, that child checks.
    fn check(&self, io: &Io, range: ByteRange, grows: bool) -> Result<(), BlockError> {
        if range.end() > LONGEST {
            let message = alloc::format!("range {range} is behind {LONGEST}, where all nodes end");
            return Err(BlockError::Invalid(message));
        }
        if self.driver.main_child().is_some() {
            return Ok(());
        }
        let len = self.len(io);
        if range.end() <= len.0 || grows {
            return Ok(());
        }
        let name = &self.name;
        let message = alloc::format!("range {range} is not inside node {name} of {len} bytes");
        Err(BlockError::Invalid(message))
    }

    /// Whether this read copies up. Whose bytes are those of its main child, that child copies them: it sees every
    /// write that the copy must not undo.
    fn copies_on_read(&self, flags: ReadFlags, allowed: bool) -> bool {
        let asked = flags.copy_on_read || flags.prefetch;
        allowed && !flags.by_hook && (asked || self.copy_on_read.read(|on| *on))
    }

    /// Reads. `may_copy`: its holder may write unchanged data.
    pub(crate) async fn read(
        &self,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
        may_copy: bool,
    ) -> Result<IoBuffer, BlockError> {
        self.check(io, range, false)?;
        let pieces = Pieces { driver: &*self.driver, io };
        if flags.by_hook {
            return pieces.read(range, flags).await;
        }
        let flags = ReadFlags { copy_on_read: self.copies_on_read(flags, may_copy), ..flags };
        let own = self.driver.main_child().is_none();
        let copies = flags.copy_on_read && own && io.layer().backing_of(self.id).is_some();
        let cluster = if copies { self.driver.cluster_size() } else { ByteLen(1) };
        let request = self.tracked.list(range.align_outward(cluster), copies);
        if request.waits {
            self.tracked.wait(request, false).await;
        }
        let began_ns = request.timed.then(|| io.layer().runtime().now_ns());
        io.observe_begin();
        let checked = if request.waits { self.check(io, range, false) } else { Ok(()) };
        let mut wrote = false;
        let result = match checked {
            Ok(()) if copies => copy_on_read(pieces, range, flags.prefetch, &mut wrote).await,
            // There is nothing to be fetched.
            Ok(()) if own && flags.prefetch => Ok(IoBuffer::default()),
            Ok(()) => pieces.read(range, flags).await,
            Err(error) => Err(error),
        };
        let leaks = io.layer().design().is_mutant(Mutant::FailedRequestLeaksInFlight);
        if leaks && result.is_err() {
            return result;
        }
        if wrote && io.layer().design().unchanged_marks == UnchangedMarks::Yes {
            self.mark(
                range.align_outward(cluster).intersection(&ByteRange::new(0, self.len(io).0)),
            );
        }
        io.observe_end();
        self.end(io, request, wrote, (Some(Counted::Read), range, &result, began_ns));
        result
    }

    /// A request of its driver about what it was, which nobody's writes change.
    pub(crate) async fn of_snapshot<T>(
        &self,
        io: &Io,
        range: ByteRange,
        asked: impl Future<Output = T>,
    ) -> T {
        let request = self.tracked.list(range, false);
        io.observe_begin();
        let result = asked.await;
        io.observe_end();
        self.tracked.end(request, false, None);
        result
    }

    /// Writes, of every kind.
    pub(crate) async fn write(
        &self,
        io: &Io,
        mut write: Write,
        Through { options, grows, device }: Through<'_>,
    ) -> Result<(), BlockError> {
        if let WriteKind::Data(data) | WriteKind::Compressed(data) = &write.kind {
            assert_eq!(data.len() as u64, write.range.len().0, "data-fills-its-range");
        }
        // What has no use any more makes nothing longer.
        let grows = grows && !matches!(write.kind, WriteKind::Discard);
        let truncates = matches!(write.kind, WriteKind::Truncate(_));
        let grows = truncates || (grows && self.driver.grows(io));
        self.check(io, write.reach(), grows)?;
        if !make_as_options_say(options, &mut write) || write.reach().is_empty() {
            return Ok(());
        }
        let kept = self.kept_to_itself(io, &write);
        let mut request = self.tracked.list(kept.0, kept.1);
        if request.waits {
            request = Box::pin(self.wait_turn(io, &write, kept, request)).await;
        }
        let began_ns = request.timed.then(|| io.layer().runtime().now_ns());
        io.observe_begin();
        let kind = write.kind.counted();
        self.place(io, &mut write);
        let (range, flags) = (write.range, write.flags);
        let copies = matches!(write.kind, WriteKind::Copy(_));
        let design = io.layer().design();
        let marks_early = design.is_mutant(Mutant::MirrorMarksBeforeIo);
        let changes = !flags.unchanged || design.unchanged_marks == UnchangedMarks::Yes;
        if marks_early && changes {
            self.mark(range);
        }
        let mut reached_driver = false;
        let devices = self.devices(io, &write, device);
        let mut ready = if request.waits { self.check(io, write.reach(), grows) } else { Ok(()) };
        if write.reach().end() > ALWAYS_FITS {
            ready = ready.and_then(|()| self.check_bitmaps(write.reach(), &devices));
        }
        let hooks = self.hooks.read(Clone::clone);
        for (_, hook) in hooks {
            if ready.is_ok() {
                ready = hook.before(io, &write).await;
            }
        }
        let result = match ready {
            Ok(()) => {
                reached_driver = true;
                Pieces { driver: &*self.driver, io }.write(write).await
            }
            Err(error) => Err(error),
        };
        let length = match (reached_driver, truncates) {
            (true, true) => Length::Exactly(self.len(io)),
            (true, false) if grows => Length::AtLeast(self.len(io)),
            _ => Length::Kept,
        };
        // What failed behind the end is not there.
        let shown = length.clip(range);
        let copy_skips = copies && design.is_mutant(Mutant::CopyRangeSkipsRequestEnd);
        let skips = result.is_err() && design.is_mutant(Mutant::RequestEndSkipsFailed);
        // A failed write may have changed the disk, so it is marked too.
        let marks = changes && !marks_early && !skips && !copy_skips;
        if reached_driver {
            let (number, observed) = (request.number(), !flags.unchanged);
            let marks = Marks { number, range: shown, length, observed, marked: marks };
            self.tell_bitmaps(io, &marks, &devices);
        }
        if result.is_ok() && kind == Some(Counted::Write) {
            self.look_at_threshold(io, range);
        }
        io.observe_end();
        let wrote = reached_driver && !copy_skips;
        self.end(io, request, wrote, (kind, range, &result, began_ns));
        result
    }

    /// The bitmaps of the devices whose guests see what this write changes, or made it.
    fn devices(&self, io: &Io, write: &Write, from: Option<&Arc<Bitmaps>>) -> Vec<Arc<Bitmaps>> {
        let design = io.layer().design();
        match write.kind {
            WriteKind::Truncate(_) => io.layer().bitmaps_above(self.id),
            WriteKind::Discard if design.is_mutant(Mutant::DeviceBitmapMissesDiscard) => Vec::new(),
            _ => from.cloned().into_iter().collect(),
        }
    }

    /// Whether bitmaps can be as long as this write makes what they are of.
    #[cold]
    fn check_bitmaps(&self, reach: ByteRange, devices: &[Arc<Bitmaps>]) -> Result<(), BlockError> {
        let all = [&self.bitmaps].into_iter().chain(devices.iter().map(|bitmaps| &**bitmaps));
        { all }.try_for_each(|bitmaps| bitmaps.check_len(ByteLen(reach.end())))
    }

    /// A write has ended: the node's bitmaps and the `devices`' are told.
    fn tell_bitmaps(&self, io: &Io, marks: &Marks, devices: &[Arc<Bitmaps>]) {
        let Marks { number, range, length, observed, marked } = *marks;
        let design = io.layer().design();
        let stays = design.is_mutant(Mutant::TruncateLeavesBitmapLimit);
        let kept = if stays { Length::AtLeast(ByteLen(0)) } else { length };
        let longer = !matches!(length, Length::Kept);
        if observed {
            io.observe_write(number, range, length);
        }
        if marked || longer {
            let misses = design.is_mutant(Mutant::DeviceBitmapMissesResize);
            let of_device = if misses { Length::Kept } else { kept };
            let devices = devices.iter().map(|all| (&**all, of_device));
            for (bitmaps, length) in [(&self.bitmaps, kept)].into_iter().chain(devices) {
                let recorders = bitmaps.recorders();
                recorders.iter().for_each(|all| all.write_ended(marked.then_some(range), length));
            }
        }
        if observed {
            io.observe_marked(number);
        }
    }

    /// Waits for those that a listed write must not overlap: what that is may be more when it has waited.
    async fn wait_turn(
        &self,
        io: &Io,
        write: &Write,
        mut kept: (ByteRange, bool),
        mut request: InFlight,
    ) -> InFlight {
        loop {
            let later = io.layer().design().is_mutant(Mutant::MirrorActiveOpsWaitCycle);
            self.tracked.wait(request, later).await;
            if self.kept_to_itself(io, write) == kept {
                return request;
            }
            self.tracked.end(request, false, None);
            kept = self.kept_to_itself(io, write);
            request = self.tracked.list(kept.0, kept.1);
            if !request.waits {
                request.waits = true;
                return request;
            }
        }
    }

    /// What a request keeps others out of, or is kept out of, and which of the two.
    fn kept_to_itself(&self, io: &Io, write: &Write) -> (ByteRange, bool) {
        let (range, limits) = (write.range, self.driver.limits());
        let serialising = write.flags.serialising || self.driver.serialises_writes();
        match &write.kind {
            // Nobody else is to see or change the length meanwhile.
            WriteKind::Truncate(_) => (ByteRange::between(0, FAR_END), true),
            // Some file systems lose what is written behind the end while zeroes make the file longer.
            WriteKind::Zeroes if self.driver.keeps_data() && range.end() > self.len(io).0 => {
                let mutant = Mutant::GrowingZeroesDoNotSerialise;
                let alone = !io.layer().design().is_mutant(mutant);
                (ByteRange::between(range.start(), FAR_END), alone)
            }
            WriteKind::Discard => (range, serialising),
            _ => {
                let aligned = range.align_outward(limits.alignment());
                // What is cut by the end of the node is a whole block only while that is the end.
                let at_end = aligned != range && aligned.end() > self.len(io).0;
                let end = if at_end { FAR_END } else { aligned.end() };
                // The rest of a block is read and written back: nobody must change it meanwhile.
                (ByteRange::between(aligned.start(), end), serialising || aligned != range)
            }
        }
    }

    /// The range of a truncation is what it adds or cuts off, now that nobody else changes the length.
    fn place(&self, io: &Io, write: &mut Write) {
        if let WriteKind::Truncate(truncate) = &write.kind {
            let (old, new) = (self.len(io).0, truncate.len.0);
            write.range = ByteRange::between(old.min(new), old.max(new));
        }
    }

    /// Keeps overlapping requests out of `range`: waits for those in flight, and later ones wait until it is
    /// [ended](Self::end_serialising). For a filter's own copies.
    ///
    /// # Yields
    /// Only if there are any.
    pub async fn begin_serialising(&self, range: ByteRange) -> Serialised {
        let request = self.tracked.list(range, true);
        if request.waits {
            self.tracked.wait(request, false).await;
        }
        Serialised(request)
    }

    /// Lets the requests that waited go on.
    pub fn end_serialising(&self, serialised: Serialised) {
        self.tracked.end(serialised.0, false, None);
    }

    fn end<T>(
        &self,
        io: &Io,
        request: InFlight,
        wrote: bool,
        (kind, range, result, began_ns): Ended<'_, T>,
    ) {
        let took_ns = began_ns.map(|began| io.layer().runtime().now_ns() - began);
        let count = |kind| Count { kind, range, outcome: Outcome::of(result), took_ns };
        self.tracked.end(request, wrote, kind.map(count));
    }

    fn mark(&self, range: ByteRange) {
        let recorders = self.bitmaps.recorders();
        recorders.iter().for_each(|all| all.write_ended(Some(range), Length::Kept));
    }

    fn look_at_threshold(&self, io: &Io, range: ByteRange) {
        let exceeds = |threshold: u64| threshold > 0 && range.end() > threshold;
        if exceeds(self.write_threshold()) {
            let threshold = self.threshold.write(core::mem::take);
            if exceeds(threshold) {
                let exceeded = range.end() - threshold;
                io.layer().tell(|events| events.write_threshold(&self.name, exceeded, threshold));
            }
        }
    }

    /// Has its driver amend what it has opened: in flight like any other request, and one at a time, as each looks at
    /// what the one before has left.
    pub(crate) async fn amend(
        &self,
        io: &Io,
        change: &(dyn Any + Send + Sync),
    ) -> Result<Amended, BlockError> {
        let behind_all_data = ByteRange::between(LONGEST, FAR_END);
        let request = self.tracked.list(behind_all_data, true);
        if request.waits {
            self.tracked.wait(request, false).await;
        }
        io.observe_begin();
        let result = self.driver.amend(io, change).await;
        io.observe_end();
        self.tracked.end(request, false, None);
        result
    }
}
