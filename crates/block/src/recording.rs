//! What records writes: the bitmaps of a node, its jobs' and its own, by name; and those of a device, which are told of
//! what comes through the device alone, and stay with it whatever its medium is.
//!
//! All named bitmaps of a node or a device are one value behind the door: a write is marked in all of them at once, and
//! a command changes one of them between two writes. So a write that ends is in those that recorded at that moment, and
//! in no others. Marks commute with each other; commands write.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_sync::{Rarely, Shared};
use blockyard_units::{ByteLen, ByteRange, JobId};

use crate::bitmaps::{BitmapOwner, BitmapState, NamedBitmap, Use};
use crate::error::BlockError;

/// Bytes of the longest name, as qcow2 has it.
const NAME_MAX: usize = 1023;
/// Bits of the longest bitmap.
const GRANULES_MAX: u64 = 1 << 32;

/// The length of a node, as far as it is known at the end of a write.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    /// The write has not changed it.
    Kept,
    /// It has become longer.
    AtLeast(ByteLen),
    /// It is this.
    Exactly(ByteLen),
}

impl Length {
    /// What of `range` is not behind the end, as far as that is known.
    pub fn clip(self, range: ByteRange) -> ByteRange {
        match self {
            Self::Kept => range,
            Self::AtLeast(len) | Self::Exactly(len) => {
                range.intersection(&ByteRange::new(0, len.0))
            }
        }
    }
}

/// Those that have names. Looking at one or changing it is a whole access; marking adds.
#[derive(Default)]
pub(crate) struct Named(Shared<Vec<NamedBitmap>>);

impl Named {
    fn write_ended(&self, marked: Option<ByteRange>, length: Length) {
        if let Length::Exactly(len) = length {
            self.0.write(|all| each(all, |bits| bits.resize(len)));
        }
        let Some(range) = marked else { return };
        // Its child may have become longer without it.
        let len = match length {
            Length::Kept => ByteLen(range.end()),
            Length::AtLeast(len) | Length::Exactly(len) => len,
        };
        self.0.add(|all| {
            each(all, |bits| {
                bits.grow(len);
                bits.record(range);
            });
        });
    }
}

fn each(all: &mut [NamedBitmap], mut change: impl FnMut(&mut DirtyBitmap)) {
    all.iter_mut().for_each(|bitmap| bitmap.each_bits(&mut change));
}

/// What is told of the end of each write-like request.
#[derive(Clone)]
pub(crate) enum Recorder {
    /// A job's.
    Job(JobId, Arc<SharedBitmap>),
    /// Those that have names.
    Named(Arc<Named>),
}

impl Recorder {
    pub fn write_ended(&self, marked: Option<ByteRange>, length: Length) {
        match self {
            Self::Named(bitmaps) => bitmaps.write_ended(marked, length),
            Self::Job(_, bitmap) => {
                match length {
                    Length::Kept => {}
                    Length::AtLeast(len) => bitmap.grow(len),
                    Length::Exactly(len) => bitmap.resize(len),
                }
                marked.into_iter().for_each(|range| bitmap.record(range));
            }
        }
    }

    fn named(&self) -> Option<&Arc<Named>> {
        match self {
            Self::Named(bitmaps) => Some(bitmaps),
            Self::Job(..) => None,
        }
    }
}

/// The bitmaps of a node or of a device.
pub struct Bitmaps {
    owner: BitmapOwner,
    recorders: Rarely<Vec<Recorder>>,
}

impl Bitmaps {
    pub(crate) fn new(owner: BitmapOwner) -> Self {
        Self { owner, recorders: Rarely::default() }
    }

    /// Whose they are.
    pub fn owner(&self) -> &BitmapOwner {
        &self.owner
    }

    /// Who is to be told of the end of a write.
    pub(crate) fn recorders(&self) -> Vec<Recorder> {
        self.recorders.read(Clone::clone)
    }

    /// Every write-like request is recorded in a job's `bitmap` too from its next end on.
    pub(crate) fn add_job(&self, job: JobId, bitmap: Arc<SharedBitmap>) {
        self.recorders.write(|all| all.push(Recorder::Job(job, bitmap)));
    }

    /// Nothing is recorded for the job any more.
    pub(crate) fn remove_job(&self, job: JobId) {
        self.recorders
            .write(|all| all.retain(|of| !matches!(of, Recorder::Job(id, _) if *id == job)));
    }

    fn named(&self) -> Option<Arc<Named>> {
        self.recorders.read(|all| all.iter().find_map(Recorder::named).cloned())
    }

    fn invalid(&self, why: &str) -> BlockError {
        BlockError::Invalid(format!("bitmap of {}: {why}", self.owner))
    }

    /// A clean bitmap for `len` bytes, which records if it is `enabled` and consistent.
    ///
    /// # Errors
    /// Its name is no name or taken, or it cannot be of this granularity; nothing has changed.
    pub fn add(
        &self,
        name: &str,
        (len, granularity): (ByteLen, ByteLen),
        enabled: bool,
        state: BitmapState,
    ) -> Result<(), BlockError> {
        match name.len() {
            0 => return Err(self.invalid("its name is empty")),
            1..=NAME_MAX => {}
            len => {
                let why = format!("its name has {len} bytes; {NAME_MAX} are possible");
                return Err(self.invalid(&why));
            }
        }
        let new = |bits| NamedBitmap::new(self.owner.clone(), name, state, bits);
        let check = DirtyBitmap::check_granularity(granularity);
        check.map_err(|error| self.invalid(&format!("granularity: {error}")))?;
        let check = check_len(len, granularity);
        check.map_err(|why| self.invalid(&format!("granularity: {why}")))?;
        let mut bits = DirtyBitmap::new(len, granularity).expect("its granularity was checked");
        if !enabled || state.inconsistent {
            bits.disable();
        }
        self.put_back(new(bits))
    }

