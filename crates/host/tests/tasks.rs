//! Tasks, sleeps, orphans and panics on real threads.

use std::future::pending;
use std::sync::Arc;

use blockyard_host::Host;
use blockyard_sync::door::{bequeath, world::catch_panic};
use blockyard_sync::{Event, Mutex, Shared};

fn host() -> Host {
    Host::new(Host::DEFAULT_WORKERS).expect("the machine has threads")
}

/// Sets its event when it is dropped, by a task of its own.
struct SetsAtEnd(Arc<Event>);

impl Drop for SetsAtEnd {
    fn drop(&mut self) {
        let event = self.0.clone();
        bequeath(Box::pin(async move { event.set() }));
    }
}

#[test]
fn joined_tasks_have_run() {
    let host = host();
    let runtime = host.runtime();
    let count = Arc::new(Shared::new(0));
    host.block_on(async {
        let spawn = |index: u64| {
            let (count, inner) = (count.clone(), runtime.clone());
            runtime.spawn(format!("task{index}"), async move {
                inner.sleep(index % 3 * 100_000).await;
                count.write(|count| *count += 1);
                index
            })
        };
        let handles: Vec<_> = (0..100).map(spawn).collect();
        for (index, handle) in (0..).zip(handles) {
            assert_eq!(handle.join().await, index);
        }
    });
    assert_eq!(count.read(|count| *count), 100);
    assert_eq!(host.failed(), None);
}

#[test]
fn task_runs_on_when_its_handle_is_dropped() {
    let host = host();
    let runtime = host.runtime();
    let event = Arc::new(Event::default());
    let inner = event.clone();
    host.block_on(async {
        drop(runtime.spawn("alone", async move { inner.set() }));
        event.wait().await;
    });
}

#[test]
fn what_follows_a_sleep_comes_after_it() {
    let host = host();
    let runtime = host.runtime();
    let events = Arc::new(Shared::new(Vec::new()));
    host.block_on(async {
        let started = runtime.now_ns();
        let (inner, log) = (runtime.clone(), events.clone());
        log.write(|log| log.push("spawned"));
        let sleeper = runtime.spawn("sleeper", async move {
            inner.sleep(2_000_000).await;
            log.write(|log| log.push("slept"));
            inner.now_ns()
        });
        let ended = sleeper.join().await;
        events.write(|log| log.push("joined"));
        assert!(ended - started >= 2_000_000, "timers are never early");
        runtime.sleep(0).await;
    });
    assert_eq!(events.read(Clone::clone), ["spawned", "slept", "joined"]);
}

#[test]
fn choices_reach_every_alternative_and_no_other() {
    let host = host();
    let runtime = host.runtime();
    host.block_on(async {
        let mut seen = [false; 3];
        for _ in 0..300 {
            seen[runtime.choose(3).await as usize] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(runtime.choose(1).await, 0);
        assert_ne!(runtime.random_u64(), runtime.random_u64());
    });
}

#[test]
fn lock_goes_on_when_its_guard_is_merely_dropped() {
    let host = host();
    let runtime = host.runtime();
    let lock = Arc::new(Mutex::new(0));
    host.block_on(async {
        let mut guard = lock.lock().await;
        *guard = 1;
        let inner = lock.clone();
        let next = runtime.spawn("next", async move {
            let mut guard = inner.lock().await;
            *guard += 1;
            // Dropped on a thread of the host this time.
        });
        drop(guard);
        next.join().await;
        let last = lock.lock().await;
        assert_eq!(*last, 2);
        last.unlock();
    });
}

#[test]
fn what_a_task_bequeaths_runs() {
    let host = host();
    let runtime = host.runtime();
    let events: Vec<_> = (0..4).map(|_| Arc::new(Event::default())).collect();
    let at_end = |index: usize| SetsAtEnd(events[index].clone());
    host.block_on(async {
        // In the body, as it goes on; at a task's end; in an orphan, when it ends.
        drop(at_end(0));
        let held = at_end(1);
        drop(runtime.spawn("holder", async move {
            let _held = held;
        }));
        let nested = at_end(2);
        bequeath(Box::pin(async move { drop(nested) }));
        for event in &events[..3] {
            event.wait().await;
        }
        // And in a task that waits for it.
        let waits = async {
            let event = Arc::new(Event::default());
            drop(SetsAtEnd(event.clone()));
            event.wait().await;
        };
        runtime.spawn("waits", waits).join().await;
    });
    // At the end of a body that never got further.
    let held = at_end(3);
    host.block_on(async move {
        let _held = held;
    });
    host.block_on(events[3].wait());
}

#[test]
fn panic_of_a_task_ends_whoever_waits_and_is_kept() {
    let host = host();
    let runtime = host.runtime();
    let join = async { runtime.spawn("mirror0", async { panic!("planted") }).join().await };
    let waited: Result<(), String> = catch_panic(|| host.block_on(join));
    assert_eq!(waited, Err("panics-are-noticed: task mirror0: planted".into()));
    assert_eq!(host.failed().as_deref(), Some("task mirror0: planted"));
    // What needs no waiting still works.
    assert_eq!(host.block_on(async { 7 }), 7);
}

#[test]
fn host_ends_while_tasks_wait() {
    let lock = Arc::new(Mutex::new(()));
    let host = host();
    let runtime = host.runtime();
    host.block_on(async {
        let ready = Arc::new(Event::default());
        let (inner, waits) = (lock.clone(), ready.clone());
        drop(runtime.spawn("waits", async move {
            let _guard = inner.lock().await;
            waits.set();
            pending::<()>().await;
        }));
        ready.wait().await;
    });
    drop(host);
    // Nothing is left on this thread for the next host to adopt, and nothing runs after the end.
    drop(runtime.spawn("late", async { unreachable!("the host is gone") }));
    let other = Host::new(1).unwrap();
    other.block_on(async { drop(Host::new(1)) });
    assert_eq!(other.failed(), None);
}
