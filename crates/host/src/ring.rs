//! The ring: reads and writes that the system does while threads do something else.
//!
//! Nobody waits in it. A task of the runtime in which a request is made tends the ring: the runtime's own threads are
//! woken when something is complete, and whoever asks after its request takes what is complete as well. The system is
//! told of many requests at once, when the tasks that make them have had their turns: to tell it costs more than to
//! ask.
//!
//! Invariants:
//! - `memory-outlives-its-operation`: what the system reads and writes belongs to the operation, which is in the list
//!   until the system has answered; a ring that is dropped waits for that.
//! - `submitted-takes-place`: an operation is in the ring when the call returns, and whoever has the ring, or drops it,
//!   tells the system of it, whether or not its future is kept.
//!
//! Source: io_uring(7), io_uring_enter(2).
#![allow(unsafe_code)] // the system is told where memory is, see `memory-outlives-its-operation`

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use blockyard_runtime::{Io, IoBuffer, IoErrorKind};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, yield_now};

use crate::aligned::Aligned;
use crate::image::{Image, io_kind};

/// Places for operations that the system has not taken yet.
const ENTRIES: u32 = 128;

/// Of how many operations the system is told together. A disk that hears of all of them when the last one is made
/// stands still meanwhile: at depth 32 it does a fifth less.
const TOGETHER: usize = 4;

/// What an operation reads into or writes from.
pub(crate) enum Memory {
    Into(Aligned),
    From(IoBuffer),
}

impl Memory {
    /// The first `len` bytes of what was read.
    pub fn read(self, len: usize) -> IoBuffer {
        match self {
            Self::Into(memory) => memory.into_buffer(len),
            Self::From(data) => data,
        }
    }
}

/// A read or a write.
pub(crate) struct Operation {
    pub image: Arc<Image>,
    pub offset: u64,
    pub memory: Memory,
    /// Bytes that have to be read or written; there may be memory for more.
    pub needed: usize,
}

struct Entry {
    operation: Operation,
    done: usize,
    ended: Option<Io<()>>,
    waker: Option<Waker>,
    /// Nobody waits for it.
    given_up: bool,
}

struct State {
    ring: IoUring,
    /// By what the system is told as their names.
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// Whether a task tends the ring.
    tended: bool,
    /// Whether it knows that there is something to tell the system.
    pushed: bool,
}

struct Inner {
    state: Mutex<State>,
    fd: RawFd,
    /// There is something to tell the system.
    pushed: Notify,
}

/// A ring. Dropping it waits for what was submitted.
pub(crate) struct Ring {
    inner: Arc<Inner>,
    tender: Mutex<Option<JoinHandle<()>>>,
}

impl Ring {
    /// A ring, unless the system has none for us.
    pub fn new() -> io::Result<Self> {
        // Its own interruptions are of no use: whoever waits is woken all the same.
        let quiet = IoUring::builder().setup_coop_taskrun().build(ENTRIES);
        let ring = quiet.or_else(|_| IoUring::new(ENTRIES))?;
        if !ring.params().is_feature_fast_poll() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let fd = ring.as_raw_fd();
        let (entries, free) = (Vec::new(), Vec::new());
        let state = State { ring, entries, free, tended: false, pushed: false };
        let inner = Inner { state: Mutex::new(state), fd, pushed: Notify::new() };
        let inner = Arc::new(inner);
        Ok(Self { inner, tender: Mutex::new(None) })
    }