    /// Gives it back a bitmap that was [removed](Self::remove).
    ///
    /// # Errors
    /// Another one has its name by now.
    pub fn put_back(&self, bitmap: NamedBitmap) -> Result<(), BlockError> {
        let all = self.recorders.write(|all| match all.iter().find_map(Recorder::named) {
            Some(bitmaps) => bitmaps.clone(),
            None => {
                let bitmaps = Arc::new(Named::default());
                all.push(Recorder::Named(bitmaps.clone()));
                bitmaps
            }
        });
        all.0.write(|all| {
            if all.iter().any(|other| other.name() == bitmap.name()) {
                return Err(bitmap.refused("is there already"));
            }
            all.push(bitmap);
            Ok(())
        })
    }

    /// Removes the bitmap of this name; it records no more.
    ///
    /// # Errors
    /// There is none, or it is busy or read-only; nothing has changed.
    pub fn remove(&self, name: &str) -> Result<NamedBitmap, BlockError> {
        let Some(all) = self.named() else { return Err(self.none(name)) };
        all.0.write(|all| {
            let index = all.iter().position(|bitmap| bitmap.name() == name);
            let index = index.ok_or_else(|| self.none(name))?;
            all[index].check(Use::Remove)?;
            Ok(all.remove(index))
        })
    }

    /// Removes those that are `lost`, whoever holds them.
    pub(crate) fn lose(&self, lost: impl Fn(&NamedBitmap) -> bool) {
        if let Some(all) = self.named() {
            all.0.write(|all| all.retain(|bitmap| !lost(bitmap)));
        }
    }

    /// What is stored with the node cannot be changed any more.
    pub(crate) fn stored_become_read_only(&self) {
        if let Some(all) = self.named() {
            all.0.write(|all| all.iter_mut().for_each(NamedBitmap::becomes_read_only));
        }
    }

    /// Looks at the bitmap of this name.
    ///
    /// # Errors
    /// There is none, or what `look` says.
    pub fn look_at<R>(
        &self,
        name: &str,
        look: impl FnOnce(&NamedBitmap) -> Result<R, BlockError>,
    ) -> Result<R, BlockError> {
        let Some(all) = self.named() else { return Err(self.none(name)) };
        all.0.read(|all| match all.iter().find(|bitmap| bitmap.name() == name) {
            Some(bitmap) => look(bitmap),
            None => Err(self.none(name)),
        })
    }

    /// Changes the bitmap of this name, between two writes.
    ///
    /// # Errors
    /// There is none, or what `change` says.
    pub fn change<R>(
        &self,
        name: &str,
        change: impl FnOnce(&mut NamedBitmap) -> Result<R, BlockError>,
    ) -> Result<R, BlockError> {
        let Some(all) = self.named() else { return Err(self.none(name)) };
        all.0.write(|all| match all.iter_mut().find(|bitmap| bitmap.name() == name) {
            Some(bitmap) => change(bitmap),
            None => Err(self.none(name)),
        })
    }

    /// Merges others into the bitmap of this name, between two writes: of its own owner by name, and copies of others';
    /// what it was. See [`NamedBitmap::merge`].
    ///
    /// # Errors
    /// One of them is not there or not to be read, or what that says; nothing has changed.
    pub fn merge(
        &self,
        name: &str,
        own: &[&str],
        others: &[NamedBitmap],
        merge: fn(&mut DirtyBitmap, &DirtyBitmap),
    ) -> Result<DirtyBitmap, BlockError> {
        let Some(all) = self.named() else { return Err(self.none(name)) };
        all.0.write(|all| {
            let find = |name: &str| all.iter().position(|bitmap| bitmap.name() == name);
            for source in own {
                all[find(source).ok_or_else(|| self.none(source))?].check(Use::Read)?;
            }
            let index = find(name).ok_or_else(|| self.none(name))?;
            let (before, rest) = all.split_at_mut(index);
            let (target, after) = rest.split_first_mut().expect("it-was-found");
            // Into itself there is nothing to be merged.
            let own = before.iter().chain(&*after).filter(|of| own.contains(&of.name()));
            target.merge(&own.chain(others).collect::<Vec<_>>(), merge)
        })
    }

    /// Looks at all of them, in the order in which they were added.
    pub fn each(&self, look: impl FnMut(&NamedBitmap)) {
        if let Some(all) = self.named() {
            all.0.read(|all| all.iter().for_each(look));
        }
    }

    /// Whether all of them can be of `len` bytes.
    ///
    /// # Errors
    /// Names one that cannot.
    pub(crate) fn check_len(&self, len: ByteLen) -> Result<(), BlockError> {
        let Some(all) = self.named() else { return Ok(()) };
        all.0.read(|all| {
            all.iter().try_for_each(|bitmap| {
                let check = check_len(len, bitmap.bits().granularity());
                check.map_err(|why| bitmap.refused(&format!("is to be removed first: {why}")))
            })
        })
    }

    fn none(&self, name: &str) -> BlockError {
        BlockError::Invalid(format!("{} has no bitmap '{name}'", self.owner))
    }
}

/// The last byte that even a bitmap of the finest granularity has a bit for.
pub(crate) const ALWAYS_FITS: u64 = GRANULES_MAX * DirtyBitmap::MIN_GRANULARITY.0;

fn check_len(len: ByteLen, granularity: ByteLen) -> Result<(), String> {
    let granules = len.0.div_ceil(granularity.0);
    if granules <= GRANULES_MAX {
        return Ok(());
    }
    Err(format!(
        "{len} bytes have {granules} granules of {granularity}; at most {GRANULES_MAX} are possible"
    ))
}
