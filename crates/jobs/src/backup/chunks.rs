//! What a backup has still to save, chunk by chunk; who saves it, and who waits for that.
//!
//! | to save | read | |
//! |---|---|---|
//! | 1 | 0 | to be saved, and untouched |
//! | 0 | 1 | somebody reads it |
//! | 0 | 0 | it is read, or saved, or none of this backup's |
//! | 1 | 1 | impossible |
//!
//! Invariant `taken-in-one-step`: a chunk leaves the first state for the second in one step. That a guest waits for it
//! is written in the list of those who wait, and never at the chunk: so nobody forgets it there. What is read, and for
//! which no guest waits any more, is never to be saved again: when its wait is over, a guest may write.
//!
//! Source: "new backup architecture" (qemu-devel, December 2016).

use alloc::vec::Vec;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::BlockError;
use blockyard_sync::{Shared, first_of, sometimes};
use blockyard_units::{ByteLen, ByteRange};

use crate::flight::Failed;

/// Where what a snapshot shows is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Not written since: guests wait until this look at it is over, which has this number.
    Source(u64),
    Target,
}

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A guest's write: that what it overwrites is read, or in the target where that is needed.
    Saved,
    /// A guest's write that saves it itself: that nobody else does.
    Untaken,
    /// A look back: that what is read is in the target.
    Written,
}

/// A request that waits.
struct Waiter {
    number: u64,
    range: ByteRange,
    until: Until,
    /// What it waits for could not be saved.
    failed: Option<BlockError>,
}

/// A chunk that somebody saves.
struct Taken {
    range: ByteRange,
    /// It is read, and being written.
    is_read: bool,
    /// For a request, which waits for all of it: the job may rest meanwhile.
    covered: bool,
    /// It has failed, and is not tried again yet.
    parked: bool,
}

struct State {
    todo: DirtyBitmap,
    /// All that the backup is about.
    all: DirtyBitmap,
    /// A guest may write when the target has what it overwrites, and not when that is read.
    whole: bool,
    /// For a mutant: what is copied at once is as long as it may be, whether it is to be saved or not.
    recopies: bool,
    taken: Vec<Taken>,
    waiters: Vec<Waiter>,
    looks: Vec<(u64, ByteRange)>,
    /// Whole writes that the old way keeps apart.
    apart: Vec<(u64, ByteRange)>,
    numbers: u64,
    /// The job rests, or is about to: whoever has a chunk saved waits for all of that.
    rests: bool,
    /// So many chunks may be taken that nobody waits for.
    allowed: u64,
    /// Bytes of those that were saved since somebody asked.
    done: u64,
    failed: Vec<Failed>,
    /// How often those that failed were to try again.
    again: u64,
    workers: usize,
    /// Workers are to end.
    stops: bool,
    /// What was saved is not what the source was.
    void: Option<BlockError>,
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Whether a guest's write to `range` has to wait for it.
    fn keeps(&self, taken: &Taken, range: ByteRange) -> bool {
        taken.range.overlaps(&range) && (self.whole || self.rests || !taken.is_read)
    }

    /// Whether a guest may write there.
    fn is_free(&self, range: ByteRange) -> bool {
        let looked_at = self.looks.iter().any(|(_, look)| look.overlaps(&range));
        let kept = || self.taken.iter().any(|taken| self.keeps(taken, range));
        let saved = !self.todo.dirty_in(range) && !kept();
        !looked_at && (saved || self.void.is_some())
    }

    fn is_taken(&self, range: ByteRange) -> bool {
        self.taken.iter().any(|taken| taken.range.overlaps(&range))
    }

    fn taken(&mut self, chunk: ByteRange) -> &mut Taken {
        let taken = self.taken.iter_mut().find(|taken| taken.range == chunk);
        taken.expect("a-chunk-that-is-saved-was-taken")
    }

    fn waits_for(&self, waiter: &Waiter, taken: &Taken) -> bool {
        waiter.failed.is_none()
            && match waiter.until {
                Until::Saved => self.keeps(taken, waiter.range),
                Until::Untaken => taken.range.overlaps(&waiter.range),
                Until::Written => taken.is_read && taken.range.overlaps(&waiter.range),
            }
    }

