//! How much of an image's tables is kept in memory, and for how long.
//!
//! Source: QEMU's documented options of qcow2 nodes, and its document on the caches of qcow2.
//! Differs: what is not used is kept for ever unless an interval is given, where QEMU has ten minutes: a timer would be
//! one more thing to happen in every simulated run. Less than QEMU's smallest caches can be asked for. Parts of L2
//! tables have 4 KiB where nothing is said, QEMU's 64 KiB.

use alloc::format;

use blockyard_sync::Shared;
use blockyard_units::Mutant;

use super::{Caches, Image};
use crate::cache::Cache;
use crate::error::ImageError;
use crate::meta::Meta;

/// What is asked for; what is left out follows from the rest, and from the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCaches {
    /// Bytes of both caches.
    pub all: Option<u64>,
    /// Bytes of L2 tables.
    pub l2: Option<u64>,
    /// Bytes of refcount blocks.
    pub refcount: Option<u64>,
    /// Bytes of an L2 table that are kept together.
    pub l2_entry: Option<u64>,
    /// After so many seconds what was not used is forgotten; 0: never.
    pub clean_interval: u64,
}

impl TableCaches {
    /// Whether they go together.
    ///
    /// # Errors
    /// Says which do not.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { all, l2, refcount, l2_entry, .. } = *self;
        let exceeds = |part: Option<u64>| part.zip(all).is_some_and(|(part, all)| part > all);
        if all.is_some() && l2.is_some() && refcount.is_some() {
            return Err(
                "cache-size, l2-cache-size and refcount-cache-size are too much together: give two of them",
            );
        }
        if exceeds(l2) {
            return Err("l2-cache-size may not exceed cache-size");
        }
        if exceeds(refcount) {
            return Err("refcount-cache-size may not exceed cache-size");
        }
        if l2_entry.is_some_and(|bytes| !bytes.is_power_of_two() || bytes < 512) {
            return Err(
                "l2-cache-entry-size must be a power of two between 512 and the cluster size",
            );
        }
        Ok(())
    }

    /// What they come to, where all L2 tables have `tables` bytes.
    fn caches(&self, tables: u64, cluster: u64) -> Caches {
        let default = Caches::default();
        let Some(all) = self.all else {
            let l2 = self.l2.unwrap_or(default.l2);
            return Caches { l2, refcount: self.refcount.unwrap_or(default.refcount) };
        };
        let (l2, refcount) = match (self.l2, self.refcount) {
            (Some(l2), _) => (l2, all - l2),
            (None, Some(refcount)) => (all - refcount, refcount),
            // L2 tables matter more: what they do not need is for the refcounts.
            (None, None) => {
                let least = (4 * cluster).min(all);
                let l2 = tables.min(all - least);
                (l2, all - l2)
            }
        };
        Caches { l2, refcount }
    }
}

impl Image {
    /// The same, just opened, with these caches.
    ///
    /// # Errors
    /// They do not go together, or not with the image.
    pub fn with_caches(self, options: &TableCaches) -> Result<Self, ImageError> {
        options.check().map_err(|said| ImageError::Unsupported(said.into()))?;
        let mut geometry = self.geometry;
        let cluster = geometry.cluster();
        geometry.l2_slice = options.l2_entry.unwrap_or(geometry.l2_slice);
        if geometry.l2_slice > cluster {
            return Err(ImageError::Unsupported(format!(
                "l2-cache-entry-size must be a power of two between 512 and the cluster size of {cluster}"
            )));
        }
        let tables = geometry.l1_needed(self.len().0) * cluster;
        let caches = options.caches(tables, cluster);
        let slices = |bytes: u64, each: u64| usize::try_from(bytes / each).unwrap_or(usize::MAX);
        self.meta.write(|meta: &mut Meta| {
            meta.l2 = Cache::new(slices(caches.l2, geometry.l2_slice));
            meta.counts = Cache::new(slices(caches.refcount, geometry.slice()));
        });
        Ok(Self { geometry, ..self })
    }

    /// Whether somebody is to begin [forgetting](Self::forget_unused) what is not used: not, if somebody has.
    pub(crate) fn begins_cleaning(&self) -> bool {
        let begins = |meta: &Shared<Meta>| {
            !meta.read(|meta| meta.cleaned)
                && !meta.write(|meta| core::mem::replace(&mut meta.cleaned, true))
        };
        begins(&self.meta)
    }

    /// Forgets what was not looked at since this was done last; whether there is more that may be forgotten. If not,
    /// cleaning has ended.
    ///
    /// # Yields
    /// While others change the structures.
    pub(crate) async fn forget_unused(&self) -> bool {
        let turn = self.turn.lock().await;
        let forgets_dirty = self.design.is_mutant(Mutant::Qcow2CleansDirty);
        let more = self.meta.write(|meta| {
            let [l2, counts] =
                [&mut meta.l2, &mut meta.counts].map(|cache| cache.forget_unused(forgets_dirty));
            meta.cleaned = l2 || counts;
            meta.cleaned
        });
        turn.unlock();
        more
    }
}
