//! Flushes of a node that keeps its data: one at a time, and none without need.

use crate::bench::{FAULTLESS, Log, Manner, PLAIN, Test, check, read_log, write};

fn keeping(bad_flushes: u32) -> Manner {
    Manner { keeps_data: true, bad_flushes, ..PLAIN }
}

fn flushes(log: &Log) -> usize {
    read_log(log).iter().filter(|line| line.starts_with("flush")).count()
}

#[test]
fn a_flush_with_nothing_written_since_the_last_one_that_ended_well_is_left_out() {
    for bad in 0..3 {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.device_with("n", keeping(bad)).await;
            backend.flush().await.expect("there is nothing to flush");
            assert_eq!(flushes(&bench.log), 0);
            backend.write(write(0, 7)).await.expect("no fault is budgeted");
            for attempt in 0..5 {
                let flushed = backend.flush().await;
                assert_eq!(flushed.is_ok(), attempt >= bad, "what failed is not flushed");
                assert_eq!(flushes(&bench.log), (attempt.min(bad) + 1) as usize);
            }
            backend.write(write(0, 8)).await.expect("no fault is budgeted");
            backend.flush().await.expect("it fails no more");
            assert_eq!(flushes(&bench.log), bad as usize + 2);
        });
        check("skipped", &test, FAULTLESS, &[]);
    }
}

#[test]
fn flushes_side_by_side_all_end_and_each_covers_what_was_written_before_it() {
    for bad in [0, 1] {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.device_with("n", keeping(bad as u32)).await;
            for number in 0..3 {
                let (log, backend) = (bench.log.clone(), backend.clone());
                bench.task(&format!("t{number}"), async move {
                    backend.write(write(number, 7)).await.expect("no fault is budgeted");
                    let ended = read_log(&log).len();
                    let flushed = backend.flush().await;
                    let lines = read_log(&log).into_iter().enumerate();
                    let good = lines.filter(|(_, line)| line.starts_with("flush")).skip(bad);
                    // One that began after the write ended: this one, or another one's.
                    let covered = good.map(|(at, _)| at).any(|at| at >= ended);
                    assert!(flushed.is_err() || covered, "a flush was left out");
                });
            }
        });
        // The last flush covers all: another one has nothing to do.
        let test = test.checked(move |bench| {
            let all = flushes(&bench.log);
            assert!((1..=3).contains(&all), "{all} flushes");
        });
        check("side by side", &test, FAULTLESS, &[]);
    }
}