    /// The requests that wait for this chunk, which is taken.
    fn waiters_for(&self, chunk: ByteRange) -> Vec<u64> {
        let Some(taken) = self.taken.iter().find(|taken| taken.range == chunk) else {
            return Vec::new();
        };
        let waiters = self.waiters.iter().filter(|waiter| self.waits_for(waiter, taken));
        waiters.map(|waiter| waiter.number).collect()
    }

    fn begin_to_wait(&mut self, range: ByteRange, until: Until) -> u64 {
        let number = self.number();
        self.waiters.push(Waiter { number, range, until, failed: None });
        number
    }

    fn waiter(&self, number: u64) -> &Waiter {
        let waiter = self.waiters.iter().find(|waiter| waiter.number == number);
        waiter.expect("who-waits-is-listed")
    }

    fn end_wait(&mut self, number: u64) -> Result<(), BlockError> {
        let index = self.waiters.iter().position(|waiter| waiter.number == number);
        let waiter = self.waiters.remove(index.expect("who-waits-is-listed"));
        waiter.failed.map_or(Ok(()), Err)
    }

    /// Takes the first that is to be saved within `range`, and of its neighbours as many as there is room for.
    fn take(&mut self, range: ByteRange, most: ByteLen, for_request: bool) -> Option<ByteRange> {
        let granularity = self.todo.granularity();
        let within = range.align_outward(granularity);
        let most = ByteLen(most.0 & !(granularity.0 - 1)).max(granularity);
        let mut chunk = self.todo.next_dirty_area(within, most)?;
        if self.recopies {
            let len = ByteRange::new(0, self.todo.disk_len().0);
            chunk = ByteRange::new(chunk.start(), most.0).intersection(&len);
        }
        self.todo.reset(chunk).expect("a-chunk-is-aligned");
        assert!(!self.is_taken(chunk), "taken-in-one-step: {chunk} is saved twice");
        let covered = for_request && self.rests;
        self.taken.push(Taken { range: chunk, is_read: false, covered, parked: false });
        Some(chunk)
    }

    /// Whether workers are to save what it waits for.
    fn needs_worker(&self, waiter: &Waiter) -> bool {
        let waits = waiter.until == Until::Saved && waiter.failed.is_none();
        waits && self.todo.dirty_in(waiter.range)
    }

    fn has_work(&self) -> bool {
        self.stops
            || self.waiters.iter().any(|waiter| self.needs_worker(waiter))
            || (self.allowed > 0 && self.todo.count() > 0)
    }

    /// The guest that waits longest goes first.
    fn take_work(&mut self, most: ByteLen) -> Option<ByteRange> {
        if self.stops {
            return None;
        }
        if let Some(waiter) = self.waiters.iter().find(|waiter| self.needs_worker(waiter)) {
            let (range, rests) = (waiter.range, self.rests);
            sometimes!(true, "a worker saved what a guest waits for");
            sometimes!(rests, "a worker saved what a guest waits for while its job rests");
            return self.take(range, ByteLen(0), true);
        }
        self.allowed = self.allowed.saturating_sub(1);
        let everything = ByteRange::new(0, self.todo.disk_len().0);
        self.take(everything, most, false)
    }

    fn end(&mut self, chunk: ByteRange) {
        self.taken.retain(|taken| taken.range != chunk);
    }

    fn put_back(&mut self, chunk: ByteRange) {
        self.end(chunk);
        self.todo.mark(chunk);
        // Whether the job had taken it is forgotten: one more does no harm.
        self.allowed = self.allowed.saturating_add(u64::from(!self.rests));
    }

    fn left(&self) -> u64 {
        let taken: u64 = self.taken.iter().map(|taken| taken.range.len().0).sum();
        self.todo.dirty_bytes().0 + taken
    }
}

/// See the file head.
pub(super) struct Chunks(Shared<State>);

