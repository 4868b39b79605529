//! The clusters of an overlay as a plain value.
//!
//! Not for: who may look at what, or what the backing child says.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_block::Extent;
use blockyard_units::{ByteLen, ByteRange};

/// What is stored.
#[derive(Clone, Copy)]
pub(crate) enum Fill<'a> {
    Data(&'a [u8]),
    Zeroes,
}

/// The length, and which clusters have bytes of their own.
pub(crate) struct Map {
    /// Bytes; none until it is known.
    pub len: Option<u64>,
    /// Bytes of the backing child that may be seen, from its beginning.
    pub shown: u64,
    /// Bytes.
    cluster: u64,
    /// The bytes of each allocated cluster; behind them there are zeroes, so an empty one is all zeroes.
    clusters: BTreeMap<u64, Vec<u8>>,
}

/// Where a cluster's bytes come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Own,
    Zero,
    Below,
}

impl Map {
    pub fn new(len: Option<u64>, cluster: u64) -> Self {
        Self { len, shown: u64::MAX, cluster, clusters: BTreeMap::new() }
    }

    fn whole(&self, index: u64) -> ByteRange {
        let start = index * self.cluster;
        let end = start + self.cluster;
        ByteRange::between(start, self.len.map_or(end, |len| end.min(len)))
    }

    /// The clusters that `range` touches, and the part of each.
    fn parts(&self, range: ByteRange) -> impl Iterator<Item = (u64, ByteRange)> + use<> {
        let cluster = self.cluster;
        let indices = range.start() / cluster..range.end().div_ceil(cluster);
        indices.map(move |index| {
            (index, ByteRange::new(index * cluster, cluster).intersection(&range))
        })
    }

    fn covers(&self, index: u64, part: ByteRange) -> bool {
        part.intersection(&self.whole(index)) == self.whole(index)
    }

    /// The clusters that `range` covers in part and that are not allocated.
    pub fn bare_parts(&self, range: ByteRange) -> Vec<ByteRange> {
        let bare = |(index, part): &(u64, ByteRange)| {
            !self.clusters.contains_key(index) && !self.covers(*index, *part)
        };
        self.parts(range).filter(bare).map(|(index, _)| self.whole(index)).collect()
    }

    /// The bytes of `range`, in pieces; none where they are the backing child's.
    pub fn pieces(&self, range: ByteRange) -> Vec<(ByteRange, Option<Vec<u8>>)> {
        let mut pieces: Vec<(ByteRange, Option<Vec<u8>>)> = Vec::new();
        for (index, part) in self.parts(range) {
            let held = self.clusters.get(&index).map(|bytes| self.cut(index, bytes, part));
            match (pieces.last_mut(), held) {
                (Some((below, None)), None) => {
                    *below = ByteRange::between(below.start(), part.end());
                }
                (_, held) => pieces.push((part, held)),
            }
        }
        pieces
    }

    fn cut(&self, index: u64, bytes: &[u8], part: ByteRange) -> Vec<u8> {
        let [from, to] = self.places(index, part);
        let mut cut = bytes[from.min(bytes.len())..to.min(bytes.len())].to_vec();
        cut.resize(to - from, 0);
        cut
    }

    /// Where `part` begins and ends in its cluster.
    fn places(&self, index: u64, part: ByteRange) -> [usize; 2] {
        let start = index * self.cluster;
        [part.start() - start, part.end() - start].map(|place| ByteLen(place).as_usize())
    }

    /// Stores; a cluster that is not allocated begins as what was `copied`.
    pub fn store(&mut self, range: ByteRange, fill: Fill, mut copied: BTreeMap<u64, Vec<u8>>) {
        for (index, part) in self.parts(range) {
            let [from, to] = self.places(index, part);
            let all = self.covers(index, part);
            let bytes = self
                .clusters
                .entry(index)
                .or_insert_with(|| copied.remove(&index).unwrap_or_default());
            match fill {
                Fill::Data(data) => {
                    let skipped = ByteLen(part.start() - range.start()).as_usize();
                    bytes.resize(bytes.len().max(to), 0);
                    bytes[from..to].copy_from_slice(&data[skipped..skipped + (to - from)]);
                }
                Fill::Zeroes if all => bytes.clear(),
                Fill::Zeroes => {
                    let held = bytes.len();
                    bytes[from.min(held)..to.min(held)].fill(0);
                }
            }
            assert!(bytes.len() as u64 <= self.cluster, "clusters-fit: {index}");
        }
    }

    /// Whole clusters become zeroes, others stay as they are.
    pub fn discard(&mut self, range: ByteRange) {
        for (index, part) in self.parts(range) {
            if self.covers(index, part) {
                self.clusters.insert(index, Vec::new());
            }
        }
    }

    /// What it cut off of the backing child, if there is one, is never seen again.
    pub fn truncate(&mut self, len: u64, has_backing: bool) {
        if has_backing {
            self.shown = self.shown.min(len).min(self.len.unwrap_or(0));
        }
        self.len = Some(len);
        self.clusters.split_off(&len.div_ceil(self.cluster));
        if let Some(bytes) = self.clusters.get_mut(&(len / self.cluster)) {
            bytes.truncate(ByteLen(len % self.cluster).as_usize());
        }
    }

    /// The beginning of `range`, as far as its bytes come from one place.
    pub fn extent(&self, range: ByteRange) -> Extent {
        let first = self.source(range.start());
        let mut end = range.start();
        for (_, part) in self.parts(range) {
            if self.source(part.start()) != first {
                break;
            }
            end = part.end();
            if first == Source::Below && self.shown < end {
                end = self.shown;
                break;
            }
        }
        let same = ByteRange::between(range.start(), end);
        match first {
            Source::Own => Extent { offset: None, ..Extent::data(same) },
            Source::Zero => Extent::zeroes(same),
            Source::Below => Extent::unallocated(same),
        }
    }

    fn source(&self, offset: u64) -> Source {
        match self.clusters.get(&(offset / self.cluster)) {
            Some(bytes) if bytes.is_empty() => Source::Zero,
            Some(_) => Source::Own,
            None if offset < self.shown => Source::Below,
            None => Source::Zero,
        }
    }
}
