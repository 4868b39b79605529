//! What a simulated disk promises; `crashes` has what a power loss may leave of it.

mod common;

use std::sync::Arc;

use blockyard_runtime::{IoBuffer, IoErrorKind, Storage};
use blockyard_sim::{
    Budgets, Execution, Explorer, Finding, Limits, Outcome, Program, Recovery, Verdict, World,
};
use blockyard_sync::Shared;
use blockyard_sync::door::{self, world::Quiet};
use blockyard_units::{ByteLen, ByteRange};
use common::{FAULTLESS, program, setup, task};

const LEN: u64 = (1 << 16) + 77;
const ATOM: u64 = 512;

fn pattern(seed: u64, len: u64) -> IoBuffer {
    (0..len).map(|index| (index * 7 + index / 251 + seed) as u8).collect::<Vec<_>>().into()
}

async fn check_promises(disk: &impl Storage) {
    assert_eq!(disk.len(), ByteLen(LEN));
    let mut expected = vec![0; LEN as usize];
    let places = [(0, 1), (0, 512), (511, 2), (4095, 4098), (7000, 20_000), (LEN - 1, 1), (LEN, 0)];
    for (seed, (offset, len)) in (1..).zip(places) {
        let data = pattern(seed, len);
        disk.write(offset, data.clone(), seed % 2 == 0).await.expect("writes inside succeed");
        expected[offset as usize..(offset + len) as usize].copy_from_slice(&data);
        let back = disk.read(ByteRange::new(offset, len)).await.expect("reads inside succeed");
        assert_eq!(back, data, "at {offset}");
    }
    disk.flush().await.expect("flushes succeed");
    let whole = disk.read(ByteRange::new(0, LEN)).await.expect("reads inside succeed");
    assert!(*whole == *expected, "writes touch only their own bytes");
    for (offset, len) in [(LEN, 1), (LEN - 1, 2), (u64::MAX, 0), (u64::MAX - 9, 9), (u64::MAX, 2)] {
        let written = disk.write(offset, pattern(1, len), false).await;
        assert_eq!(written, Err(IoErrorKind::InvalidInput));
    }
    let refused = Err(IoErrorKind::InvalidInput);
    assert_eq!(disk.read(ByteRange::new(0, LEN + 1)).await, refused);
}

#[test]
fn simulated_disk_keeps_the_promises_of_a_disk() {
    let promises = program(|runtime, board| {
        let disk = board.disks[0].clone();
        task(runtime, "t", async move { check_promises(&disk).await });
    });
    for crashes in [0, 1] {
        let mut setup = setup(Budgets { crashes, ..Budgets::NONE });
        setup.images[0].bytes = IoBuffer::zeroes(LEN as usize);
        setup.images[0].capacity = ByteLen(LEN);
        let mut go_on = |_: &blockyard_sim::Summary| true;
        let mut explorer = Explorer::new(&promises, setup, Limits::default(), &mut go_on);
        assert_eq!(explorer.random(0..3).verdict, Verdict::Clean { exhausted: false });
    }
}

#[test]
fn dropped_futures_take_effect() {
    let dropping = program(|runtime, board| {
        let disk = board.disks[0].clone();
        task(runtime, "t", async move {
            for index in 0..8 {
                drop(disk.write(index * ATOM, pattern(index, ATOM), false));
            }
        });
    })
    .checked(|board| {
        let expected: Vec<u8> = (0..8).flat_map(|index| pattern(index, ATOM).to_vec()).collect();
        board.disks[0].observe_quietly(|bytes| match bytes == expected {
            true => Ok(()),
            false => Err("a write is missing".into()),
        })
    });
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(&dropping, setup(FAULTLESS), Limits::default(), &mut go_on);
    assert_eq!(explorer.random(0..20).verdict, Verdict::Clean { exhausted: false });
}

/// Goes through the door when it is dropped.
struct Legacy {
    value: Arc<Shared<u64>>,
    dropped: Arc<Quiet<u64>>,
    bequeathed: Arc<Quiet<u64>>,
}

impl Drop for Legacy {
    fn drop(&mut self) {
        self.dropped.with(|count| *count += 1);
        self.value.write(|value| *value += 1);
        let bequeathed = self.bequeathed.clone();
        door::bequeath(Box::pin(async move { bequeathed.with(|count| *count += 1) }));
    }
}

/// Tasks that leave legacies; its recovery looks whether any was paid out.
#[derive(Default)]
struct Heirs {
    dropped: Arc<Quiet<u64>>,
    bequeathed: Arc<Quiet<u64>>,
    recovers: bool,
}

impl Program for Heirs {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let (dropped, bequeathed) = (self.dropped.clone(), self.bequeathed.clone());
        world.begin(|runtime| {
            let value = Arc::new(Shared::new(0));
            let legacy = Legacy { value: value.clone(), dropped, bequeathed };
            task(runtime, "t", async move {
                value.wait_until(|value| *value > 0).await;
                drop(legacy);
            });
        });
        let (dropped, bequeathed) = (self.dropped.clone(), self.bequeathed.clone());
        Box::new(Heirs { dropped, bequeathed, recovers: self.recovers })
    }
}

impl Execution for Heirs {
    fn judge(&self, world: &World) -> Option<Finding> {
        let counts = (self.dropped.with(|count| *count), self.bequeathed.with(|count| *count));
        let unfinished = world.unfinished();
        if !self.recovers {
            assert_eq!((counts, unfinished.len()), ((0, 0), 1));
            return None;
        }
        assert_eq!((counts, unfinished.len()), ((1, 0), 0));
        Some(Finding { property: "check".into(), message: "recovered".into() })
    }

    fn digest(&self, _world: &World) -> u64 {
        0
    }

    fn recovery(&self) -> Option<Recovery<'_>> {
        Some(Box::new(|world| {
            world.begin(|runtime| task(runtime, "recovery", async {}));
            let (dropped, bequeathed) = (self.dropped.clone(), self.bequeathed.clone());
            Box::new(Heirs { dropped, bequeathed, recovers: true })
        }))
    }
}

#[test]
fn crash_runs_no_destructor_through_the_door() {
    let heirs = Heirs::default();
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let setup = setup(Budgets { crashes: 1, ..Budgets::NONE });
    let mut explorer = Explorer::new(&heirs, setup, Limits::default(), &mut go_on);
    let tape = ["poll t", "crash", "poll recovery"].map(String::from).to_vec();
    let (report, lines) = explorer.replay(tape);
    assert!(matches!(report.outcome, Outcome::Violated(_)), "{lines:?}");
    assert_eq!(lines.len(), 3);
}
