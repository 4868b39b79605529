//! The table of chunks: what is to be saved, what is taken, and who waits; changed as a whole, in one step.

use alloc::vec::Vec;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::BlockError;
use blockyard_runtime::IoBuffer;
use blockyard_sync::sometimes;
use blockyard_units::{ByteLen, ByteRange, Design, Mutant};

use crate::flight::Failed;

/// Where what a snapshot shows is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Not written since: guests wait until this look at it is over, which has this number.
    Source(u64),
    /// Saved: whoever gives it up waits until this look at it is over, which has this number.
    Target(u64),
}

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// A guest's write: that what it overwrites is read, or in the target where that is needed.
    Saved,
    /// A guest's write that saves it itself: that nobody else does.
    Untaken,
    /// A look back: that what is read is in the target.
    Written,
}

/// A request that waits.
pub(super) struct Waiter {
    pub number: u64,
    pub range: ByteRange,
    pub until: Until,
    /// What it waits for could not be saved.
    pub failed: Option<BlockError>,
}

/// A chunk that somebody saves.
pub(super) struct Taken {
    pub range: ByteRange,
    /// It is read, and being written.
    pub is_read: bool,
    /// For a request, which waits for all of it: the job may rest meanwhile.
    pub covered: bool,
    /// It is written, and the source is giving it up.
    pub discarded: bool,
    /// It has failed, and nobody has it in hand.
    pub parked: bool,
    /// Parked: it is to be tried again.
    pub due: bool,
    /// Parked: what was read of it.
    pub data: Option<IoBuffer>,
}

/// What a worker has to do.
pub(super) struct Work {
    pub chunk: ByteRange,
    /// What is read of it already.
    pub data: Option<IoBuffer>,
}

pub(super) struct State {
    pub todo: DirtyBitmap,
    /// All that the backup is about.
    pub all: DirtyBitmap,
    /// A guest may write when the target has what it overwrites, and not when that is read.
    pub whole: bool,
    pub design: Design,
    pub taken: Vec<Taken>,
    pub waiters: Vec<Waiter>,
    pub looks: Vec<(u64, ByteRange)>,
    /// Those that look at the target.
    pub looks_at_target: Vec<(u64, ByteRange)>,
    /// Whole writes that the old way keeps apart.
    pub apart: Vec<(u64, ByteRange)>,
    pub numbers: u64,
    /// The job rests, or is about to: whoever has a chunk saved waits for all of that.
    pub rests: bool,
    /// So many chunks may be taken that nobody waits for.
    pub allowed: u64,
    /// Bytes of those that were saved since somebody asked.
    pub done: u64,
    pub failed: Vec<Failed>,
    pub workers: usize,
    /// Workers are to end.
    pub stops: bool,
    /// What was saved is not what the source was.
    pub void: Option<BlockError>,
}

impl State {
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Whether a guest's write to `range` has to wait for it.
    pub fn keeps(&self, taken: &Taken, range: ByteRange) -> bool {
        taken.range.overlaps(&range) && (self.whole || self.rests || !taken.is_read)
    }

    /// Whether a guest may write there.
    pub fn is_free(&self, range: ByteRange) -> bool {
        let looked_at = self.is_looked_at(range);
        let kept = || self.taken.iter().any(|taken| self.keeps(taken, range));
        let saved = !self.todo.dirty_in(range) && !kept();
        !looked_at && (saved || self.void.is_some())
    }

    /// Whether somebody who looks back reads it in the source.
    pub fn is_looked_at(&self, range: ByteRange) -> bool {
        self.looks.iter().any(|(_, look)| look.overlaps(&range))
    }

    /// Whether nobody saves it or looks at it as it was. What is parked nobody has in hand.
    pub fn may_be_given_up(&self, range: ByteRange) -> bool {
        let mut saved = self.taken.iter().filter(|taken| !taken.parked);
        let mut looks = self.looks_at_target.iter();
        !self.is_looked_at(range)
            && !saved.any(|taken| taken.range.overlaps(&range))
            && !looks.any(|(_, look)| look.overlaps(&range))
    }

    pub fn is_taken(&self, range: ByteRange) -> bool {
        self.taken.iter().any(|taken| taken.range.overlaps(&range))
    }

    pub fn taken(&mut self, chunk: ByteRange) -> &mut Taken {
        let taken = self.taken.iter_mut().find(|taken| taken.range == chunk);
        taken.expect("a-chunk-that-is-saved-was-taken")
    }

    pub fn waits_for(&self, waiter: &Waiter, taken: &Taken) -> bool {
        waiter.failed.is_none()
            && match waiter.until {
                Until::Saved => self.keeps(taken, waiter.range),
                Until::Untaken => taken.range.overlaps(&waiter.range),
                Until::Written => taken.is_read && taken.range.overlaps(&waiter.range),
            }
    }

    /// The requests that wait for this chunk, which is taken.
    pub fn waiters_for(&self, chunk: ByteRange) -> Vec<u64> {
        let Some(taken) = self.taken.iter().find(|taken| taken.range == chunk) else {
            return Vec::new();
        };
        let waiters = self.waiters.iter().filter(|waiter| self.waits_for(waiter, taken));
        waiters.map(|waiter| waiter.number).collect()
    }

    pub fn begin_to_wait(&mut self, range: ByteRange, until: Until) -> u64 {
        let number = self.number();
        self.waiters.push(Waiter { number, range, until, failed: None });
        number
    }

    pub fn waiter(&self, number: u64) -> &Waiter {
        let waiter = self.waiters.iter().find(|waiter| waiter.number == number);
        waiter.expect("who-waits-is-listed")
    }

