//! What a mirror shares with the guest and with management, thread against thread: the dirty bitmap, what it waits for,
//! and its control state.

use std::sync::Arc;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_loom_tests::{block_on, explore, explore_finds, join};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteOffset, ByteRange};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

const CHUNK: ByteLen = ByteLen(512);

/// Convergence in miniature: a disk of one chunk whose content is a number, and what was copied of it.
struct Mirrored {
    dirty: SharedBitmap,
    source: AtomicU64,
    target: AtomicU64,
}

impl Mirrored {
    fn new() -> Self {
        let bitmap = DirtyBitmap::new(CHUNK, CHUNK).expect("its granularity is one");
        Self {
            dirty: SharedBitmap::new(bitmap),
            source: AtomicU64::new(0),
            target: AtomicU64::new(0),
        }
    }

    fn whole(&self) -> ByteRange {
        ByteRange::new(0, CHUNK.0)
    }

    /// A guest's write: it is marked when it has ended; with a planted bug, when it begins.
    fn write(&self, number: u64, marks_early: bool) {
        if marks_early {
            self.dirty.mark(self.whole());
        }
        self.source.store(number, Ordering::SeqCst);
        if !marks_early {
            self.dirty.mark(self.whole());
        }
    }

    /// Copies what is dirty; with a planted bug, what was taken counts as clean once it is copied.
    fn copy(&self, cleans_late: bool) {
        while self.dirty.count() > 0 {
            if !cleans_late {
                self.dirty.take_next(ByteOffset(0), CHUNK);
            }
            self.target.store(self.source.load(Ordering::SeqCst), Ordering::SeqCst);
            if cleans_late {
                self.dirty.reset_inward(self.whole());
            }
        }
    }
}

fn converges(marks_early: bool, cleans_late: bool) {
    let mirrored = Arc::new(Mirrored::new());
    mirrored.write(1, false);
    let guest = thread::spawn({
        let mirrored = mirrored.clone();
        move || mirrored.write(2, marks_early)
    });
    mirrored.copy(cleans_late);
    join(guest);
    mirrored.copy(cleans_late);
    assert_eq!(mirrored.target.load(Ordering::SeqCst), 2, "the-copy-is-the-source");
}

#[test]
fn a_chunk_that_is_written_while_the_mirror_takes_it_is_copied_again() {
    explore(|| converges(false, false));
}

#[test]
fn planted_mark_before_the_write_loses_it() {
    explore_finds("the-copy-is-the-source", || converges(true, false));
}

#[test]
fn planted_reset_after_the_copy_loses_a_write() {
    explore_finds("the-copy-is-the-source", || converges(false, true));
}

#[test]
fn a_mirror_that_waits_for_something_dirty_sees_the_mark() {
    explore(|| {
        let mirrored = Arc::new(Mirrored::new());
        let guest = thread::spawn({
            let mirrored = mirrored.clone();
            move || mirrored.write(1, false)
        });
        block_on(mirrored.dirty.wait_dirty());
        mirrored.copy(false);
        assert_eq!(mirrored.target.load(Ordering::SeqCst), 1);
        join(guest);
    });
}

/// What the pivot looks at last, and what management sets.
#[derive(Default)]
struct Control {
    cancelled: bool,
    pivoted: bool,
}

/// Management cancels while the mirror ends. Taken in one passage exactly one of them wins.
fn pivot_beside_a_cancel(in_one_passage: bool) {
    let control = Arc::new(Shared::new(Control::default()));
    let cancel = thread::spawn({
        let control = control.clone();
        move || {
            control.write(|control| {
                control.cancelled |= !control.pivoted;
                control.cancelled
            })
        }
    });
    if in_one_passage {
        control.write(|control| control.pivoted = !control.cancelled);
    } else if !control.read(|control| control.cancelled) {
        control.write(|control| control.pivoted = true);
    }
    let cancelled = join(cancel);
    let pivoted = control.read(|control| control.pivoted);
    assert!(cancelled != pivoted, "one-outcome: cancelled {cancelled}, pivoted {pivoted}");
}

#[test]
fn a_mirror_that_is_cancelled_while_it_pivots_has_one_outcome() {
    explore(|| pivot_beside_a_cancel(true));
}

#[test]
fn planted_pivot_that_looks_and_ends_in_two_passages_has_two_outcomes() {
    explore_finds("one-outcome", || pivot_beside_a_cancel(false));
}
