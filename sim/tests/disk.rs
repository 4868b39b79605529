//! What a simulated disk promises, and what a power loss may leave of it.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockyard_runtime::{IoBuffer, IoErrorKind, Storage};
use blockyard_sim::{Budgets, DiskImage, RandomWalk, SimDisk, Verdict, World};
use blockyard_sim::{Chooser, Explorer, Limits, Pick};
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

/// What a task does with the disk.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Write { offset: u64, len: u64, fua: bool },
    Flush,
}

/// What the disk may hold, kept atom by atom: the versions a power loss can leave, oldest first.
struct Expected {
    /// (who wrote it, the atom's bytes)
    atoms: Vec<Vec<(Option<usize>, Vec<u8>)>>,
    completed: BTreeSet<usize>,
    covered: BTreeMap<usize, BTreeSet<usize>>,
}

impl Expected {
    fn new(atoms: u64) -> Self {
        let atoms = (0..atoms).map(|_| vec![(None, vec![0; ATOM as usize])]).collect();
        Self { atoms, completed: BTreeSet::new(), covered: BTreeMap::new() }
    }

    /// An event of the task `index`, which does `operation`.
    fn saw(&mut self, verb: &str, index: usize, operation: Operation) {
        match (verb, operation) {
            ("poll", Operation::Flush) => {
                let covered = self.completed.clone();
                self.covered.entry(index).or_insert(covered);
            }
            ("effect", Operation::Write { offset, len, .. }) => self.write(index, offset, len),
            ("effect", Operation::Flush) => {
                let covered = self.covered[&index].clone();
                self.make_durable(|writer| covered.contains(&writer));
            }
            ("complete", Operation::Write { fua, .. }) => {
                self.completed.insert(index);
                self.make_durable(|writer| fua && writer == index);
            }
            _ => {}
        }
    }

    fn write(&mut self, index: usize, offset: u64, len: u64) {
        for (number, versions) in self.atoms.iter_mut().enumerate() {
            let start = number as u64 * ATOM;
            let atom = ByteRange::new(start, ATOM);
            let common = ByteRange::new(offset, len).intersection(&atom);
            if !common.is_empty() {
                let mut bytes = versions.last().expect("an-atom-has-a-version").1.clone();
                bytes[(common.start() - start) as usize..(common.end() - start) as usize]
                    .fill(index as u8 + 1);
                versions.push((Some(index), bytes));
            }
        }
    }

    fn make_durable(&mut self, by: impl Fn(usize) -> bool) {
        for versions in &mut self.atoms {
            let durable = versions.iter().rposition(|(writer, _)| writer.is_some_and(&by));
            versions.drain(..durable.unwrap_or(0));
        }
    }

    /// Every content, by brute force.
    fn contents(&self) -> BTreeSet<Vec<u8>> {
        let grow = |contents: BTreeSet<Vec<u8>>, versions: &Vec<(Option<usize>, Vec<u8>)>| {
            let one = |content: &Vec<u8>| {
                let content = content.clone();
                versions.iter().map(move |(_, bytes)| [&content[..], &bytes[..]].concat()).collect()
            };
            contents.iter().flat_map(|content| -> Vec<_> { one(content) }).collect()
        };
        self.atoms.iter().fold(BTreeSet::from([Vec::new()]), grow)
    }
}

fn world_of(atoms: u64) -> World {
    let bytes = IoBuffer::zeroes((atoms * ATOM) as usize);
    let image = DiskImage { name: "a".into(), bytes, atom: ByteLen(ATOM) };
    World::new(&[image], Budgets { crashes: 1, ..Budgets::NONE }, 0)
}

/// Runs up to `steps` steps of a random walk over tasks that each do one operation. What a power loss may leave then.
fn run(world: &mut World, operations: &[Operation], seed: u64, steps: usize) -> Expected {
    world.reset();
    let disk = world.disk("a").expect("there is one disk");
    let mut expected = Expected::new(disk.len().0 / ATOM);
    world.begin(|runtime| {
        for (index, operation) in operations.iter().enumerate() {
            let (disk, operation) = (disk.clone(), *operation);
            task(runtime, &format!("t{index}"), async move {
                match operation {
                    Operation::Flush => disk.flush().await,
                    Operation::Write { offset, len, fua } => {
                        let data = vec![index as u8 + 1; len as usize].into();
                        disk.write(offset, data, fua).await
                    }
                }
                .expect("no fault is budgeted");
            });
        }
    });
    let mut walk = RandomWalk::new(seed);
    let (mut enabled, mut accesses) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        world.enabled(&mut enabled);
        let Pick::Event(pick) = walk.pick(world, &enabled) else { break };
        let Some(event) = enabled.get(pick) else { break };
        let described = world.describe(*event);
        let (verb, rest) = described.split_once(' ').expect("a verb comes first");
        let number = rest[1..].split(['#', ' ']).next();
        let index = number.and_then(|number| number.parse().ok()).expect("tasks are numbered");
        world.step(*event, &mut accesses).expect("nothing panics");
        expected.saw(verb, index, operations[index]);
    }
    expected
}

