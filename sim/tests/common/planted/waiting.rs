//! Tasks that wait for each other: notified too early, in a ring, or for what was given up.

use blockyard_runtime::Runtime;
use blockyard_sim::SimDisk;
use blockyard_sync::{Shared, Unstoppable, first_of};

use super::super::sectors::Request::Write;
use super::super::sectors::ask;
use super::super::{Board, Small, program, task};

/// A write that is counted as long as it is in flight. Whoever drops it in the middle leaves it counted.
async fn counted_write(in_flight: &Shared<u64>, disk: &SimDisk, sector: u64) {
    in_flight.write(|count| *count += 1);
    ask(disk, Write(sector, 1, 1)).await;
    in_flight.write(|count| *count -= 1);
}

/// A section begins when no request is in flight: requests notify it as they end. Between its look at them and its
/// wait it puts itself on the list of those who wait, for which there is a lock. The mistake: it registers for
/// notifications only after that.
pub fn drain(registers_late: bool) -> Small {
    let drained = async move |board: &Board| {
        loop {
            let early = (!registers_late).then(|| board.queue.register());
            if board.values[0].read(|in_flight| *in_flight == 0) {
                break;
            }
            let mut waiting = board.mutexes[0].lock().await;
            *waiting += 1;
            waiting.unlock();
            early.unwrap_or_else(|| board.queue.register()).wait().await;
        }
    };
    program(move |runtime, board| {
        for guest in 0..2 {
            let board = board.clone();
            task(runtime, &format!("guest{guest}"), async move {
                counted_write(&board.values[0], &board.disks[0], guest).await;
                board.queue.notify_all();
            });
        }
        task(runtime, "drain", async move { drained(&board).await });
    })
}

/// Three copies, each from one node to the next of three in a ring, hold the locks of both. The mistake: each takes
/// that of its source first, whatever their order.
pub fn copies(lock_source_first: bool) -> Small {
    program(move |runtime, board| {
        for index in 0..3 {
            let board = board.clone();
            let (source, target) = (index, (index + 1) % 3);
            let (first, second) = match lock_source_first {
                true => (source, target),
                false => (source.min(target), source.max(target)),
            };
            task(runtime, &format!("copy{index}"), async move {
                let first = board.mutexes[first].lock().await;
                let second = board.mutexes[second].lock().await;
                ask(&board.disks[0], Write(index as u64, 1, 1)).await;
                second.unlock();
                first.unlock();
            });
        }
    })
}

/// Two guests give up writes that take too long, and somebody closes the disk when none is in flight. The mistake: what
/// was given up is dropped where it is, and never uncounted.
pub fn closing(drops_in_the_middle: bool) -> Small {
    program(move |runtime: &Runtime, board| {
        for guest in 0..2 {
            let (board, clock) = (board.clone(), runtime.clone());
            task(runtime, &format!("guest{guest}"), async move {
                let asked = board.clone();
                let request =
                    async move { counted_write(&asked.values[0], &asked.disks[0], guest).await };
                let patience = clock.sleep(1_000_000);
                match drops_in_the_middle {
                    true => first_of(request, patience).await,
                    false => first_of(Unstoppable::new(request), patience).await,
                };
            });
        }
        task(runtime, "closer", async move {
            board.values[0].wait_until(|in_flight| *in_flight == 0).await;
        });
    })
}
