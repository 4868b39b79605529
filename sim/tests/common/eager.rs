//! Power losses by definition: every schedule, lost behind every step, with every content that the disks may have then.
//! Knows nothing of how the simulator does it: it steps a world that never loses power, keeps its own books, and
//! recovers in a fresh world with that content.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use blockyard_sim::{Budgets, Cache, Event, World};
use blockyard_sync::door::world::Quiet;

use super::crashing::{Acks, Ended, Era, Op, Seen, disks, fill, images, start};

const ATOM: usize = 512;

type Contents = Vec<Vec<u8>>;

struct Write {
    /// (task, operation)
    who: (usize, usize),
    place: Range<usize>,
    byte: u8,
    /// Known to be.
    durable: bool,
}

/// What a disk has been told, in the order of effects.
struct Medium {
    beginning: Vec<u8>,
    writes: Vec<Write>,
}

impl Medium {
    /// The contents of an atom after no write, the first, the second …, with the write; and which of them are durable.
    fn versions(&self, atom: usize) -> Vec<(Vec<u8>, bool)> {
        let place = atom * ATOM..(atom + 1) * ATOM;
        let mut whole = self.beginning.clone();
        let mut versions = vec![(whole[place.clone()].to_vec(), true)];
        for write in &self.writes {
            whole[write.place.clone()].fill(write.byte);
            if write.place.start < place.end && place.start < write.place.end {
                versions.push((whole[place.clone()].to_vec(), write.durable));
            }
        }
        versions
    }

    fn atoms(&self) -> usize {
        self.beginning.len() / ATOM
    }

    fn contents(&self, cache: Cache, torn: bool) -> BTreeSet<Vec<u8>> {
        if cache == Cache::Ordered {
            return self.ordered(torn);
        }
        let of_atom = |atom| {
            let versions = self.versions(atom);
            let least = versions.iter().rposition(|(_, durable)| *durable).expect("the first is");
            let mut found: BTreeSet<_> =
                versions[least..].iter().map(|(bytes, _)| bytes.clone()).collect();
            if torn {
                found.extend(versions[least..].windows(2).map(|pair| half(&pair[0].0, &pair[1].0)));
            }
            found
        };
        product((0..self.atoms()).map(of_atom))
    }

    /// Some writes whole, and of the next one any part.
    fn ordered(&self, torn: bool) -> BTreeSet<Vec<u8>> {
        let least = self.writes.iter().rposition(|write| write.durable).map_or(0, |last| last + 1);
        let upto = |count: usize| {
            let mut bytes = self.beginning.clone();
            for write in &self.writes[..count] {
                bytes[write.place.clone()].fill(write.byte);
            }
            bytes
        };
        let mut contents = BTreeSet::new();
        for whole in least..=self.writes.len() {
            let (old, new) = (upto(whole), upto((whole + 1).min(self.writes.len())));
            let of_atom = |atom| {
                let [old, new] = [&old, &new].map(|b| b[atom * ATOM..(atom + 1) * ATOM].to_vec());
                let torn = torn.then(|| half(&old, &new));
                [old, new].into_iter().chain(torn).collect()
            };
            contents.extend(product((0..self.atoms()).map(of_atom)));
        }
        contents
    }
}

fn half(old: &[u8], new: &[u8]) -> Vec<u8> {
    [&new[..ATOM / 2], &old[ATOM / 2..]].concat()
}

fn product(parts: impl Iterator<Item = BTreeSet<Vec<u8>>>) -> BTreeSet<Vec<u8>> {
    parts.fold(BTreeSet::from([Vec::new()]), |contents, part| {
        let add = |content: &Vec<u8>| {
            part.iter().map(|bytes| [&content[..], bytes].concat()).collect::<Vec<_>>()
        };
        contents.iter().flat_map(add).collect()
    })
}

/// The books of one schedule.
struct Books<'a> {
    era: &'a Era,
    media: Vec<Medium>,
    polls: Vec<usize>,
    completed: BTreeSet<(usize, usize)>,
    covered: BTreeMap<(usize, usize), BTreeSet<(usize, usize)>>,
    acks: BTreeSet<(usize, usize)>,
}