    /// Submits `operation`; given back where nobody could look after it.
    pub fn submit(&self, operation: Operation) -> Result<Submitted, Operation> {
        let Ok(runtime) = Handle::try_current() else { return Err(operation) };
        let mut state = self.inner.lock();
        let index = state.free.pop().unwrap_or_else(|| {
            state.entries.push(None);
            state.entries.len() - 1
        });
        let (waker, ended) = (None, None);
        state.entries[index] = Some(Entry { operation, done: 0, ended, waker, given_up: false });
        state.push(index);
        // Told at once where nobody else is there to wait for.
        if state.free.len() + 1 == state.entries.len() || state.ring.submission().len() >= TOGETHER
        {
            state.enter();
        } else if !std::mem::replace(&mut state.pushed, true) {
            self.inner.pushed.notify_one();
        }
        let untended = !std::mem::replace(&mut state.tended, true);
        // A runtime that ends drops the task at once, and that takes the lock.
        drop(state);
        if untended {
            let tender = runtime.spawn(tend(Tending(self.inner.clone())));
            *self.tender.lock().expect("nothing-panics-under-the-lock") = Some(tender);
        }
        Ok(Submitted { inner: self.inner.clone(), index: Some(index) })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        loop {
            let mut state = self.inner.lock();
            let wakers = state.reap();
            let busy = state.entries.iter().flatten().any(|entry| entry.ended.is_none());
            if busy {
                // Interrupted or not, it is looked at again.
                let _ = state.ring.submit_and_wait(1);
            }
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
            if !busy {
                break;
            }
        }
        let tender = self.tender.get_mut().expect("nothing-panics-under-the-lock").take();
        tender.inspect(JoinHandle::abort);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing-panics-under-the-lock")
    }

    fn reap(&self) {
        let wakers = self.lock().reap();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn enter(&self) {
        let mut state = self.lock();
        state.pushed = false;
        state.enter();
    }
}

impl State {
    /// Puts the rest of an operation where the system will find it.
    fn push(&mut self, index: usize) {
        let entry = self.entries[index].as_mut().expect("it-is-in-the-list");
        let (done, offset) = (entry.done, entry.operation.offset + entry.done as u64);
        let fd = types::Fd(entry.operation.image.as_raw_fd());
        let described: squeue::Entry = match &mut entry.operation.memory {
            Memory::Into(memory) => {
                let rest = &mut memory.as_mut()[done..];
                let len = u32::try_from(rest.len()).expect("operations-are-short");
                opcode::Read::new(fd, rest.as_mut_ptr(), len).offset(offset).build()
            }
            Memory::From(memory) => {
                let rest = &memory[done..];
                let len = u32::try_from(rest.len()).expect("operations-are-short");
                opcode::Write::new(fd, rest.as_ptr(), len).offset(offset).build()
            }
        };
        let described = described.user_data(index as u64);
        loop {
            // SAFETY: `memory-outlives-its-operation`: the entry holds the memory and the file, and stays in the list
            // until the system has answered; neither vector nor buffer is given another place meanwhile.
            if unsafe { self.ring.submission().push(&described) }.is_ok() {
                return;
            }
            self.enter();
        }
    }

    /// Tells the system what was pushed.
    fn enter(&mut self) {
        while let Err(error) = self.ring.submit() {
            // It has too much to do: what was pushed stays there until the next call.
            if error.kind() != io::ErrorKind::Interrupted {
                std::thread::yield_now();
            }
        }
    }

    /// Takes what is complete, and says who is to be woken.
    fn reap(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        loop {
            let next = self.ring.completion().next();
            let Some(answer) = next else { return wakers };
            wakers.extend(self.answered(&answer));
        }
    }