/// What has come to pass since this was asked.
pub(super) struct News {
    pub done: ByteLen,
    pub left: ByteLen,
    pub failed: Vec<Failed>,
    pub void: Option<BlockError>,
}

impl Chunks {
    /// Of a disk that the bitmap describes; nothing is to be saved yet. `whole`: guests wait until the target has what
    /// they overwrite, and not only until that is read.
    pub fn new(todo: DirtyBitmap, whole: bool, recopies: bool) -> Self {
        let all = todo.clone();
        Self(Shared::new(State {
            todo,
            all,
            whole,
            recopies,
            taken: Vec::new(),
            waiters: Vec::new(),
            looks: Vec::new(),
            apart: Vec::new(),
            numbers: 0,
            rests: false,
            allowed: 0,
            done: 0,
            failed: Vec::new(),
            again: 0,
            workers: 0,
            stops: false,
            void: None,
        }))
    }

    /// This is what the backup is about; before anything is saved.
    pub fn begin_with(&self, begin: impl FnOnce(&mut DirtyBitmap)) {
        self.0.write(|state| {
            state.todo.clear();
            begin(&mut state.todo);
            state.all = state.todo.clone();
        });
    }

    /// What was found not to belong to it, unless somebody saves it; whole chunks.
    pub fn leave_out(&self, range: ByteRange) {
        self.0.write(|state| {
            state.todo.reset_inward(range);
            state.all.reset_inward(range);
        });
    }

    /// Takes the first chunks that are to be saved and lie inside `range`, for the job.
    pub fn take_inside(&self, range: ByteRange, most: ByteLen) -> Option<ByteRange> {
        self.0.write(|state| {
            let (granularity, len) = (state.todo.granularity(), state.todo.disk_len().0);
            let inside = range.align_inward(granularity, len);
            if inside.is_empty() { None } else { state.take(inside, most, false) }
        })
    }

    /// How many chunks may be taken from now on that no guest waits for.
    pub fn allow(&self, chunks: u64) {
        self.0.write(|state| state.allowed = chunks);
    }

    /// Those that failed try again.
    pub fn try_again(&self) {
        self.0.write(|state| state.again += 1);
    }

    /// Whether nothing is to be saved any more, or being saved.
    pub fn is_done(&self) -> bool {
        self.0.read(|state| state.todo.count() == 0 && state.taken.is_empty())
    }

    /// The job is about to rest: waits until all that is saved is for requests which wait for all of it.
    ///
    /// # Yields
    /// If it has to wait.
    pub async fn begin_to_rest(&self) {
        self.0.write(|state| (state.rests, state.allowed) = (true, 0));
        let at_rest = |state: &State| state.taken.iter().all(|taken| taken.covered || taken.parked);
        if !self.0.read(at_rest) {
            self.0.wait_until(at_rest).await;
        }
    }

    /// The job goes on.
    pub fn end_rest(&self) {
        self.0.write(|state| {
            state.rests = false;
            state.taken.iter_mut().for_each(|taken| taken.covered = false);
        });
    }

    /// What has come to pass.
    pub fn take_news(&self) -> News {
        self.0.write(|state| News {
            done: ByteLen(core::mem::take(&mut state.done)),
            left: ByteLen(state.left()),
            failed: core::mem::take(&mut state.failed),
            void: state.void.clone(),
        })
    }

    /// Waits for news.
    ///
    /// # Yields
    /// Always.
    pub async fn wait_news(&self) {
        let news =
            |state: &State| state.done > 0 || !state.failed.is_empty() || state.void.is_some();
        self.0.wait_until(news).await;
    }

    /// One more worker.
    pub fn worker_begins(&self) {
        self.0.write(|state| state.workers += 1);
    }

    /// It has ended.
    pub fn worker_ends(&self) {
        self.0.write(|state| state.workers -= 1);
    }

    /// Waits until workers have ended. `void`: because nothing comes of it.
    ///
    /// # Yields
    /// Always.
    pub async fn stop(&self, void: Option<BlockError>) {
        self.0.write(|state| {
            state.stops = true;
            state.void = state.void.take().or(void);
        });
        self.0.wait_until(|state| state.workers == 0).await;
    }

