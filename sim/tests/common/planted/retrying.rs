//! Writers whose requests fail, and what they take for done, or for not done.

use blockyard_runtime::Storage;
use blockyard_sim::SimDisk;
use blockyard_units::ByteRange;

use super::super::sectors::Request::{Flush, Read, Write};
use super::super::sectors::{SECTOR, ask, in_digits};
use super::super::{Small, program, task};

/// Writes four sectors in two halves; `retry` says what a failed first half makes it do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Retry {
    /// All of it, until it is done.
    Whole,
    /// Only its second sector: "the first one was written".
    Rest,
    /// The next place: "this one is bad".
    Elsewhere,
}

async fn write_all(disk: &SimDisk, retry: Retry) {
    for half in [0, 2] {
        let mut request = Write(half, 2, 1);
        while ask(disk, request).await != "ok" {
            request = match retry {
                Retry::Whole => Write(half, 2, 1),
                Retry::Rest => Write(half + 1, 1, 1),
                Retry::Elsewhere => Write(half + 2, 2, 1),
            };
        }
    }
}

/// A writer whose retries do as `retry` says, and reads what it wrote.
pub fn retrying(retry: Retry) -> Small {
    let program = program(move |runtime, board| {
        task(runtime, "writer", async move {
            write_all(&board.disks[0], retry).await;
            // A read may fail: it is tried again.
            let mut read = ask(&board.disks[0], Read(0, 4)).await;
            while read == "EIO" {
                read = ask(&board.disks[0], Read(0, 4)).await;
            }
            board.values[0].write(|value| *value = u64::from(read == "1111"));
        });
    });
    program.checked(|board| match board.first_values() {
        [1] => Ok(()),
        _ => Err("said to be written, and is not".into()),
    })
}

/// Writes two sectors and has them flushed; a flush that fails is tried again, after the writes if it `rewrites`.
pub fn flushing(rewrites: bool) -> Small {
    let program = program(move |runtime, board| {
        task(runtime, "writer", async move {
            let disk = &board.disks[0];
            let write = async || {
                for sector in 0..2 {
                    assert_eq!(ask(disk, Write(sector, 1, 1)).await, "ok");
                }
            };
            write().await;
            while ask(disk, Flush).await != "ok" {
                if rewrites {
                    write().await;
                }
            }
            let read = ask(disk, Read(0, 2)).await;
            board.values[0].write(|value| *value = u64::from(read == "11"));
        });
    });
    program.checked(|board| match board.first_values() {
        [1] => Ok(()),
        _ => Err("said to be durable, and is gone".into()),
    })
}

/// The writer of [`copied`] has ended.
const ENDED: u64 = 4;

/// A writer writes two chunks of disk `a` and marks each; a copier copies what is marked to disk `b`. The mistake: a
/// write that failed is not marked, as if it had left everything as it was.
pub fn copied(skips_failed: bool) -> Small {
    const CHUNK: u64 = 2 * SECTOR;
    let program = program(move |runtime, board| {
        let writing = board.clone();
        task(runtime, "writer", async move {
            let mark = |bits: u64| writing.values[0].write(|marked| *marked |= bits);
            for chunk in 0..2 {
                let written = ask(&writing.disks[0], Write(2 * chunk, 2, 1)).await;
                if written == "ok" || !skips_failed {
                    mark(1 << chunk);
                }
            }
            mark(ENDED);
        });
        task(runtime, "copier", async move {
            let mut taken = 0;
            while taken & ENDED == 0 {
                taken = board.values[0].wait_for(|marked| *marked != 0, std::mem::take).await;
                for chunk in (0..2).filter(|chunk| taken & 1 << chunk != 0) {
                    copy(&board.disks, ByteRange::new(chunk * CHUNK, CHUNK)).await;
                }
            }
        });
    });
    program.checked(|board| {
        let [a, b] = [0, 1].map(|index| board.disks[index].observe_quietly(in_digits));
        if a == b { Ok(()) } else { Err(format!("the copy of {a} is {b}")) }
    })
}

/// Copies a range from the first disk to the second, and does again what fails.
async fn copy(disks: &[SimDisk], range: ByteRange) {
    let bytes = loop {
        if let Ok(bytes) = disks[0].read(range).await {
            break bytes;
        }
    };
    while disks[1].write(range.start(), bytes.clone(), false).await.is_err() {}
}