    fn answered(&mut self, answer: &cqueue::Entry) -> Option<Waker> {
        let index = usize::try_from(answer.user_data()).expect("names-are-indices");
        let entry = self.entries[index].as_mut().expect("it-is-in-the-list");
        let retried = [rustix::io::Errno::INTR, rustix::io::Errno::AGAIN];
        let again = match answer.result() {
            0 if entry.done < entry.operation.needed => {
                entry.ended = Some(Err(IoErrorKind::Io));
                false
            }
            bytes @ 0.. => {
                entry.done += usize::try_from(bytes).expect("it-is-not-negative");
                entry.done < entry.operation.needed
            }
            error if retried.iter().any(|errno| errno.raw_os_error() == -error) => true,
            error => {
                entry.ended = Some(Err(io_kind(io::Error::from_raw_os_error(-error))));
                false
            }
        };
        if again {
            self.push(index);
            self.enter();
            return None;
        }
        let Operation { image, offset, memory, needed } = &entry.operation;
        match memory {
            Memory::Into(_) => {}
            Memory::From(_) if entry.ended.is_some() => image.may_have_grown(),
            Memory::From(_) => image.has_grown(offset + *needed as u64),
        }
        entry.ended.get_or_insert(Ok(()));
        let waker = entry.waker.take();
        if entry.given_up {
            self.entries[index] = None;
            self.free.push(index);
        }
        waker
    }
}

/// A submitted operation.
pub(crate) struct Submitted {
    inner: Arc<Inner>,
    /// Until it has told its end.
    index: Option<usize>,
}

impl Future for Submitted {
    type Output = Io<Memory>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Io<Memory>> {
        let index = self.index.expect("it-ends-once");
        let mut state = self.inner.lock();
        let wakers = state.reap();
        let entry = state.entries[index].as_mut().expect("it-is-in-the-list");
        let ended = entry.ended;
        match ended {
            None => entry.waker = Some(context.waker().clone()),
            Some(_) => state.free.push(index),
        }
        let taken = ended.and_then(|_| state.entries[index].take());
        // The runtime that looked after it may be gone.
        let untended = ended.is_none() && !state.tended;
        let runtime = Handle::try_current().ok().filter(|_| untended);
        state.tended |= runtime.is_some();
        drop(state);
        if let Some(runtime) = runtime {
            drop(runtime.spawn(tend(Tending(self.inner.clone()))));
        }
        wakers.into_iter().for_each(Waker::wake);
        let (Some(ended), Some(entry)) = (ended, taken) else { return Poll::Pending };
        self.index = None;
        Poll::Ready(ended.map(|()| entry.operation.memory))
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        let Some(index) = self.index else { return };
        let mut state = self.inner.lock();
        let entry = state.entries[index].as_mut().expect("it-is-in-the-list");
        if entry.ended.is_none() {
            entry.given_up = true;
        } else {
            state.entries[index] = None;
            state.free.push(index);
        }
    }
}

struct Polled(Arc<Inner>);

impl AsRawFd for Polled {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd
    }
}

/// That a task tends the ring, whether or not it has begun.
struct Tending(Arc<Inner>);

impl Drop for Tending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.tended = false;
        // Whoever waits looks after itself now, or finds somebody else.
        let waiting = state.entries.iter_mut().flatten();
        let wakers: Vec<Waker> = waiting.filter_map(|entry| entry.waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

enum News {
    Pushed,
    Complete,
    /// The runtime ends.
    End,
}

/// Tells the system what was pushed, and takes what is complete.
async fn tend(tending: Tending) {
    let inner = &tending.0;
    // SAFETY: the ring is open as long as it is polled, for what is polled holds it.
    let polled =
        unsafe { AsyncFd::register_with_interest(Polled(inner.clone()), Interest::READABLE) };
    let polled = polled.expect("a-ring-can-be-polled");
    // Whoever tended it before may have left something.
    inner.enter();
    loop {
        let mut pushed = pin!(inner.pushed.notified());
        let news = poll_fn(|context| {
            if pushed.as_mut().poll(context).is_ready() {
                return Poll::Ready(News::Pushed);
            }
            polled.poll_read_ready(context).map(|ready| match ready {
                Ok(mut ready) => {
                    // Forgotten first: what is complete from now on is told again.
                    ready.clear_ready();
                    News::Complete
                }
                Err(_) => News::End,
            })
        });
        match news.await {
            News::End => return,
            News::Pushed => {
                // The others have their turns first.
                yield_now().await;
                inner.enter();
            }
            News::Complete => inner.reap(),
        }
    }
}
