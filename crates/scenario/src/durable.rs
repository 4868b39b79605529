//! Whether what guests were promised to last is found after a power loss, at whatever moment it comes.
//!
//! Nothing is run after the loss: neither a raw disk nor an image needs recovery, and whoever looks for a guest's data
//! looks where its device leads to, as of the last switch that was acknowledged; until the next is, that place or a
//! later one may have them. Of a switch with a witness he goes by the witness alone: set, it leads behind the switch.
//! So a loss is a violation if in each of these places something is found that is too old, or an image whose
//! structures do not fit together. An image is read as its specification says, not as our driver does, and only as
//! far as somebody looks: at its structures, or at one sector of the guest's disk.

mod vouched;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use blockyard_models::dedup::Dedup;
use blockyard_models::qcow2::{Place, Qcow2, Stopped};
use blockyard_models::{Durability, Property, Violation, luks};
use blockyard_units::ByteRange;

use crate::steps::LuksKey;

pub(crate) use vouched::judge_bitmaps;

/// The power losses that may have come during a run.
pub trait PowerLosses {
    /// A range of a disk as one of them may leave it.
    type Left;

    /// All that may be left of a disk.
    fn left(&self, disk: &str) -> Vec<Self::Left>;

    /// Whether it is of the time before there were any, and says nothing about what is left elsewhere.
    fn is_settled(&self, left: &Self::Left) -> bool;

    /// Where that is, and its bytes.
    fn bytes<'a>(&self, left: &'a Self::Left) -> (ByteRange, &'a [u8]);

    /// Whether all of them come behind this step.
    fn are_behind(&self, step: u32) -> bool;

    /// The latest loss that leaves all of these, if one does.
    fn latest(&self, left: &[&Self::Left]) -> Option<PowerLoss>;
}

/// A power loss.
pub struct PowerLoss {
    /// Whether a step had happened before.
    pub happened: Box<dyn Fn(u32) -> bool>,
    /// When it was, for people.
    pub when: String,
}

/// Where a guest's data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// On this disk, byte by byte.
    Disk(String),
    /// In the qcow2 image on this disk, or below it.
    Image { disk: String, backing: Option<Box<Root>> },
    /// Whatever so many of these places say; more than half.
    Votes { places: Vec<Root>, threshold: u64 },
    /// In the dedup image that is on these two disks.
    Dedup { metadata: String, data: String },
    /// What this says, decrypted.
    Luks { payload: Box<Root>, key: LuksKey },
}

impl Led {
    /// By no witness.
    pub fn to(root: Root, acknowledged: Option<u32>) -> Self {
        Self { root, acknowledged, witness: None }
    }
}

impl Root {
    /// What a dedup image with these metadata shows, if it and its data are each on a disk of their own.
    pub fn of_dedup(self, data: Self) -> Option<Self> {
        match (self, data) {
            (Self::Disk(metadata), Self::Disk(data)) => Some(Self::Dedup { metadata, data }),
            _ => None,
        }
    }

    /// What it is to who decrypts it. What votes is not judged then: it is counted before.
    pub fn encrypted(self, key: LuksKey) -> Option<Self> {
        let payload = Box::new(self);
        (!payload.has_votes()).then_some(Self::Luks { payload, key })
    }

    fn has_votes(&self) -> bool {
        match self {
            Self::Votes { .. } => true,
            Self::Image { backing: Some(below), .. } | Self::Luks { payload: below, .. } => {
                below.has_votes()
            }
            Self::Image { backing: None, .. } | Self::Disk(_) | Self::Dedup { .. } => false,
        }
    }

