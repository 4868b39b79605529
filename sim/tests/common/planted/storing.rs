//! Stores that must be found whole after a power loss, and not older than what they acknowledged.

use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_units::ByteRange;

use super::super::recovering::{Recovering, Tools};
use super::super::task;

/// What was recovered is the generation that was found and that of the data it leads to.
fn found(generation: u64, data: u64) -> u64 {
    generation * 256 + data
}

fn whole_and_new_enough(recovered: u64, acknowledged: &[u64]) -> Result<(), String> {
    let (generation, data) = (recovered / 256, recovered % 256);
    let least = acknowledged.iter().max().copied().unwrap_or(0);
    if data != generation {
        return Err(format!("generation {generation} leads to the data of {data}"));
    }
    if generation < least {
        return Err(format!("{generation} was recovered, {least} had been acknowledged"));
    }
    Ok(())
}

/// Which flushes an update of the two superblocks leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgets {
    Nothing,
    FlushOfData,
    FlushOfSuperblock,
}

/// Generations go to two places in turn, data first, then the superblock that names it.
pub fn superblocks(forgets: Forgets, updates: u64) -> Recovering {
    let main = move |runtime: &Runtime, tools: Tools| {
        task(runtime, "writer", async move {
            for generation in 1..=updates {
                let place = generation % 2;
                tools.write(2 + place, generation).await;
                if forgets != Forgets::FlushOfData {
                    tools.flush().await;
                }
                tools.write(place, generation).await;
                if forgets != Forgets::FlushOfSuperblock {
                    tools.flush().await;
                }
                tools.acknowledge(generation);
            }
        });
    };
    let recovery = |runtime: &Runtime, tools: Tools| {
        task(runtime, "recovery", async move {
            let generation = tools.read(0).await.max(tools.read(1).await);
            let data = tools.read(2 + generation % 2).await;
            tools.observed.with(|observed| observed.recovered = Some(found(generation, data)));
        });
    };
    Recovering::new(main, recovery).demanding(whole_and_new_enough)
}

/// What protects a header that is wider than what a power loss leaves whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Two copies, written in turn, each with a checksum.
    Safe,
    /// Two copies, the newer of which is believed.
    Unchecked,
    /// A checksum, and no second copy.
    Alone,
    /// Nothing.
    InPlace,
}

impl Header {
    fn copies(self) -> u64 {
        if matches!(self, Self::Safe | Self::Unchecked) { 2 } else { 1 }
    }

    fn is_checked(self) -> bool {
        matches!(self, Self::Safe | Self::Alone)
    }
}

/// A header has two halves of so many bytes, which tear apart: the generation and a checksum, and the data.
pub fn header(header: Header, half: u64) -> Recovering {
    let main = move |runtime: &Runtime, tools: Tools| {
        task(runtime, "writer", async move {
            for generation in 1..=2 {
                let mut bytes = vec![0; 2 * half as usize];
                bytes[0] = generation as u8;
                bytes[1] = checksum(generation, generation);
                bytes[half as usize] = generation as u8;
                let place = generation % header.copies() * 2 * half;
                tools
                    .disk
                    .write(place, IoBuffer::from(bytes), false)
                    .await
                    .expect("writes succeed");
                tools.flush().await;
                tools.acknowledge(generation);
            }
        });
    };
    let recovery = move |runtime: &Runtime, tools: Tools| {
        task(runtime, "recovery", async move {
            let mut newest = (0, 0);
            for copy in 0..header.copies() {
                let range = ByteRange::new(copy * 2 * half, 2 * half);
                let bytes = tools.disk.read(range).await.expect("reads succeed");
                let [generation, data] = [0, half as usize].map(|place| u64::from(bytes[place]));
                if !header.is_checked() || bytes[1] == checksum(generation, data) {
                    newest = newest.max((generation, data));
                }
            }
            let (generation, data) = newest;
            tools.observed.with(|observed| observed.recovered = Some(found(generation, data)));
        });
    };
    Recovering::new(main, recovery).demanding(whole_and_new_enough)
}

fn checksum(generation: u64, data: u64) -> u8 {
    (generation * 31 + data) as u8
}