    /// The next chunk that a worker saves; none, if it is to end.
    ///
    /// # Yields
    /// Always.
    pub async fn wait_for_work(&self, most: ByteLen) -> Option<ByteRange> {
        self.0.wait_for(State::has_work, move |state| state.take_work(most)).await
    }

    /// A chunk is read.
    pub fn is_read(&self, chunk: ByteRange) {
        self.0.write(|state| state.taken(chunk).is_read = true);
    }

    /// A chunk is saved.
    pub fn is_saved(&self, chunk: ByteRange) {
        self.0.write(|state| {
            state.end(chunk);
            state.done += chunk.len().0;
        });
    }

    /// A chunk is to be saved as before.
    pub fn put_back(&self, chunk: ByteRange) {
        self.0.write(|state| state.put_back(chunk));
    }

    /// A worker has failed. If guests' writes wait for the chunk, that is for them, or for the backup: `breaks_guests`;
    /// and the chunk is to be saved as before. If it is longer than a granule, none of them fails: what they wait for
    /// is tried by itself. If no guest waits the worker does, and is told whether to try again: it is to as soon as
    /// somebody waits.
    ///
    /// # Yields
    /// If no guest waits.
    pub async fn fail(&self, chunk: ByteRange, failed: Failed, breaks_guests: bool) -> bool {
        let again = self.0.write(|state| {
            let waiters = state.waiters_for(chunk);
            let is_look = |waiter: &&mut Waiter| waiter.until == Until::Written;
            let of_chunk = |waiter: &&mut Waiter| waiters.contains(&waiter.number);
            let guests =
                waiters.len() - state.waiters.iter_mut().filter(of_chunk).filter(is_look).count();
            let alone = chunk.len() <= state.todo.granularity();
            let error = &failed.error;
            if guests == 0 || (alone && breaks_guests) {
                let told = state.waiters.iter_mut().filter(of_chunk);
                told.for_each(|waiter| waiter.failed = Some(error.clone()));
            }
            if guests == 0 {
                state.taken(chunk).parked = true;
                state.failed.push(failed);
                return Some(state.again);
            }
            sometimes!(true, "what a guest waits for could not be saved");
            if alone && !breaks_guests {
                state.void.get_or_insert(failed.error);
            }
            state.put_back(chunk);
            None
        });
        let Some(again) = again else { return false };
        let told = move |state: &State| {
            state.stops || state.again != again || !state.waiters_for(chunk).is_empty()
        };
        self.0
            .wait_for(told, move |state| {
                if state.stops {
                    state.put_back(chunk);
                    return false;
                }
                let covered = state.rests;
                let taken = state.taken(chunk);
                (taken.parked, taken.covered) = (false, covered);
                true
            })
            .await
    }

    /// What was saved is not what the source was.
    pub fn breaks(&self, error: BlockError) {
        self.0.write(|state| drop(state.void.get_or_insert(error).clone()));
    }

    /// Waits until a guest may write to `range`, or `limit` ends. While the job rests, what has begun is to be over
    /// too.
    ///
    /// # Errors
    /// It could not be saved.
    ///
    /// # Yields
    /// If it has to wait.
    pub async fn wait_saved(
        &self,
        range: ByteRange,
        limit: impl Future<Output = ()>,
    ) -> Result<Waited, BlockError> {
        let number = self.0.write(|state| {
            let waits = !state.is_free(range);
            waits.then(|| state.begin_to_wait(range, Until::Saved))
        });
        let Some(number) = number else { return Ok(Waited::Free) };
        let over =
            move |state: &State| state.is_free(range) || state.waiter(number).failed.is_some();
        let in_time = first_of(self.0.wait_until(over), limit).await;
        if !in_time {
            let uncovered = move |state: &State| {
                let covers = |taken: &Taken| taken.covered && taken.range.overlaps(&range);
                !state.taken.iter().any(covers)
            };
            if !self.0.read(uncovered) {
                self.0.wait_until(uncovered).await;
            }
        }
        let waited = if in_time { Waited::Free } else { Waited::TooLong };
        self.0.write(|state| state.end_wait(number)).map(|()| waited)
    }