    /// Whether whatever is found at `other` shows here, where nothing was written since.
    pub fn is_over(&self, other: &Self) -> bool {
        match self {
            Self::Image { backing: Some(backing), .. } => {
                **backing == *other || backing.is_over(other)
            }
            Self::Image { .. } | Self::Disk(_) | Self::Dedup { .. } => false,
            Self::Luks { payload, .. } => match other {
                Self::Luks { payload: other, .. } => payload.is_over(other),
                _ => false,
            },
            Self::Votes { places, .. } => {
                let Self::Votes { places: others, .. } = other else { return false };
                let mut pairs = places.iter().zip(others);
                let same_or_over =
                    |(place, other): (&Self, &Self)| place == other || place.is_over(other);
                places.len() == others.len() && pairs.all(same_or_over)
            }
        }
    }

    /// What an image names as its backing file that has this below it: some layer there, or all if it is none of them.
    fn named(&self, name: &str) -> &Self {
        let mut at = self;
        loop {
            match at {
                Self::Disk(disk) | Self::Image { disk, .. } if disk == name => return at,
                Self::Image { backing: Some(backing), .. } => at = backing,
                Self::Image { backing: None, .. }
                | Self::Disk(_)
                | Self::Dedup { .. }
                | Self::Luks { .. }
                | Self::Votes { .. } => {
                    return self;
                }
            }
        }
    }

    fn disks<'a>(&'a self, all: &mut BTreeSet<&'a str>) {
        match self {
            Self::Dedup { metadata, data } => all.extend([&**metadata, data]),
            Self::Disk(disk) => {
                all.insert(disk);
            }
            Self::Image { disk, backing } => {
                all.insert(disk);
                backing.iter().for_each(|backing| backing.disks(all));
            }
            Self::Luks { payload, .. } => payload.disks(all),
            Self::Votes { places, .. } => places.iter().for_each(|place| place.disks(all)),
        }
    }

    /// What it is called.
    fn name(&self) -> String {
        match self {
            Self::Disk(disk) | Self::Image { disk, .. } | Self::Dedup { metadata: disk, .. } => {
                disk.clone()
            }
            Self::Luks { payload, .. } => payload.name(),
            Self::Votes { places, .. } => {
                places.iter().map(Self::name).collect::<Vec<_>>().join(" and ")
            }
        }
    }
}

/// Where a device has led to, in order.
pub(crate) type Roots = Vec<Led>;

/// One of these places.
#[derive(Clone, Debug)]
pub(crate) struct Led {
    pub root: Root,
    /// The step that acknowledged it.
    pub acknowledged: Option<u32>,
    /// The disk whose first byte says whether it was led there.
    pub witness: Option<String>,
}

/// Judges all power losses, for one device. Says how many states it looked at: ways in which what somebody looks at
/// may have been left, each once, by each that looks (at an image's structures, at a sector of the guest's).
///
/// # Errors
/// One that leaves none of the places with what the guest was promised.
pub(crate) fn judge<P: PowerLosses>(
    losses: &P,
    roots: &Roots,
    promised: &Durability,
) -> Result<u64, Violation> {
    let reached = |led: &Led| led.acknowledged.is_some_and(|step| losses.are_behind(step));
    let roots = &roots[roots.iter().rposition(reached).unwrap_or(0)..];
    let mut disks = BTreeSet::new();
    for led in roots {
        led.root.disks(&mut disks);
        disks.extend(led.witness.as_deref());
    }
    let left: BTreeMap<&str, LeftOf<P::Left>> =
        disks.into_iter().map(|disk| (disk, LeftOf::disk(losses, disk))).collect();
    let judge = Judge { losses, promised, left: &left, states: Cell::new(0) };
    let broken: Vec<Vec<Breach<'_, P::Left>>> =
        roots.iter().map(|led| judge.breaches(&led.root)).collect();
    for first in 0..roots.len() {
        // One that is set leads behind its switch, and one that is not before it.
        let next = (first + 1..roots.len()).find(|next| roots[*next].witness.is_some());
        let end = next.unwrap_or(roots.len());
        let (from, to) =
            (&roots[first].witness, next.and_then(|next| roots[next].witness.as_ref()));
        for set in judge.says(from.as_deref(), true) {
            for unset in judge.says(to.map(String::as_str), false) {
                let told = [set, unset].into_iter().flatten().collect();
                let (broken, roots) = (&broken[first..end], &roots[first..end]);
                let search = Search { judge: &judge, broken, roots, told };
                search.all_broken(&mut Vec::new())?;
            }
        }
    }
    Ok(judge.states.get())
}

