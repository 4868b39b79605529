//! A disk as it should be: plain bytes, of which only those that are not zero are kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use blockyard_units::{ByteLen, ByteRange};

/// Bytes that are kept together.
const CHUNK: u64 = 4 << 10;

/// See the file head.
#[derive(Clone, Default)]
pub struct Model {
    pub len: u64,
    chunks: BTreeMap<u64, Vec<u8>>,
}

/// The chunks that `range` touches, and of each the part that it touches.
fn parts(range: ByteRange) -> impl Iterator<Item = (u64, ByteRange)> {
    let chunks = range.start() / CHUNK..range.end().div_ceil(CHUNK);
    chunks.map(move |chunk| (chunk, range.intersection(&ByteRange::new(chunk * CHUNK, CHUNK))))
}

fn within(range: ByteRange, start: u64) -> std::ops::Range<usize> {
    ByteLen(range.start() - start).as_usize()..ByteLen(range.end() - start).as_usize()
}

impl Model {
    /// `len` zeroes.
    pub fn new(len: u64) -> Self {
        Self { len, chunks: BTreeMap::new() }
    }

    /// What is in `range`.
    pub fn read(&self, range: ByteRange) -> Vec<u8> {
        let mut bytes = vec![0; range.len().as_usize()];
        for (chunk, part) in parts(range) {
            if let Some(held) = self.chunks.get(&chunk) {
                let held = &held[within(part, chunk * CHUNK)];
                bytes[within(part, range.start())].copy_from_slice(held);
            }
        }
        bytes
    }

    /// Puts `bytes` at `offset`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let range = ByteRange::new(offset, bytes.len() as u64);
        for (chunk, part) in parts(range) {
            let held = self.chunks.entry(chunk).or_insert_with(|| vec![0; CHUNK as usize]);
            held[within(part, chunk * CHUNK)].copy_from_slice(&bytes[within(part, offset)]);
        }
    }

    /// Makes `range` zeroes.
    pub fn zero(&mut self, range: ByteRange) {
        for (chunk, part) in parts(range) {
            if let Some(held) = self.chunks.get_mut(&chunk) {
                held[within(part, chunk * CHUNK)].fill(0);
            }
        }
    }

    /// Changes the length; what is added is zeroes.
    pub fn resize(&mut self, len: u64) {
        if len < self.len {
            self.zero(ByteRange::between(len, self.len));
        }
        self.len = len;
    }

    /// Where something was written, as far as that is inside.
    pub fn places(&self) -> impl Iterator<Item = ByteRange> {
        let inside = ByteRange::new(0, self.len);
        let places = self.chunks.keys().map(|chunk| ByteRange::new(chunk * CHUNK, CHUNK));
        places.map(move |place| place.intersection(&inside)).filter(|place| !place.is_empty())
    }

    /// A file with these bytes, with holes.
    pub fn save(&self, path: &Path) {
        let file = File::create(path).expect("the directory is writable");
        file.set_len(self.len).expect("a file may have holes");
        for (chunk, bytes) in &self.chunks {
            let inside = (self.len.saturating_sub(chunk * CHUNK)).min(CHUNK) as usize;
            file.write_all_at(&bytes[..inside], chunk * CHUNK).expect("there is room");
        }
    }
}