impl Books<'_> {
    fn saw(&mut self, cache: Cache, number: usize, line: &str) {
        let mut words = line.split([' ', '#']);
        let (verb, name) = (words.next().expect("a verb"), words.next().expect("a process"));
        let task: usize = name.trim_start_matches('t').parse().expect("tasks are numbered");
        if verb == "poll" {
            let poll = self.polls[task];
            self.polls[task] += 1;
            self.acks.extend(poll.checked_sub(1).map(|op| (task, op)));
            if let Some(Op::Flush { .. }) = self.era[task].get(poll) {
                self.covered.insert((task, poll), self.completed.clone());
            }
            return;
        }
        // A task has one request under way: that of its last poll.
        let who = (task, self.polls[task] - 1);
        let op = self.era[task][who.1];
        let honest = cache != Cache::Lying;
        match (verb, op) {
            ("effect", Op::Write { disk, offset, len, .. }) => {
                let byte = fill(number, task, who.1);
                let place = offset as usize..(offset + len) as usize;
                self.media[disk].writes.push(Write { who, place, byte, durable: false });
            }
            ("complete", Op::Write { disk, fua, .. }) => {
                self.completed.insert(who);
                if fua && honest || cache == Cache::WriteThrough {
                    self.promise(disk, &BTreeSet::from([who]));
                }
            }
            ("complete", Op::Flush { disk }) if honest => {
                let covered = self.covered[&who].clone();
                self.promise(disk, &covered);
            }
            _ => {}
        }
    }

    fn promise(&mut self, disk: usize, who: &BTreeSet<(usize, usize)>) {
        let writes = self.media[disk].writes.iter_mut();
        writes.filter(|write| who.contains(&write.who)).for_each(|write| write.durable = true);
    }
}

/// The search.
pub struct Eager<'a> {
    pub eras: &'a [Era],
    pub cache: Cache,
    pub torn: bool,
    known: BTreeMap<(usize, Contents), BTreeSet<Ended>>,
    pub schedules: usize,
}

impl<'a> Eager<'a> {
    pub fn new(eras: &'a [Era], cache: Cache, torn: bool) -> Self {
        Self { eras, cache, torn, known: BTreeMap::new(), schedules: 0 }
    }

    /// Every way to end, from this era on with these contents.
    pub fn outcomes(&mut self, era: usize, contents: &Contents) -> BTreeSet<Ended> {
        let key = (era, contents.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let mut outcomes = BTreeSet::new();
        let mut losses: BTreeSet<(Acks, Contents)> = BTreeSet::new();
        let mut choices: Vec<(usize, usize)> = Vec::new();
        let budgets = Budgets::NONE;
        let mut world = World::new(&images(contents, self.cache, false), budgets, 0);
        loop {
            world.reset();
            let ended = self.run(&mut world, (era, contents), &mut choices, &mut losses);
            outcomes.insert(ended);
            self.schedules += 1;
            while choices.last().is_some_and(|(choice, of)| choice + 1 == *of) {
                choices.pop();
            }
            match choices.last_mut() {
                Some((choice, _)) => *choice += 1,
                None => break,
            }
        }
        for (acks, contents) in losses {
            for later in self.outcomes(era + 1, &contents) {
                outcomes
                    .insert(Ended { acks: acks.union(&later.acks).copied().collect(), ..later });
            }
        }
        self.known.insert(key, outcomes.clone());
        outcomes
    }

    fn run(
        &self,
        world: &mut World,
        (number, contents): (usize, &Contents),
        choices: &mut Vec<(usize, usize)>,
        losses: &mut BTreeSet<(Acks, Contents)>,
    ) -> Ended {
        let era = &self.eras[number];
        let seen: Arc<Quiet<Seen>> = Arc::default();
        let (handle, disks) = (world.handle(), disks(world));
        world.begin(|runtime| start(runtime, &handle, &disks, (number, era), &seen));
        let media =
            contents.iter().map(|bytes| Medium { beginning: bytes.clone(), writes: Vec::new() });
        let mut books = Books {
            era,
            media: media.collect(),
            polls: vec![0; era.len()],
            completed: BTreeSet::new(),
            covered: BTreeMap::new(),
            acks: BTreeSet::new(),
        };
        // What is before the last choice was looked at already.
        let known = choices.len().saturating_sub(1);
        let (mut enabled, mut accesses) = (Vec::<Event>::new(), Vec::new());
        for depth in 0.. {
            if number + 1 < self.eras.len() && (depth > known || choices.is_empty()) {
                self.lose_power(number, &books, losses);
            }
            world.enabled(&mut enabled);
            if enabled.is_empty() {
                break;
            }
            if depth == choices.len() {
                choices.push((0, enabled.len()));
            }
            let event = enabled[choices[depth].0];
            let line = world.describe(event);
            world.step(event, &mut accesses).expect("nothing panics");
            books.saw(self.cache, number, &line);
        }
        let acks = books.acks.iter().map(|(task, op)| (number, *task, *op)).collect();
        Ended { era: number, reads: seen.with(|seen| seen.reads.clone()), acks }
    }

    fn lose_power(
        &self,
        number: usize,
        books: &Books<'_>,
        losses: &mut BTreeSet<(Acks, Contents)>,
    ) {
        let acks: Acks = books.acks.iter().map(|(task, op)| (number, *task, *op)).collect();
        let mut all: Vec<Contents> = vec![Vec::new()];
        for medium in &books.media {
            let contents = medium.contents(self.cache, self.torn);
            let with = |before: &Contents| {
                let more = |bytes: &Vec<u8>| [&before[..], std::slice::from_ref(bytes)].concat();
                contents.iter().map(more).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(with).collect();
        }
        losses.extend(all.into_iter().map(|contents| (acks.clone(), contents)));
    }
}