/// What a power loss may leave in one place that breaks a promise, unless the loss came earlier.
struct Breach<'a, L> {
    left: Vec<&'a L>,
    found: Found,
}

enum Found {
    /// These bytes of the guest's disk.
    Bytes(ByteRange, Vec<u8>),
    /// An image that is wrong.
    Wrong(Violation),
    /// Bitmaps that an image vouches for.
    Vouched(Vec<vouched::Vouched>),
}

/// What may be left of a disk, place by place; no two overlap.
struct LeftOf<L> {
    /// Where every loss leaves the same, by the first byte.
    settled: BTreeMap<u64, L>,
    /// Elsewhere.
    open: Vec<L>,
}

impl<L> LeftOf<L> {
    fn disk<P: PowerLosses<Left = L>>(losses: &P, disk: &str) -> Self {
        let mut places: BTreeMap<u64, Vec<L>> = BTreeMap::new();
        for left in losses.left(disk) {
            places.entry(losses.bytes(&left).0.start()).or_default().push(left);
        }
        let (mut settled, mut open) = (BTreeMap::new(), Vec::new());
        for (at, mut all) in places {
            match &all[..] {
                [only] if losses.is_settled(only) => {
                    settled.extend(all.pop().map(|only| (at, only)));
                }
                _ => open.extend(all),
            }
        }
        Self { settled, open }
    }
}

/// Why a look at a place ended.
enum Stop<'a> {
    /// This is undecided.
    Undecided(&'a str, ByteRange),
    /// The image is wrong there.
    Wrong,
    /// That is for these to say.
    Voted(&'a Root, ByteRange),
}

struct Judge<'a, P: PowerLosses> {
    losses: &'a P,
    promised: &'a Durability,
    left: &'a BTreeMap<&'a str, LeftOf<P::Left>>,
    /// How many were looked at.
    states: Cell<u64>,
}

/// What has been decided of the disks.
type Picked<'a, L> = Vec<(&'a str, &'a L)>;

/// What is found when these are what is left, if it breaks a promise.
type Look<'s, 'a, L> = &'s dyn Fn(&Picked<'a, L>) -> Result<Option<Found>, Stop<'a>>;

