//! Memory that a device reads into and writes from without a copy in between.
//!
//! Long memory is a part of one [arena](ARENA), in pages as large as the system has: a device is told of a few large
//! pages sooner than of many small ones, which may even be too many for one of its requests. And it is there already:
//! the system has to find and to zero each page that it gives anew, which takes as long as the read itself. What a part
//! held before nobody sees: of what a buffer is made of, all was read.
//!
//! Invariant `parts-are-apart`: a part is in the list of what is free, or some [`Part`]'s own.
#![allow(unsafe_code)] // memory from the system, see `parts-are-apart`

use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use blockyard_runtime::IoBuffer;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes; shorter memory costs too little to be kept. Parts of the arena are multiples, and begin at some.
const LONG: usize = 64 << 10;
/// Bytes of the arena. Of what was never used at once the system has nothing to give.
const ARENA_LEN: usize = 32 << 20;
/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;

/// The arena, once it is needed; if the system had none to give it is empty. It stays.
static ARENA: Mutex<Option<Arena>> = Mutex::new(None);

struct Arena {
    start: NonNull<u8>,
    free: Free,
}

/// What is free of the arena: by what it is from the start, in the order of places; neighbours are one.
struct Free(Vec<Range<usize>>);

// SAFETY: it is memory of the whole process, and only says where.
unsafe impl Send for Arena {}

impl Arena {
    fn lock() -> MutexGuard<'static, Option<Self>> {
        ARENA.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new() -> Self {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let len = ARENA_LEN + LARGE_PAGE;
        // SAFETY: at a place that the system finds, so nothing else is there.
        let mapped = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, access, flags) };
        let Some(start) = mapped.ok().and_then(|start| NonNull::new(start.cast::<u8>())) else {
            return Self { start: NonNull::dangling(), free: Free(Vec::new()) };
        };
        // SAFETY: at most a large page further, and there is one more than is used.
        let start = unsafe { start.add(start.align_offset(LARGE_PAGE)) };
        let all = start.as_ptr().cast();
        // Where there are no large pages small ones do.
        // SAFETY: all of this was mapped above, and nobody knows of it yet.
        let _ = unsafe { rustix::mm::madvise(all, ARENA_LEN, Advice::LinuxHugepage) };
        Self { start, free: Free(std::iter::once(0..ARENA_LEN).collect()) }
    }
}

impl Free {
    /// The first that is long enough: so memory that was used lately is used again.
    fn take(&mut self, len: usize) -> Option<Range<usize>> {
        let index = self.0.iter().position(|free| free.len() >= len)?;
        let free = &mut self.0[index];
        let range = free.start..free.start + len;
        free.start = range.end;
        if free.start == free.end {
            self.0.remove(index);
        }
        Some(range)
    }

    fn give_back(&mut self, range: Range<usize>) {
        let index = self.0.partition_point(|free| free.start < range.start);
        self.0.insert(index, range);
        for second in [index + 1, index] {
            let ends = second.checked_sub(1).and_then(|first| Some(self.0.get(first)?.end));
            if ends.is_some() && ends == self.0.get(second).map(|free| free.start) {
                self.0[second - 1].end = self.0.remove(second).end;
            }
        }
    }
}

/// A part of the arena that is somebody's own.
struct Part {
    start: NonNull<u8>,
    /// From the arena's start.
    range: Range<usize>,
}

// SAFETY: as a vector's memory: whoever has it is the only one.
unsafe impl Send for Part {}
// SAFETY: the same; who shares it only reads.
unsafe impl Sync for Part {}

impl Part {
    /// A part of at least `len` bytes, if there is one.
    fn new(len: usize) -> Option<Self> {
        let mut arena = Arena::lock();
        let arena = arena.get_or_insert_with(Arena::new);
        let range = arena.free.take(len.next_multiple_of(LONG))?;
        // SAFETY: what is free is inside the arena.
        Some(Self { start: unsafe { arena.start.add(range.start) }, range })
    }

    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: `parts-are-apart`, and the system gave it zeroed.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.range.len()) }
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.range.len()) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        Arena::lock().iter_mut().for_each(|arena| arena.free.give_back(self.range.clone()));
    }
}

enum Memory {
    Own(Vec<u8>),
    Part(Part),
}

/// Bytes that begin at a multiple of something.
pub(crate) struct Aligned {
    memory: Memory,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` bytes, whatever they are, that begin at a multiple of `alignment`, a power of two.
    pub fn new(len: usize, alignment: usize) -> Self {
        let part = if len >= LONG && alignment <= LONG { Part::new(len) } else { None };
        if let Some(part) = part {
            return Self { memory: Memory::Part(part), start: 0, len };
        }
        let bytes = vec![0; len + alignment - 1];
        // What is never moved to another allocation keeps its address.
        let start = bytes.as_ptr().align_offset(alignment);
        Self { memory: Memory::Own(bytes), start, len }
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        let bytes = match &mut self.memory {
            Memory::Own(bytes) => bytes,
            Memory::Part(part) => part.as_mut(),
        };
        &mut bytes[self.start..self.start + self.len]
    }

    /// The first `len` of them.
    pub fn into_buffer(self, len: usize) -> IoBuffer {
        let all = match self.memory {
            Memory::Own(bytes) => IoBuffer::from(bytes),
            Memory::Part(part) => IoBuffer::of_owner(part),
        };
        all.slice(self.start..self.start + len)
    }
}

/// The same bytes where they begin at a multiple of `alignment`: copied only if they do not.
pub(crate) fn aligned(data: IoBuffer, alignment: usize) -> IoBuffer {
    if data.as_ptr().align_offset(alignment) == 0 {
        return data;
    }
    let mut copy = Aligned::new(data.len(), alignment);
    copy.as_mut().copy_from_slice(&data);
    copy.into_buffer(data.len())
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges, of which some have one")]
mod tests {
    use super::*;

    #[test]
    fn parts_are_apart_and_come_back_as_one() {
        let mut free = Free(vec![0..10]);
        let taken = [3, 4, 2, 2].map(|len| free.take(len));
        assert_eq!(taken, [Some(0..3), Some(3..7), Some(7..9), None]);
        for (back, left) in
            [(3..7, vec![3..7, 9..10]), (0..3, vec![0..7, 9..10]), (7..9, vec![0..10])]
        {
            free.give_back(back);
            assert_eq!(free.0, left);
        }
    }

    #[test]
    fn long_memory_is_aligned_and_keeps_what_is_written() {
        let mut all: Vec<Aligned> = (0..40).map(|_| Aligned::new((1 << 20) + 1, 4096)).collect();
        for (byte, memory) in (0..).zip(&mut all) {
            memory.as_mut().fill(byte);
            assert_eq!(memory.as_mut().as_ptr().align_offset(4096), 0);
        }
        for (byte, memory) in (0..).zip(all) {
            let buffer = memory.into_buffer(1 << 20);
            assert!(buffer.len() == 1 << 20 && buffer.iter().all(|found| *found == byte));
        }
    }
}
