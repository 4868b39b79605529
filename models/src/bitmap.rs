//! Dirty bitmaps, to the granule: every command about bitmaps, and every write, has taken place at one moment between
//! its begin and its end, a transaction as a whole; and what the bitmaps are is what one such order makes them.
//!
//! *Sound*: what was written while a bitmap recorded is dirty. *Precise*: nothing else is, beyond its granularity. A
//! write that leaves the view unchanged is none.
//!
//! It is told of writes from where their data are down: before that, whoever reads the node may still find what was
//! there, and a bitmap that is cleared must not lose them.

use crate::{Property, Violation};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use blockyard_units::ByteRange;

/// A bitmap by its node's name and its own.
pub type BitmapName = (String, String);

/// What happens to bitmaps.
#[derive(Clone, Debug)]
pub enum BitmapChange {
    /// A new one, clean.
    Add {
        /// Whose.
        name: BitmapName,
        /// Bytes a granule.
        granularity: u64,
        /// Whether writes are recorded in it.
        records: bool,
    },
    /// It is there no more.
    Remove(BitmapName),
    /// It is clean.
    Clear(BitmapName),
    /// From now on writes are recorded in it, or not.
    Record(BitmapName, bool),
    /// What is dirty in others is in this one too.
    Merge(BitmapName, Vec<BitmapName>),
    /// A write to a node; if it was about the node's length, that is the new one in bytes.
    Write(String, ByteRange, Option<u64>),
}

/// A bitmap as it is, or as it is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitmapView {
    /// Bytes a granule.
    pub granularity: u64,
    /// Whether writes are recorded in it.
    pub records: bool,
    /// The dirty granules.
    pub dirty: BTreeSet<u64>,
}

type Bitmaps = BTreeMap<BitmapName, BitmapView>;

/// Sees commands and writes begin and end; begins without bitmaps.
pub struct DirtyBitmaps {
    /// What the bitmaps may be, each with which of those under way have taken place.
    possible: BTreeSet<(Bitmaps, BTreeSet<u64>)>,
    under_way: BTreeMap<u64, Vec<BitmapChange>>,
    count: u64,
}

impl Default for DirtyBitmaps {
    fn default() -> Self {
        let possible = BTreeSet::from([Default::default()]);
        Self { possible, under_way: BTreeMap::new(), count: 0 }
    }
}

impl DirtyBitmaps {
    /// These begin, to take place at one moment; their number.
    pub fn begin(&mut self, changes: Vec<BitmapChange>) -> u64 {
        self.count += 1;
        self.under_way.insert(self.count, changes);
        self.count
    }

    /// They have taken place by now, or they never will.
    ///
    /// # Errors
    /// In no order could they.
    ///
    /// # Panics
    /// If they have not begun.
    pub fn end(&mut self, number: u64, took_place: bool) -> Result<(), Violation> {
        if took_place {
            self.possible = self.reachable();
        }
        let changes = self.under_way.remove(&number).expect("what-ends-has-begun");
        let possible = core::mem::take(&mut self.possible).into_iter();
        let fits = possible.filter_map(|(bitmaps, mut done)| {
            (done.remove(&number) == took_place).then_some((bitmaps, done))
        });
        self.possible = fits.collect();
        match self.possible.is_empty() {
            true => broken(true, format!("took place, and in no order could: {changes:?}")),
            false => Ok(()),
        }
    }

    /// A node is there no more, nor are its bitmaps.
    pub fn node_is_gone(&mut self, node: &str) {
        let possible = core::mem::take(&mut self.possible).into_iter();
        self.possible = possible
            .map(|(mut bitmaps, done)| {
                bitmaps.retain(|name, _| name.0 != node);
                (bitmaps, done)
            })
            .collect();
    }

