//! What a backup has still to save, chunk by chunk; who saves it, and who waits for that.
//!
//! | to save | read | |
//! |---|---|---|
//! | 1 | 0 | to be saved, and untouched |
//! | 0 | 1 | somebody reads it |
//! | 0 | 0 | it is read, or saved, or given up, or none of this backup's |
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
use blockyard_runtime::IoBuffer;
use blockyard_sync::{Shared, first_of, sometimes};
use blockyard_units::{ByteLen, ByteOffset, ByteRange, Design, Mutant};

use super::table::{Place, State, Taken, Until, Waiter, Work};
use crate::flight::Failed;

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
    pub fn new(todo: DirtyBitmap, whole: bool, design: Design) -> Self {
        let all = todo.clone();
        Self(Shared::new(State {
            todo,
            all,
            whole,
            design,
            taken: Vec::new(),
            waiters: Vec::new(),
            looks: Vec::new(),
            looks_at_target: Vec::new(),
            apart: Vec::new(),
            numbers: 0,
            rests: false,
            allowed: 0,
            done: 0,
            failed: Vec::new(),
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

    /// Takes the first chunks that are to be saved and lie inside `range`, for the job. All there is zeroes: it need
    /// not be read.
    pub fn take_zeroes(&self, range: ByteRange, most: ByteLen) -> Option<ByteRange> {
        self.0.write(|state| {
            let (granularity, len) = (state.todo.granularity(), state.todo.disk_len().0);
            let inside = range.align_inward(granularity, len);
            let chunk = if inside.is_empty() { None } else { state.take(inside, most, false) }?;
            let unread = state.design.is_mutant(Mutant::BackupHolesHoldGuests);
            state.taken(chunk).is_read = !unread;
            Some(chunk)
        })
    }

    /// Where what is to be saved begins, from `at` on.
    pub fn first_from(&self, at: ByteLen) -> Option<ByteLen> {
        self.0.read(|state| {
            let chunk = state.todo.next_dirty(ByteOffset(at.0))?;
            Some(at.max(ByteLen(chunk.start())))
        })
    }

    /// How many chunks may be taken from now on that no guest waits for.
    pub fn allow(&self, chunks: u64) {
        self.0.write(|state| state.allowed = chunks);
    }

    /// What is parked is tried again.
    pub fn try_again(&self) {
        self.0.write(|state| state.taken.iter_mut().for_each(|taken| taken.due = taken.parked));
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
        let at_rest = |state: &State| {
            state.taken.iter().all(|taken| taken.covered || taken.parked && !taken.due)
        };
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

    /// What a worker is to do next; nothing, if it is to end.
    ///
    /// # Yields
    /// Always.
    pub async fn wait_for_work(&self, most: ByteLen) -> Option<Work> {
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

    /// A chunk could not be saved; `data`: what is read of it. If guests' writes wait for the chunk, that is for them,
    /// or for the backup: `breaks_guests`. One that is not read is to be saved as before then, and if it is longer than
    /// a granule nobody fails: what guests wait for is tried by itself. What is read cannot be read again: somebody may
    /// have written there. It is parked, and so is what nobody waits for, until the job has it tried again or somebody
    /// waits.
    pub fn fail(
        &self,
        chunk: ByteRange,
        data: Option<IoBuffer>,
        failed: Failed,
        breaks_guests: bool,
    ) {
        self.0.write(|state| {
            let waiters = state.waiters_for(chunk);
            let is_guest = |waiter: &&Waiter| waiter.until != Until::Written;
            let of_chunk = |number: u64| waiters.contains(&number);
            let waiting = state.waiters.iter().filter(|waiter| of_chunk(waiter.number));
            let guests = waiting.filter(is_guest).count();
            let stays = guests == 0 || (data.is_some() && !state.whole);
            let alone = stays || chunk.len() <= state.todo.granularity();
            if guests == 0 || (alone && breaks_guests) {
                let told = state.waiters.iter_mut().filter(|waiter| of_chunk(waiter.number));
                told.for_each(|waiter| waiter.failed = Some(failed.error.clone()));
            }
            sometimes!(guests > 0, "what a guest waits for could not be saved");
            if guests > 0 && alone && !breaks_guests {
                state.void.get_or_insert(failed.error.clone());
            }
            if !stays {
                return state.put_back(chunk);
            }
            let taken = state.taken(chunk);
            (taken.parked, taken.covered, taken.data) = (true, false, data);
            state.failed.push(failed);
        });
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
        let ended = self.0.write(|state| state.end_wait(number));
        let uncovered = move |state: &State| {
            let covers = |taken: &Taken| taken.covered && taken.range.overlaps(&range);
            !state.taken.iter().any(covers)
        };
        if !self.0.read(uncovered) {
            self.0.wait_until(uncovered).await;
        }
        ended.map(|()| if in_time { Waited::Free } else { Waited::TooLong })
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
        self.0.write(|state| match place {
            Place::Source(number) => {
                state.looks.retain(|(look, _)| *look != number);
                state.void.clone().map_or(Ok(()), Err)
            }
            Place::Target(number) => {
                state.looks_at_target.retain(|(look, _)| *look != number);
                Ok(())
            }
        })
    }

    /// What of `range` is kept no more: whole chunks, which nobody saves or looks at from here on. Where one that is
    /// parked is saved after all, nobody sees it.
    ///
    /// # Errors
    /// The backup is broken.
    ///
    /// # Yields
    /// Always.
    pub async fn give_up(&self, range: ByteRange) -> Result<ByteRange, BlockError> {
        let whole = move |state: &State| {
            range.align_inward(state.todo.granularity(), state.todo.disk_len().0)
        };
        let free = move |state: &State| {
            let overtakes = state.design.is_mutant(Mutant::FleecingDiscardOvertakesRead);
            overtakes || state.may_be_given_up(whole(state))
        };
        self.0
            .wait_for(free, move |state| {
                if let Some(error) = &state.void {
                    return Err(error.clone());
                }
                let range = whole(state);
                if !range.is_empty() {
                    state.todo.reset_inward(range);
                    state.all.reset_inward(range);
                }
                Ok(range)
            })
            .await
    }

    /// The source is about to give up a chunk that is written, unless the backup is broken: guests' writes wait.
    ///
    /// # Yields
    /// Always.
    pub async fn begin_discard(&self, chunk: ByteRange) -> bool {
        self.0
            .wait_for(
                move |state| !state.is_looked_at(chunk),
                move |state| {
                    let goes_on = state.void.is_none();
                    state.taken(chunk).discarded = goes_on;
                    goes_on
                },
            )
            .await
    }

    /// Waits until the source has given up what it is giving up of `range`.
    ///
    /// # Yields
    /// If it has to wait.
    pub async fn wait_discarded(&self, range: ByteRange) {
        let over = move |state: &State| {
            let gives_up = |taken: &Taken| taken.discarded && taken.range.overlaps(&range);
            !state.taken.iter().any(gives_up)
        };
        if !self.0.read(over) {
            self.0.wait_until(over).await;
        }
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
