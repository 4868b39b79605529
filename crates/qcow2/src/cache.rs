//! Parts of tables in memory.
//!
//! Which of them goes when room is needed does not depend on the order of those who only look: looking sets a mark,
//! which commutes, and whoever makes room passes over what is marked, once.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

struct Slice {
    bytes: Vec<u8>,
    dirty: bool,
    /// Looked at since room was last made here.
    used: bool,
}

/// Slices of tables of one sort, by their offsets in the file.
pub struct Cache {
    slices: BTreeMap<u64, Slice>,
    /// How many there may be.
    capacity: usize,
    /// Where room is made next.
    hand: u64,
    dirty: usize,
}

/// What is to be done before a slice can be brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nothing.
    There,
    /// The slice at this offset is to be written back.
    Dirty(u64),
}

impl Cache {
    /// An empty one, for at least one slice.
    pub fn new(capacity: usize) -> Self {
        Self { slices: BTreeMap::new(), capacity: capacity.max(1), hand: 0, dirty: 0 }
    }

    /// The slice at `offset`, if it is here.
    pub fn get(&mut self, offset: u64) -> Option<&[u8]> {
        let slice = self.slices.get_mut(&offset)?;
        slice.used = true;
        Some(&slice.bytes)
    }

    /// The slice at `offset`, to be changed.
    ///
    /// # Panics
    /// `changed-slices-are-here`
    pub fn change(&mut self, offset: u64) -> &mut [u8] {
        let slice = self.slices.get_mut(&offset).expect("changed-slices-are-here");
        slice.used = true;
        self.dirty += usize::from(!slice.dirty);
        slice.dirty = true;
        &mut slice.bytes
    }

    /// Makes room for one more, as far as that can be done at once.
    pub fn make_room(&mut self) -> Room {
        if self.slices.len() < self.capacity {
            return Room::There;
        }
        loop {
            let next = self.slices.range_mut(self.hand..).next();
            let Some((offset, slice)) = next else {
                self.hand = 0;
                continue;
            };
            let offset = *offset;
            self.hand = offset + 1;
            if slice.used {
                slice.used = false;
            } else if slice.dirty {
                // It is the next one again, when it is clean.
                self.hand = offset;
                return Room::Dirty(offset);
            } else {
                self.slices.remove(&offset);
                return Room::There;
            }
        }
    }

    /// Brings a slice in, for which there is room.
    pub fn insert(&mut self, offset: u64, bytes: Vec<u8>) {
        self.slices.insert(offset, Slice { bytes, dirty: false, used: true });
    }

    /// Forgets everything from `start` to `end`: what was there is no table any more.
    pub fn forget(&mut self, start: u64, end: u64) {
        let gone: Vec<u64> = self.slices.range(start..end).map(|(offset, _)| *offset).collect();
        for offset in gone {
            let slice = self.slices.remove(&offset);
            self.dirty -= usize::from(slice.is_some_and(|slice| slice.dirty));
        }
    }

    /// Forgets what was not looked at since this was done last, but for what is to be written; whether there is more
    /// that may be forgotten the next time.
    pub fn forget_unused(&mut self, forgets_dirty: bool) -> bool {
        self.slices.retain(|_, slice| {
            let stays = slice.used || (slice.dirty && !forgets_dirty);
            self.dirty -= usize::from(!stays && slice.dirty);
            slice.used = false;
            stays
        });
        self.slices.len() > self.dirty
    }

    /// Where the first changed slice from `offset` on is.
    pub fn first_dirty(&self, offset: u64) -> Option<u64> {
        if self.dirty == 0 {
            return None;
        }
        let found = self.slices.range(offset..).find(|(_, slice)| slice.dirty);
        found.map(|(offset, _)| *offset)
    }

    /// The slice at `offset` as it is now; from here on it counts as clean.
    ///
    /// # Panics
    /// `changed-slices-are-here`
    pub fn take_dirty(&mut self, offset: u64) -> Vec<u8> {
        let slice = self.slices.get_mut(&offset).expect("changed-slices-are-here");
        self.dirty -= usize::from(slice.dirty);
        slice.dirty = false;
        slice.bytes.clone()
    }

    /// It was not written after all.
    pub fn mark_dirty(&mut self, offset: u64) {
        if let Some(slice) = self.slices.get_mut(&offset) {
            self.dirty += usize::from(!slice.dirty);
            slice.dirty = true;
        }
    }

    /// Whether there is anything to be written.
    pub fn is_dirty(&self) -> bool {
        self.dirty > 0
    }
}
