//! The copies under way: beside each other as far as there is room in the job's buffer, and never two of one place.
//!
//! Invariant `waits-are-for-listed`: a copy is listed when it has its room, and only the job's own task waits for room;
//! so every copy that is waited for goes on by itself.

use alloc::vec::Vec;

use blockyard_block::{BlockError, LONGEST};
use blockyard_sync::{Shared, sometimes};
use blockyard_units::{ByteLen, ByteRange, Design, Mutant};

/// At most so many at once.
const COPIES_MAX: usize = 16;
/// Bytes that one copy has at most, unless a chunk is larger.
const COPY_MAX: u64 = 1 << 20;

/// A request failed: a read from the source, or one to the target.
#[derive(Clone)]
pub(crate) struct Failed {
    pub reads: bool,
    pub error: BlockError,
}

/// How much is copied at once.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    /// Bytes.
    len: u64,
    /// Bytes of one copy; whole chunks.
    pub copy: ByteLen,
    /// There is never a copy beside another.
    pub has_one: bool,
}

impl Buffer {
    /// For chunks of `granularity`, which is a power of two, of a disk; it has room for one of them at least.
    pub fn new(len: ByteLen, granularity: ByteLen, disk_len: ByteLen) -> Self {
        let len = len.0.clamp(1, LONGEST).next_multiple_of(granularity.0);
        let share = (len / COPIES_MAX as u64).min(COPY_MAX) & !(granularity.0 - 1);
        let copy = ByteLen(share).max(granularity);
        Self { len, copy, has_one: len < 2 * copy.0 || disk_len <= copy }
    }
}

#[derive(Default)]
struct State {
    copies: Vec<ByteRange>,
    /// Of those that have ended.
    done: u64,
    failed: Vec<Failed>,
}

impl State {
    fn bytes(&self) -> u64 {
        self.copies.iter().map(|copy| copy.len().0).sum()
    }

    fn has_room(&self, range: ByteRange, buffer: Buffer) -> bool {
        self.copies.len() < COPIES_MAX && self.bytes() + range.len().0 <= buffer.len
    }
}

/// See the file head.
#[derive(Default)]
pub(crate) struct Flight(Shared<State>);

impl Flight {
    /// Lists a copy of `range` once there is room for it, and none that has a place in common with it.
    ///
    /// # Yields
    /// If it has to wait.
    pub async fn begin(&self, range: ByteRange, buffer: Buffer, design: Design) {
        let overlaps = design.is_mutant(Mutant::MirrorCopiesOverlap);
        let itself = design.is_mutant(Mutant::MirrorOpWaitsForItself);
        let free = move |state: &State| {
            let apart = |copy: &ByteRange| overlaps || !copy.overlaps(&range);
            state.has_room(range, buffer) && state.copies.iter().all(apart)
        };
        let listed = self.0.write(|state| {
            let free = free(state);
            sometimes!(
                !free && state.has_room(range, buffer),
                "a copy waited for one of its place"
            );
            sometimes!(!free && !state.has_room(range, buffer), "a copy waited for room");
            if free || itself {
                state.copies.push(range);
            }
            free
        });
        match (listed, itself) {
            (true, _) => {}
            (false, true) => {
                self.0.wait_until(move |state| state.copies.last() != Some(&range)).await;
            }
            (false, false) => self.0.wait_for(free, move |state| state.copies.push(range)).await,
        }
    }

    /// A copy of `range` has ended.
    pub fn end(&self, range: ByteRange, result: Result<(), Failed>) {
        self.0.write(|state| {
            if let Some(index) = state.copies.iter().position(|copy| *copy == range) {
                state.copies.remove(index);
            }
            match result {
                Ok(()) => state.done += range.len().0,
                Err(failed) => state.failed.push(failed),
            }
        });
    }

    /// A request that was no copy's has failed, to the target.
    pub fn write_failed(&self, error: BlockError) {
        self.0.write(|state| state.failed.push(Failed { reads: false, error }));
    }

    /// Waits until none is under way; only their starter begins others.
    ///
    /// # Yields
    /// If there are any.
    pub async fn settle(&self) {
        if self.bytes() > ByteLen(0) {
            self.wait_empty().await;
        }
    }

    /// The same.
    ///
    /// # Yields
    /// Always.
    pub async fn wait_empty(&self) {
        self.0.wait_until(|state| state.copies.is_empty()).await;
    }

    /// Bytes of those under way.
    pub fn bytes(&self) -> ByteLen {
        ByteLen(self.0.read(State::bytes))
    }

    /// Whether something has failed since that was asked.
    pub fn has_failed(&self) -> bool {
        self.0.read(|state| !state.failed.is_empty())
    }

    /// What has ended since this was asked: bytes that are copied, and what failed.
    pub fn take_ended(&self) -> (ByteLen, Vec<Failed>) {
        self.0.write(|state| {
            let done = core::mem::take(&mut state.done);
            (ByteLen(done), core::mem::take(&mut state.failed))
        })
    }
}