    /// Keeps a whole write apart from others that overlap it, those before it first.
    ///
    /// # Yields
    /// Always.
    pub async fn begin_apart(&self, range: ByteRange) -> u64 {
        let number = self.0.write(|state| {
            let number = state.number();
            state.apart.push((number, range));
            number
        });
        let first = move |state: &State| {
            let before = |(other, of): &(u64, ByteRange)| *other < number && of.overlaps(&range);
            !state.apart.iter().any(before)
        };
        self.0.wait_until(first).await;
        number
    }

    /// Those that waited for it go on.
    pub fn end_apart(&self, number: u64) {
        self.0.write(|state| state.apart.retain(|(other, _)| *other != number));
    }

    /// What of `range` a guest's write has to save itself; none, if it may go on.
    ///
    /// # Errors
    /// Somebody else could not save it.
    ///
    /// # Yields
    /// Always.
    pub async fn claim(
        &self,
        range: ByteRange,
        most: ByteLen,
    ) -> Result<Option<ByteRange>, BlockError> {
        let number = self.0.write(|state| state.begin_to_wait(range, Until::Untaken));
        let clear = move |state: &State| {
            let failed = state.waiter(number).failed.is_some();
            failed || state.void.is_some() || !state.is_taken(range)
        };
        self.0
            .wait_for(clear, move |state| {
                state.end_wait(number)?;
                let void = state.void.is_some();
                Ok(if void { None } else { state.take(range, most, true) })
            })
            .await
    }

    /// Where the beginning of `range` is to be read to see it as it was, and how much of it is there.
    ///
    /// # Errors
    /// It is not known any more, or never was.
    ///
    /// # Yields
    /// Always.
    pub async fn begin_look(&self, range: ByteRange) -> Result<(ByteRange, Place), BlockError> {
        let first = ByteRange::new(range.start(), 1);
        let number = self.0.write(|state| state.begin_to_wait(first, Until::Written));
        let known = move |state: &State| {
            let written = |taken: &Taken| taken.is_read && taken.range.overlaps(&first);
            let failed = state.waiter(number).failed.is_some();
            failed || state.void.is_some() || !state.taken.iter().any(written)
        };
        self.0
            .wait_for(known, move |state| {
                state.end_wait(number)?;
                state.look(range)
            })
            .await
    }

    /// What it was read for is over.
    ///
    /// # Errors
    /// A guest may have written there meanwhile.
    pub fn end_look(&self, place: Place) -> Result<(), BlockError> {
        let Place::Source(number) = place else { return Ok(()) };
        self.0.write(|state| {
            state.looks.retain(|(look, _)| *look != number);
            state.void.clone().map_or(Ok(()), Err)
        })
    }

    /// What was not saved.
    pub fn left(&self) -> DirtyBitmap {
        self.0.read(|state| {
            let mut left = state.todo.clone();
            state.taken.iter().for_each(|taken| left.mark(taken.range));
            left
        })
    }
}

/// How a guest's wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Free,
    TooLong,
}

impl State {
    fn look(&mut self, range: ByteRange) -> Result<(ByteRange, Place), BlockError> {
        if let Some(error) = &self.void {
            return Err(error.clone());
        }
        let granularity = self.todo.granularity();
        let chunk = ByteRange::new(range.start(), 1).align_outward(granularity);
        let piece = chunk.intersection(&range);
        if !self.all.dirty_in(chunk) {
            let why = alloc::format!("{piece} is no part of the backup: it is not known as it was");
            return Err(BlockError::Invalid(why));
        }
        if !self.todo.dirty_in(chunk) && !self.is_taken(chunk) {
            sometimes!(true, "what was saved was read in the target");
            return Ok((piece, Place::Target));
        }
        let number = self.number();
        self.looks.push((number, chunk));
        Ok((piece, Place::Source(number)))
    }
}
