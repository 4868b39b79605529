//! Pausing, going on, and what becomes of those that are given up.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::{Coroutine, IDLE, pause};

type Said = Rc<Cell<Vec<u32>>>;

fn say(said: &Said, what: u32) {
    let mut all = said.take();
    all.push(what);
    said.set(all);
}

/// Says `first`, `first` + 1 and `first` + 2, with pauses between.
fn speaker(said: &Said, first: u32) -> Coroutine<u32> {
    let said = said.clone();
    Coroutine::new(move || {
        for what in first..first + 3 {
            if what > first {
                pause();
            }
            say(&said, what);
        }
        first
    })
}

/// Says something when it is dropped, having tried to pause.
struct Last(Said, u32);

impl Drop for Last {
    fn drop(&mut self) {
        pause();
        say(&self.0, self.1);
    }
}

fn idle() -> usize {
    let idle = IDLE.take();
    let count = idle.len();
    IDLE.set(idle);
    count
}

#[test]
fn computations_pause_and_go_on_in_any_order() {
    let said = Said::default();
    let (mut a, mut b) = (speaker(&said, 10), speaker(&said, 20));
    assert_eq!((a.resume(), b.resume(), a.resume()), (None, None, None));
    assert_eq!((b.resume(), b.resume(), a.resume()), (None, Some(20), Some(10)));
    assert_eq!(said.take(), [10, 20, 11, 21, 22, 12]);
    pause();
}

#[test]
fn one_within_another_pauses_by_itself() {
    let said = Said::default();
    let inner = speaker(&said, 20);
    let mut outer = Coroutine::new(move || {
        let mut inner = inner;
        while inner.resume().is_none() {
            pause();
        }
        let _ = speaker(&Said::default(), 30).resume();
        pause();
    });
    assert_eq!([(); 4].map(|()| outer.resume()), [None, None, None, Some(())]);
    assert_eq!(said.take(), [20, 21, 22]);
}

#[test]
fn what_is_dropped_is_unwound_and_gives_its_stack_back() {
    let said = Said::default();
    let begin = |what: u32| {
        let said = said.clone();
        let mut begun = Coroutine::new(move || {
            let _last = Last(said, what);
            pause();
        });
        assert_eq!(begun.resume(), None);
        begun
    };
    let (a, b) = (begin(1), begin(2));
    let never_begun = speaker(&said, 3);
    drop((a, never_begun, b));
    assert_eq!(said.take(), [1, 2]);
    assert_eq!(idle(), 3);
    drop((begin(4), begin(5)));
    assert_eq!(idle(), 3);
}

#[test]
#[allow(clippy::disallowed_methods)] // the panic is what is tested
fn a_panic_comes_out_where_it_was_resumed() {
    let said = Said::default();
    let saying = said.clone();
    let mut bad = Coroutine::new(move || {
        let _last = Last(saying, 1);
        pause();
        panic!("found out");
    });
    assert_eq!(bad.resume(), None);
    let panic = catch_unwind(AssertUnwindSafe(|| bad.resume())).expect_err("it panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"found out"));
    assert_eq!(said.take(), [1]);
    drop(bad);
    assert_eq!(idle(), 1);
}
