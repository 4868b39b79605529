//! A guest beside a job: short writes all over a disk, so many a second, whether or not those before have ended.
//!
//! Time is from where the guest makes a request to where it learns of its end. Where more than [`DEPTH`] have not
//! ended it waits, and makes up for it when it can: so whoever cannot keep up is shown by how many writes have ended.
//!
//! Differs: ours is a task of the same process for each write, QEMU's a client of its NBD export in ours. What making
//! them costs is in our processor time, and not in QEMU's.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use blockyard_block::{Backend, Write};
use blockyard_peer::{Ask, Nbd, Op};
use blockyard_runtime::IoBuffer;

use crate::common::layer::{Layer, REQUEST};
use crate::common::qemu::Daemon;

/// Writes a second that are offered.
const RATE: u64 = 2000;
/// How many have not ended, at most.
const DEPTH: usize = 16;

#[derive(Default)]
struct Writes {
    began: Vec<Instant>,
    /// Of those that have ended, in the order in which they did.
    took: Vec<Duration>,
}

/// The writes of a guest.
#[derive(Default)]
struct Log {
    writes: Mutex<Writes>,
    ended: Condvar,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().expect("nobody panics with it")
    }

    /// Waits until fewer than `depth` have not ended.
    fn fewer_than(&self, depth: usize) -> MutexGuard<'_, Writes> {
        let busy = |writes: &mut Writes| writes.began.len() - writes.took.len() >= depth;
        self.ended.wait_while(self.lock(), busy).expect("nobody panics with it")
    }

    /// Begins one; its number.
    fn begin(&self) -> usize {
        let mut writes = self.fewer_than(DEPTH);
        writes.began.push(Instant::now());
        writes.began.len() - 1
    }

    fn end(&self, number: usize) {
        let mut writes = self.lock();
        let took = writes.began[number].elapsed();
        writes.took.push(took);
        self.ended.notify_all();
    }
}

/// A guest that writes until it is told to stop.
pub struct Guest {
    log: Arc<Log>,
    stops: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    began: Instant,
}

/// What its writes took.
pub struct Suffered {
    /// Seconds, the shortest first.
    took_s: Vec<f64>,
    pub per_second: f64,
}

impl Suffered {
    /// The share of them that took no longer: 1 is all.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.took_s.len() - 1;
        self.took_s[(last as f64 * share) as usize]
    }
}

impl Guest {
    /// Writes to a disk of `len` bytes; `write` begins the write of that number at that offset.
    fn start(len: u64, log: Arc<Log>, mut write: impl FnMut(usize, u64) + Send + 'static) -> Self {
        let (stops, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let (told, own) = (stops.clone(), log.clone());
        let thread = thread::spawn(move || {
            let mut place = 0x9E37_79B9_7F4A_7C15_u64;
            for due in (0..).map(|number| Duration::from_micros(number * 1_000_000 / RATE)) {
                // Nobody wakes it before.
                thread::park_timeout(due.saturating_sub(began.elapsed()));
                if told.load(Ordering::Relaxed) {
                    break;
                }
                // Everywhere, and the same on both sides.
                place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                write(own.begin(), (place >> 20) % (len / REQUEST) * REQUEST);
            }
            drop(own.fewer_than(1));
        });
        Self { log, stops, thread, began }
    }

    /// Above a node of ours.
    pub fn ours(layer: &Layer, node: &str, len: u64) -> Self {
        let (backend, runtime) = (layer.backend(node), layer.host.runtime());
        let (log, data) = (Arc::new(Log::default()), IoBuffer::from(vec![0xA5; REQUEST as usize]));
        let written = log.clone();
        Self::start(len, log, move |number, offset| {
            let (backend, log): (Backend, _) = (backend.clone(), written.clone());
            let write = Write::data(offset, data.clone());
            let guest = async move {
                backend.write(write).await.expect("nothing fails here");
                log.end(number);
            };
            drop(runtime.spawn("guest", guest));
        })
    }

    /// Above a node of QEMU's.
    pub fn of_qemu(daemon: &mut Daemon, node: &str, len: u64) -> Self {
        let address = format!("blockyard-bench-{}", std::process::id());
        let listen = format!(
            r#"{{"addr": {{"type": "unix", "data": {{"path": "{address}", "abstract": true}}}}}}"#
        );
        daemon.execute("nbd-server-start", [listen]);
        let export = r#""type": "nbd", "id": "guest", "name": "guest", "writable": true"#;
        daemon.execute("block-export-add", [format!(r#"{{{export}, "node-name": "{node}"}}"#)]);
        let nbd = Nbd::connect(&address, "guest", Rc::new(|| false)).expect("it is exported");
        let (mut asker, mut hearer) = nbd.halves().expect("there are descriptors");
        let log = Arc::new(Log::default());
        let heard = log.clone();
        thread::spawn(move || {
            while let Ok((number, error)) = hearer.hear() {
                assert_eq!(error, 0, "nothing fails here");
                heard.end(number as usize);
            }
        });
        Self::start(len, log, move |number, offset| {
            let data = [0xA5; REQUEST as usize];
            let ask = Ask { op: Op::Write, offset, len: REQUEST as u32, data: &data, fua: false };
            asker.ask(number as u64, &ask).expect("it listens");
        })
    }

    /// Has it stop, and waits for what it has begun.
    pub fn stop(self) -> Suffered {
        let passed_s = self.began.elapsed().as_secs_f64();
        self.stops.store(true, Ordering::Relaxed);
        self.thread.join().expect("it stops");
        let took = &self.log.lock().took;
        let mut took_s: Vec<f64> = took.iter().map(Duration::as_secs_f64).collect();
        took_s.sort_by(f64::total_cmp);
        let per_second = took_s.len() as f64 / passed_s;
        Suffered { took_s, per_second }
    }
}