impl<'a, P: PowerLosses> Judge<'a, P> {
    /// The ways in which a witness says so; one, if there is none.
    fn says(&self, witness: Option<&str>, set: bool) -> Vec<Option<&'a P::Left>> {
        let Some(disk) = witness else { return vec![None] };
        let says = |left: &&P::Left| {
            let (range, bytes) = self.losses.bytes(left);
            range.start() == 0 && bytes.first().is_some_and(|byte| (*byte != 0) == set)
        };
        let LeftOf { settled, open } = &self.left[disk];
        settled.values().chain(open).filter(says).map(Some).collect()
    }

    fn check(&self, left: &[&P::Left], found: &Found) -> Option<(PowerLoss, Violation)> {
        let loss = self.losses.latest(left)?;
        let violation = match found {
            Found::Bytes(range, bytes) => {
                self.promised.check(*range, bytes, &loss.happened).err()?
            }
            Found::Wrong(violation) => violation.clone(),
            Found::Vouched(bitmaps) => {
                let lacks = |(name, granularity, dirty): &vouched::Vouched| {
                    self.promised.check_marked(name, *granularity, dirty, &loss.happened).err()
                };
                bitmaps.iter().find_map(lacks)?
            }
        };
        Some((loss, violation))
    }

    fn breaches(&self, root: &'a Root) -> Vec<Breach<'a, P::Left>> {
        let mut breaches = Vec::new();
        match root {
            Root::Disk(disk) => {
                let LeftOf { settled, open } = &self.left[&**disk];
                for left in settled.values().chain(open) {
                    let (range, bytes) = self.losses.bytes(left);
                    self.states.update(|states| states + 1);
                    self.add(vec![left], Found::Bytes(range, bytes.to_vec()), &mut breaches);
                }
            }
            Root::Image { .. } | Root::Dedup { .. } | Root::Luks { .. } | Root::Votes { .. } => {
                self.structures(root, &mut breaches);
                for sector in self.promised.sectors() {
                    breaches.extend(self.looks(root, sector));
                }
            }
        }
        breaches
    }

    /// Looks at a sector of the guest's disk.
    fn looks(&self, root: &'a Root, sector: ByteRange) -> Vec<Breach<'a, P::Left>> {
        let mut breaches = Vec::new();
        self.decide(&mut Vec::new(), &mut breaches, &|picked| {
            match self.view(root, sector, picked) {
                Ok(bytes) => Ok(Some(Found::Bytes(sector, bytes))),
                // It is wrong for whoever looks at the structures.
                Err(Stop::Wrong) => Ok(None),
                Err(stop) => Err(stop),
            }
        });
        breaches
    }

    /// What may win a vote though it breaks a promise, where these were `picked` before. As more than half have to
    /// agree, the others may say what they like; and who breaks a promise together with others does so alone.
    fn wins(
        &self,
        root: &'a Root,
        sector: ByteRange,
        picked: &Picked<'a, P::Left>,
    ) -> Vec<Breach<'a, P::Left>> {
        let Root::Votes { places, threshold } = root else { return Vec::new() };
        let mut sets: Vec<(Breach<'a, P::Left>, u64)> = Vec::new();
        for place in places {
            let mut more = Vec::new();
            for Breach { left, found } in self.looks(place, sector) {
                let Found::Bytes(_, said) = &found else { continue };
                for (with, votes) in &sets {
                    if matches!(&with.found, Found::Bytes(_, other) if other == said) {
                        let left: Vec<_> = with.left.iter().chain(&left).copied().collect();
                        let found = Found::Bytes(sector, said.clone());
                        if self.check(&left, &found).is_some() {
                            more.push((Breach { left, found }, votes + 1));
                        }
                    }
                }
                more.push((Breach { left, found }, 1));
            }
            sets.extend(more);
        }
        let mut won: Vec<_> =
            sets.into_iter().filter(|(_, votes)| votes == threshold).map(|(won, _)| won).collect();
        won.iter_mut().for_each(|won| won.left.extend(picked.iter().map(|(_, left)| *left)));
        won
    }

    /// Looks at the structures of the images that are written to.
    fn structures(&self, root: &Root, breaches: &mut Vec<Breach<'a, P::Left>>) {
        let disk = match root {
            Root::Disk(_) => return,
            Root::Luks { payload, .. } => return self.structures(payload, breaches),
            Root::Votes { places, .. } => {
                return places.iter().for_each(|place| self.structures(place, breaches));
            }
            Root::Image { disk, .. } | Root::Dedup { metadata: disk, .. } => disk,
        };
        let (disk, _) = self.left.get_key_value(&**disk).expect("every-root-has-disks");
        self.decide(&mut Vec::new(), breaches, &|picked| {
            let mut bytes = |range| self.read(disk, range, picked).ok();
            let checked = match root {
                Root::Dedup { .. } => {
                    Dedup::of(&mut bytes).and_then(|image| image.check(&mut bytes))
                }
                _ => Qcow2::of(&mut bytes).and_then(|image| image.check(&mut bytes)).map(drop),
            };
            match checked {
                Ok(()) => Ok(None),
                Err(Stopped::Unread(range)) => Err(Stop::Undecided(disk, range)),
                Err(Stopped::Broken(violation)) => Ok(Some(Found::Wrong(violation))),
            }
        });
    }

    fn add(&self, left: Vec<&'a P::Left>, found: Found, to: &mut Vec<Breach<'a, P::Left>>) {
        if self.check(&left, &found).is_some() {
            to.push(Breach { left, found });
        }
    }

    /// Looks at every way in which the disks may have been left, as far as that makes a difference to `look`.
    fn decide(
        &self,
        picked: &mut Picked<'a, P::Left>,
        breaches: &mut Vec<Breach<'a, P::Left>>,
        look: Look<'_, 'a, P::Left>,
    ) {
        let (disk, range) = match look(picked) {
            Err(Stop::Undecided(disk, range)) => (disk, range),
            Err(Stop::Voted(root, sector)) => {
                let won = self.wins(root, sector, picked);
                return won.into_iter().for_each(|won| self.add(won.left, won.found, breaches));
            }
            seen => {
                self.states.update(|states| states + 1);
                if let Ok(Some(found)) = seen {
                    let left = picked.iter().map(|(_, left)| *left).collect();
                    self.add(left, found, breaches);
                }
                return;
            }
        };
        let undecided = |left: &&P::Left| {
            let (at, _) = self.losses.bytes(left);
            at.overlaps(&range) && !self.is_picked(picked, disk, at)
        };
        let open = &self.left[disk].open;
        let Some(first) = open.iter().find(undecided) else { return };
        let place = self.losses.bytes(first).0;
        for left in open.iter().filter(|left| self.losses.bytes(left).0 == place) {
            picked.push((disk, left));
            let all: Vec<_> = picked.iter().map(|(_, left)| *left).collect();
            if self.losses.latest(&all).is_some() {
                self.decide(picked, breaches, look);
            }
            picked.pop();
        }
    }

    fn is_picked(&self, picked: &Picked<'a, P::Left>, disk: &str, place: ByteRange) -> bool {
        picked.iter().any(|(of, left)| *of == disk && self.losses.bytes(left).0 == place)
    }

    /// What is decided to be in a range of a disk, with zeroes behind its end.
    fn read(
        &self,
        disk: &'a str,
        range: ByteRange,
        picked: &Picked<'a, P::Left>,
    ) -> Result<Vec<u8>, Stop<'a>> {
        let mut read = vec![0; range.len().as_usize()];
        let LeftOf { settled, open } = &self.left[disk];
        for left in open {
            let (place, _) = self.losses.bytes(left);
            if place.overlaps(&range) && !self.is_picked(picked, disk, place) {
                return Err(Stop::Undecided(disk, range));
            }
        }
        let settled = settled.range(..range.end()).rev().map(|(_, left)| left);
        let settled = settled.take_while(|left| self.losses.bytes(left).0.end() > range.start());
        let picked = picked.iter().filter(|(of, _)| *of == disk).map(|(_, left)| *left);
        for left in settled.chain(picked) {
            let (place, bytes) = self.losses.bytes(left);
            let common = place.intersection(&range);
            if !common.is_empty() {
                let len = common.len().as_usize();
                let (to, from) = (common.start() - range.start(), common.start() - place.start());
                read[to as usize..][..len].copy_from_slice(&bytes[from as usize..][..len]);
            }
        }
        Ok(read)
    }

    /// A sector of the guest's disk, as far as there is one.
    fn view(
        &self,
        root: &'a Root,
        sector: ByteRange,
        picked: &Picked<'a, P::Left>,
    ) -> Result<Vec<u8>, Stop<'a>> {
        let on = |disk: &str| *self.left.get_key_value(disk).expect("every-root-has-disks").0;
        let (disk, backing) = match root {
            Root::Disk(disk) => return self.read(on(disk), sector, picked),
            Root::Image { disk, backing } => (on(disk), backing),
            Root::Luks { payload, key } => {
                let mut bytes = self.view(payload, sector, picked)?;
                // What nobody has written, or lies behind the end, is noise to who decrypts it, and promised to nobody.
                if bytes.iter().all(|byte| *byte == 0) {
                    return Ok(bytes);
                }
                luks::decrypt(key, sector.start() / 512, &mut bytes);
                return Ok(bytes);
            }
            Root::Votes { .. } => return Err(Stop::Voted(root, sector)),
            Root::Dedup { metadata, data } => {
                let (metadata, data) = (on(metadata), on(data));
                let mut bytes = |range| self.read(metadata, range, picked).ok();
                let image = Dedup::of(&mut bytes);
                return match image.and_then(|image| image.place(&mut bytes, sector.start())) {
                    Ok(Place::Data(at)) => {
                        self.read(data, ByteRange::new(at, sector.len().0), picked)
                    }
                    Ok(Place::Zero | Place::Below) => Ok(vec![0; sector.len().as_usize()]),
                    Err(Stopped::Unread(range)) => Err(Stop::Undecided(metadata, range)),
                    Err(Stopped::Broken(_)) => Err(Stop::Wrong),
                };
            }
        };
        let mut bytes = |range| self.read(disk, range, picked).ok();
        let found = Qcow2::of(&mut bytes).and_then(|image| {
            let place = image.place(&mut bytes, sector.start())?;
            let below = backing.as_ref().filter(|_| place == Place::Below);
            let named = below.map(|_| image.backing_file(&mut bytes)).transpose()?;
            Ok((place, below.zip(named)))
        });
        match found {
            Ok((Place::Data(host), _)) => {
                self.read(disk, ByteRange::new(host, sector.len().0), picked)
            }
            Ok((_, Some((below, named)))) => self.view(below.named(&named), sector, picked),
            Ok((Place::Zero | Place::Below, None)) => Ok(vec![0; sector.len().as_usize()]),
            Err(Stopped::Unread(range)) => Err(Stop::Undecided(disk, range)),
            Err(Stopped::Broken(_)) => Err(Stop::Wrong),
        }
    }
}