    /// These are all the bitmaps there are.
    ///
    /// # Errors
    /// No order makes them so.
    pub fn check(&self, found: &Bitmaps) -> Result<(), Violation> {
        let possible: Vec<Bitmaps> = self.reachable().into_iter().map(|(all, _)| all).collect();
        if possible.contains(found) {
            return Ok(());
        }
        let text = |(node, name): &BitmapName| format!("bitmap {name} of node {node}");
        let always = |holds: &dyn Fn(&Bitmaps) -> bool| possible.iter().all(holds);
        for (name, bitmap) in possible.iter().flatten() {
            if !found.contains_key(name) && always(&|all| all.contains_key(name)) {
                return broken(true, format!("{} is gone", text(name)));
            }
            let lost = |granule: u64| {
                !is_dirty(found, name, granule) && always(&|all| is_dirty(all, name, granule))
            };
            if let Some(granule) = bitmap.dirty.iter().find(|granule| lost(**granule)) {
                let name = text(name);
                return broken(true, format!("{name} lacks granule {granule}: it was written"));
            }
        }
        for (name, bitmap) in found {
            let extra = |granule: u64| always(&|all| !is_dirty(all, name, granule));
            if let Some(granule) = bitmap.dirty.iter().find(|granule| extra(**granule)) {
                let name = text(name);
                return broken(false, format!("{name} has granule {granule}: nothing changed it"));
            }
        }
        broken(true, format!("no order of commands and writes makes of the bitmaps: {found:?}"))
    }

    /// A bitmap that says that another number of its granules is dirty.
    pub fn miscounted((node, name): &BitmapName, view: &BitmapView, count: u64) -> Violation {
        let dirty = view.dirty.len();
        let message =
            format!("bitmap {name} of node {node} counts {count} granules and has {dirty}");
        Property::BitmapSoundness.broken(message)
    }

    /// What the bitmaps may be if some of those under way have taken place.
    fn reachable(&self) -> BTreeSet<(Bitmaps, BTreeSet<u64>)> {
        let mut all = self.possible.clone();
        let mut new: Vec<_> = all.iter().cloned().collect();
        while let Some((bitmaps, done)) = new.pop() {
            for (number, changes) in self.under_way.iter().filter(|(n, _)| !done.contains(n)) {
                let Some(bitmaps) = after(bitmaps.clone(), changes) else { continue };
                let mut done = done.clone();
                done.insert(*number);
                if all.insert((bitmaps.clone(), done.clone())) {
                    new.push((bitmaps, done));
                }
            }
        }
        all
    }
}

fn is_dirty(all: &Bitmaps, name: &BitmapName, granule: u64) -> bool {
    all.get(name).is_some_and(|bitmap| bitmap.dirty.contains(&granule))
}

/// What the changes make of the bitmaps; nothing, if they cannot take place.
fn after(mut all: Bitmaps, changes: &[BitmapChange]) -> Option<Bitmaps> {
    for change in changes {
        match change {
            BitmapChange::Add { name, granularity, records } => {
                let (granularity, records, dirty) = (*granularity, *records, BTreeSet::new());
                let new = BitmapView { granularity, records, dirty };
                if all.insert(name.clone(), new).is_some() {
                    return None;
                }
            }
            BitmapChange::Remove(name) => drop(all.remove(name)?),
            BitmapChange::Clear(name) => all.get_mut(name)?.dirty.clear(),
            BitmapChange::Record(name, records) => all.get_mut(name)?.records = *records,
            BitmapChange::Merge(target, sources) => {
                for source in sources {
                    let BitmapView { granularity, dirty, .. } = all.get(source)?.clone();
                    let target = all.get_mut(target)?;
                    for granule in dirty {
                        target.mark(ByteRange::new(granule * granularity, granularity));
                    }
                }
            }
            BitmapChange::Write(node, range, len) => {
                for (_, bitmap) in all.iter_mut().filter(|((of, _), _)| of == node) {
                    bitmap.write(*range, *len);
                }
            }
        }
    }
    Some(all)
}

impl BitmapView {
    fn mark(&mut self, range: ByteRange) {
        if !range.is_empty() {
            let end = range.end().div_ceil(self.granularity);
            self.dirty.extend(range.start() / self.granularity..end);
        }
    }

    fn write(&mut self, range: ByteRange, len: Option<u64>) {
        let len = len.unwrap_or(u64::MAX);
        self.dirty.retain(|granule| granule * self.granularity < len);
        if self.records {
            self.mark(range.intersection(&ByteRange::between(0, len)));
        }
    }
}

fn broken(unsound: bool, message: String) -> Result<(), Violation> {
    let property = if unsound { Property::BitmapSoundness } else { Property::BitmapPrecision };
    Err(property.broken(message))
}

#[cfg(test)]
mod tests;
