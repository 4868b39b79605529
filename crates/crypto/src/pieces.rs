//! Long computations in pieces, so that whoever does one lets others go on between them.

use alloc::boxed::Box;
use core::future::ready;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

/// What is awaited between two pieces. Nothing else is ever awaited.
pub type Pause = fn() -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Rounds of a hash between two pauses: some milliseconds.
pub(crate) const PIECE: u32 = 1 << 14;

/// Does it all at once.
pub(crate) fn at_once<F: Future>(make: impl FnOnce(Pause) -> F) -> F::Output {
    let mut computation = pin!(make(|| Box::pin(ready(()))));
    match computation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("a pause that is over at once is all that is awaited"),
    }
}