struct Search<'a, P: PowerLosses> {
    judge: &'a Judge<'a, P>,
    broken: &'a [Vec<Breach<'a, P::Left>>],
    /// The places that are looked at.
    roots: &'a [Led],
    /// What leads there.
    told: Vec<&'a P::Left>,
}

impl<'a, P: PowerLosses> Search<'a, P> {
    /// Looks for something in each place behind those `picked` that breaks a promise, together with what is picked.
    fn all_broken(&self, picked: &mut Vec<&'a Breach<'a, P::Left>>) -> Result<(), Violation> {
        // The more is picked, the earlier is the loss, and the less was promised: what is none now never is again.
        let Some(violation) = self.violated(picked) else { return Ok(()) };
        let Some(broken) = self.broken.get(picked.len()) else { return Err(violation) };
        for breach in broken {
            picked.push(breach);
            self.all_broken(picked)?;
            picked.pop();
        }
        Ok(())
    }

    /// What a loss that leaves all that was picked breaks, if there is one, in each of these places.
    fn violated(&self, picked: &[&Breach<'_, P::Left>]) -> Option<Violation> {
        let all = self.all_left(picked);
        let loss = self.judge.losses.latest(&all)?;
        let Led { acknowledged, witness, .. } = &self.roots[0];
        if witness.is_none() && !acknowledged.is_some_and(|step| (loss.happened)(step)) {
            return None;
        }
        let mut message = loss.when;
        let mut property = Property::Durability;
        for (Led { root, witness, .. }, breach) in self.roots.iter().zip(picked) {
            if let Some(witness) = witness {
                message = format!("{message}; {witness} is set");
            }
            let (_, violation) = self.judge.check(&all, &breach.found)?;
            message = format!("{message}; {}: {}", root.name(), violation.message);
            property = violation.property;
        }
        Some(Violation { property, message })
    }

    fn all_left(&self, picked: &[&Breach<'a, P::Left>]) -> Vec<&'a P::Left> {
        let found = picked.iter().flat_map(|breach| breach.left.iter());
        found.chain(&self.told).copied().collect()
    }
}