    pub fn end_wait(&mut self, number: u64) -> Result<(), BlockError> {
        let index = self.waiters.iter().position(|waiter| waiter.number == number);
        let waiter = self.waiters.remove(index.expect("who-waits-is-listed"));
        waiter.failed.map_or(Ok(()), Err)
    }

    /// Takes the first that is to be saved within `range`, and of its neighbours as many as there is room for.
    pub fn take(
        &mut self,
        range: ByteRange,
        most: ByteLen,
        for_request: bool,
    ) -> Option<ByteRange> {
        let granularity = self.todo.granularity();
        let within = range.align_outward(granularity);
        let most = ByteLen(most.0 & !(granularity.0 - 1)).max(granularity);
        let mut chunk = self.todo.next_dirty_area(within, most)?;
        if self.design.is_mutant(Mutant::BackupRecopiesSavedClusters) {
            let len = ByteRange::new(0, self.todo.disk_len().0);
            chunk = ByteRange::new(chunk.start(), most.0).intersection(&len);
        }
        self.todo.reset(chunk).expect("a-chunk-is-aligned");
        assert!(!self.is_taken(chunk), "taken-in-one-step: {chunk} is saved twice");
        let covered = for_request && self.rests;
        let (is_read, discarded, parked, due, data) = (false, false, false, false, None);
        self.taken.push(Taken { range: chunk, is_read, covered, discarded, parked, due, data });
        Some(chunk)
    }

    /// Whether workers are to save what it waits for.
    pub fn needs_worker(&self, waiter: &Waiter) -> bool {
        let waits = waiter.until == Until::Saved && waiter.failed.is_none();
        let ignored = self.rests && self.design.is_mutant(Mutant::BackupRestsFromGuests);
        waits && !ignored && self.todo.dirty_in(waiter.range)
    }

    /// What is parked and to be taken up: because somebody waits for it, or it is due.
    pub fn parked_work(&self) -> Option<(ByteRange, bool)> {
        let parked = || self.taken.iter().filter(|taken| taken.parked);
        let waits_for =
            |taken: &&Taken| self.waiters.iter().any(|waiter| self.waits_for(waiter, taken));
        let waited_for = parked().find(waits_for).map(|taken| (taken.range, true));
        waited_for.or_else(|| parked().find(|taken| taken.due).map(|taken| (taken.range, false)))
    }

    pub fn has_work(&self) -> bool {
        self.stops
            || self.parked_work().is_some()
            || self.waiters.iter().any(|waiter| self.needs_worker(waiter))
            || (self.allowed > 0 && self.todo.count() > 0)
    }

    /// The guest that waits longest goes first, but for what has failed already.
    pub fn take_work(&mut self, most: ByteLen) -> Option<Work> {
        if self.stops {
            return None;
        }
        if let Some((chunk, waited_for)) = self.parked_work() {
            let covered = waited_for && self.rests;
            let taken = self.taken(chunk);
            (taken.parked, taken.due, taken.covered) = (false, false, covered);
            return Some(Work { chunk, data: taken.data.take() });
        }
        let chunk = self.take_chunk(most)?;
        Some(Work { chunk, data: None })
    }

    pub fn take_chunk(&mut self, most: ByteLen) -> Option<ByteRange> {
        let in_order = self.allowed > 0 && self.design.is_mutant(Mutant::BackupServesInItsOrder);
        let first = self.waiters.iter().find(|waiter| self.needs_worker(waiter));
        if let Some(waiter) = first.filter(|_| !in_order) {
            let (range, rests) = (waiter.range, self.rests);
            sometimes!(true, "a worker saved what a guest waits for");
            sometimes!(rests, "a worker saved what a guest waits for while its job rests");
            return self.take(range, ByteLen(0), true);
        }
        self.allowed = self.allowed.saturating_sub(1);
        let everything = ByteRange::new(0, self.todo.disk_len().0);
        self.take(everything, most, false)
    }

    pub fn end(&mut self, chunk: ByteRange) {
        self.taken.retain(|taken| taken.range != chunk);
    }

    pub fn put_back(&mut self, chunk: ByteRange) {
        self.end(chunk);
        self.todo.mark(chunk);
        // Whether the job had taken it is forgotten: one more does no harm.
        self.allowed = self.allowed.saturating_add(u64::from(!self.rests));
    }

    pub fn left(&self) -> u64 {
        let taken: u64 = self.taken.iter().map(|taken| taken.range.len().0).sum();
        self.todo.dirty_bytes().0 + taken
    }
}

impl State {
    pub fn look(&mut self, range: ByteRange) -> Result<(ByteRange, Place), BlockError> {
        if let Some(error) = &self.void {
            return Err(error.clone());
        }
        let granularity = self.todo.granularity();
        let chunk = ByteRange::new(range.start(), 1).align_outward(granularity);
        let piece = chunk.intersection(&range);
        if !self.all.dirty_in(chunk) {
            let why = alloc::format!(
                "{piece} is no part of the backup, or was discarded: it is not known as it was"
            );
            return Err(BlockError::Invalid(why));
        }
        if !self.todo.dirty_in(chunk) && !self.is_taken(chunk) {
            sometimes!(true, "what was saved was read in the target");
            let number = self.number();
            self.looks_at_target.push((number, chunk));
            return Ok((piece, Place::Target(number)));
        }
        let number = self.number();
        self.looks.push((number, chunk));
        Ok((piece, Place::Source(number)))
    }
}