/// Every content that some fate leaves.
fn contents_after_power_loss(
    world: &mut World,
    mut again: impl FnMut(&mut World),
) -> BTreeSet<Vec<u8>> {
    let disk: SimDisk = world.disk("a").expect("there is one disk");
    let mut contents = BTreeSet::new();
    let mut fates: Vec<(usize, usize)> = Vec::new();
    loop {
        again(world);
        let mut position = 0;
        world.crash(&mut |_, _, versions| {
            if position == fates.len() {
                fates.push((0, versions));
            }
            position += 1;
            fates[position - 1].0
        });
        contents.insert(disk.observe_quietly(|bytes| bytes.to_vec()));
        while fates.last().is_some_and(|(fate, versions)| fate + 1 == *versions) {
            fates.pop();
        }
        match fates.last_mut() {
            Some((fate, _)) => *fate += 1,
            None => return contents,
        }
    }
}

#[track_caller]
fn check_power_loss(atoms: u64, operations: &[Operation], seed: u64, steps: usize) {
    let mut world = world_of(atoms);
    let expected = run(&mut world, operations, seed, steps).contents();
    let contents = contents_after_power_loss(&mut world, |world| {
        run(world, operations, seed, steps);
    });
    let counts = format!("{} of {}", contents.len(), expected.len());
    assert!(contents == expected, "{operations:?}, walk {seed}, {steps} steps: {counts}");
}

const fn write(from: u64, to: u64) -> Operation {
    Operation::Write { offset: from * ATOM, len: (to - from) * ATOM, fua: false }
}

#[test]
fn write_in_flight_leaves_any_subset_of_its_atoms() {
    let mut world = world_of(3);
    let operations = [write(0, 3)];
    // The poll that submits it, and its effect.
    let contents = contents_after_power_loss(&mut world, |world| {
        run(world, &operations, 0, 2);
    });
    assert_eq!(contents.len(), 8);
}

#[test]
fn power_loss_leaves_just_what_no_flush_forbids() {
    let fua = Operation::Write { offset: 0, len: 2 * ATOM, fua: true };
    let overlapping = [write(0, 2), write(1, 3), Operation::Flush, write(1, 4)];
    let durable = [write(0, 2), fua, Operation::Flush, write(1, 2)];
    for operations in [overlapping, durable] {
        for seed in 0..60 {
            for steps in 3..16 {
                check_power_loss(4, &operations, seed, steps);
            }
        }
    }
}

#[test]
fn writes_of_parts_of_an_atom_keep_their_order() {
    let part = |offset, len| Operation::Write { offset, len, fua: false };
    let operations = [part(0, 256), part(256, 512), Operation::Flush, part(128, 256)];
    for seed in 0..600 {
        for steps in 3..16 {
            check_power_loss(2, &operations, seed, steps);
        }
    }
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

#[test]
fn crash_runs_no_destructor_through_the_door() {
    let mut world = world_of(1);
    let (dropped, bequeathed): (Arc<Quiet<u64>>, Arc<Quiet<u64>>) = Default::default();
    let (mut enabled, mut accesses) = (Vec::new(), Vec::new());
    world.begin(|runtime| {
        let value = Arc::new(Shared::new(0));
        let legacy = Legacy { value, dropped: dropped.clone(), bequeathed: bequeathed.clone() };
        let (sleeper, asleep) = (runtime.clone(), runtime.clone());
        task(runtime, "t", async move {
            let child = async move { sleeper.sleep(7).await };
            drop(asleep.spawn("child", child));
            asleep.sleep(9).await;
            drop(legacy);
        });
    });
    world.enabled(&mut enabled);
    world.step(enabled[0], &mut accesses).expect("nothing panics");
    world.crash(&mut |_, _, _| 0);
    world.enabled(&mut enabled);
    assert!(enabled.is_empty() && world.unfinished().is_empty());
    assert_eq!((dropped.with(|count| *count), bequeathed.with(|count| *count)), (1, 0));

    let recovery = world.begin(|runtime| {
        task(runtime, "recovery", async {});
        Shared::new(0_u64)
    });
    world.enabled(&mut enabled);
    let described: Vec<_> = enabled.iter().map(|event| world.describe(*event)).collect();
    assert_eq!(described, ["poll recovery"]);
    world.step(enabled[0], &mut accesses).expect("nothing panics");
    assert_eq!((recovery.read(|value| *value), bequeathed.with(|count| *count)), (0, 0));
}
