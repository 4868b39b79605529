//! One pass over an image: all references are counted, and compared with the refcounts; what the pass is for is done
//! on the way.
//!
//! References are counted for a window over the file's clusters at a time, as large as the memory that may be taken:
//! an image that does not fit into one is walked through once for each.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use blockyard_units::{ByteLen, ByteRange};

use super::report::{Check, Expected, Finding, Severity};
use super::structures::Structures;
use super::tally::{Tally, mark};
use super::{CheckOptions, Progress, Watch};
use crate::entry::L1Entry;
use crate::error::ImageError;
use crate::file::ImageFile;
use crate::geometry::Geometry;
use crate::header::Header;

/// Bytes that are read at once, unless a cluster is larger.
const AT_ONCE: u64 = 1 << 20;
/// Bits of an L1 entry that mean nothing.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only to look.
    Look,
    /// Refcounts that are too low become what they should be.
    Raise,
    /// Those that are too high do.
    Lower,
    /// COPIED flags of what has several references go.
    Clear,
    /// Those of what has one come.
    Set,
    /// Guest data where they may not be get a cluster of their own.
    Copy,
    /// New refcount blocks are made, and a new table; the old ones are not looked at.
    Rebuild,
    /// The same, of 2 to the power of this bits; nothing else is wrong.
    Widen(u32),
}

impl Action {
    /// Whether the refcounts that there are go.
    pub fn rebuilds(self) -> bool {
        matches!(self, Self::Rebuild | Self::Widen(_))
    }
}

/// What repairs an image needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Refcounts are too low.
    pub raise: bool,
    /// COPIED flags are wrong.
    pub clear: bool,
    /// Guest data are where they may not be.
    pub copy: bool,
    /// The refcounts cannot be put right where they are.
    pub rebuild: bool,
    /// There are references that cannot be followed: nothing can be said to be unused.
    pub unfollowed: bool,
}

/// Who refers to an L2 table.
#[derive(Clone, Copy, Default)]
pub struct Uses {
    /// How many.
    pub count: u32,
    /// The guest's offset that it begins at, if the guest's own L1 table has it.
    pub guest: u64,
    /// What the active table says of it.
    pub marks: u32,
}

impl Uses {
    /// Whether the guest's own L1 table does.
    pub fn is_active(self) -> bool {
        self.marks != 0
    }
}

/// See the file head.
pub struct Pass<'a, 'w> {
    pub file: ImageFile<'a>,
    pub header: Header,
    pub geometry: Geometry,
    /// Bytes of the file.
    pub len: u64,
    /// Bytes of the external data file, if it is to be looked at.
    pub data_len: Option<u64>,
    pub options: CheckOptions,
    pub action: Action,
    pub structures: Structures,
    pub needs: Needs,
    pub check: Check,
    /// What is met was met before, and told.
    pub quiet: bool,
    watch: &'w mut Watch<'w>,
}

/// Runs a pass.
pub async fn run<'w>(
    (file, data): (ImageFile<'_>, Option<ImageFile<'_>>),
    options: CheckOptions,
    action: Action,
    watch: &'w mut Watch<'w>,
) -> Result<(Check, Needs), ImageError> {
    let header = crate::image::read_header(file).await?;
    let (mut geometry, len) = (header.geometry(), file.len()?);
    if let Action::Widen(order) = action {
        geometry.refcount_order = order;
    }
    let data_len = data.filter(|_| geometry.external).map(|data| data.len()).transpose()?;
    let check = Check { total_clusters: geometry.clusters_for(header.size), ..Check::default() };
    let (structures, needs) = (Structures::default(), Needs::default());
    let quiet = false;
    let mut pass = Pass {
        file,
        header,
        geometry,
        len,
        data_len,
        options,
        action,
        structures,
        needs,
        check,
        quiet,
        watch,
    };
    pass.find_structures().await?;
    pass.go().await?;
    Ok((pass.check, pass.needs))
}

impl Pass<'_, '_> {
    /// Clusters of the file.
    pub fn clusters(&self) -> u64 {
        self.geometry.clusters_for(self.len)
    }

    async fn go(&mut self) -> Result<(), ImageError> {
        let counts = self.geometry.block_counts();
        // Whole refcount blocks, one at least.
        let window = (self.options.memory / 4 / counts).max(1) * counts;
        let mut rebuilt = self.begin_rebuilding()?;
        let clusters = rebuilt.as_ref().map_or(self.clusters(), |rebuilt| rebuilt.end);
        let mut start = 0;
        loop {
            let count = window.min(clusters.saturating_sub(start).next_multiple_of(counts));
            let count = usize::try_from(count.max(counts)).expect("windows-are-small");
            let mut tally = Tally::new(start, count);
            // Behind the end of the file there is nothing to refer to. What the first walk meets later ones meet again;
            // the counts of a window are looked at once.
            if start < clusters {
                self.quiet = start > 0;
                self.walk(&mut tally).await?;
                self.quiet = false;
            }
            if let Some(rebuilt) = &mut rebuilt {
                self.rebuild_window(&tally, rebuilt).await?;
                start = tally.end();
                if start < clusters {
                    continue;
                }
                return self.finish_rebuilding(rebuilt).await;
            }
            let next = self.compare(&mut tally).await?;
            match self.action {
                Action::Clear | Action::Set => self.fix_flags(&tally).await?,
                Action::Copy => self.copy_shared(&tally).await?,
                _ => {}
            }
            let next = next.into_iter().chain(tally.beyond).min();
            let Some(next) = next else { return Ok(()) };
            start = next / counts * counts;
        }
    }

    /// Tells how far it is.
    ///
    /// # Errors
    /// `Interrupted`, if it is not to go on.
    pub fn told(&mut self, offset: u64) -> Result<(), ImageError> {
        let progress = Progress { done: ByteLen(offset), all: ByteLen(self.len) };
        if (self.watch)(progress) { Ok(()) } else { Err(ImageError::Interrupted) }
    }

    pub fn tell(&mut self, finding: Finding) {
        if !self.quiet {
            self.check.add(finding, self.options.findings);
        }
    }

    /// Something is wrong.
    pub fn wrong(&mut self, structure: &'static str, offset: u64, found: u64, expected: Expected) {
        let severity = Severity::Corruption;
        self.tell(Finding { severity, structure, offset, found, expected });
    }

    /// The same, and it cannot be known what it should refer to.
    pub fn cannot_follow(
        &mut self,
        structure: &'static str,
        offset: u64,
        found: u64,
        expected: &'static str,
    ) {
        self.needs.unfollowed = true;
        self.wrong(structure, offset, found, Expected::Said(expected));
    }

    /// The clusters that `range` touches.
    fn clusters_of(&self, range: ByteRange) -> Range<u64> {
        let bits = self.geometry.cluster_bits;
        range.start() >> bits..self.geometry.clusters_for(range.end())
    }

    fn add(&self, tally: &mut Tally, range: ByteRange, marks: u32, uses: u32) {
        let clusters = self.clusters_of(range);
        tally.add(clusters.start, clusters.end, marks, uses);
    }

    /// Counts all references to the clusters of a window.
    async fn walk(&mut self, tally: &mut Tally) -> Result<(), ImageError> {
        let cluster = self.geometry.cluster();
        let rebuilding = self.action.rebuilds();
        for (range, refcounts) in &self.structures.alone {
            let marks = if *refcounts { mark::ALONE | mark::REFCOUNTS } else { mark::ALONE };
            if !(rebuilding && *refcounts) {
                self.add(tally, *range, marks, 1);
            }
        }
        for block in self.structures.blocks.iter().filter(|block| **block > 0 && !rebuilding) {
            let range = ByteRange::new(*block, cluster);
            self.add(tally, range, mark::ALONE | mark::REFCOUNTS, 1);
        }
        for table in self.structures.l1.iter().chain(&self.structures.bitmaps) {
            self.add(tally, table.range(), mark::ALONE, table.uses);
        }
        self.walk_bitmaps(tally).await?;
        let quiet = self.quiet;
        let mut from = Some(0);
        while let Some(at) = from {
            // The L1 tables are looked at once for each batch.
            self.quiet = quiet || at > 0;
            let (batch, next) = self.tables_from(at).await?;
            self.quiet = quiet;
            for run in runs(&batch, cluster) {
                let range = ByteRange::new(run[0].0, run.len() as u64 * cluster);
                self.told(range.start())?;
                let bytes = self.file.read(range).await?;
                let tables = bytes.chunks_exact(bytes.len() / run.len());
                for ((offset, uses), bytes) in run.iter().zip(tables) {
                    let table = ByteRange::new(*offset, cluster);
                    self.add(tally, table, mark::TABLE | uses.marks, uses.count);
                    self.count_table(tally, *offset, *uses, bytes);
                }
            }
            from = next;
        }
        Ok(())
    }

    /// "Bitmap table": the clusters with the bits.
    async fn walk_bitmaps(&mut self, tally: &mut Tally) -> Result<(), ImageError> {
        const RESERVED: u64 = 0xff00_0000_0000_01fe;
        let cluster = self.geometry.cluster();
        for index in 0..self.structures.bitmaps.len() {
            let table = self.structures.bitmaps[index];
            let mut at = table.offset;
            while at < table.range().end() {
                let range = ByteRange::between(at, table.range().end().min(at + AT_ONCE));
                self.told(at)?;
                let bytes = self.file.read(range).await?;
                for (index, entry) in bytes.chunks_exact(8).enumerate() {
                    let entry = u64::from_be_bytes(entry.try_into().expect("eight-bytes"));
                    let (place, host) = (at + index as u64 * 8, entry & !RESERVED & !1);
                    if entry & RESERVED != 0 || (host > 0 && entry & 1 != 0) {
                        let said = Expected::Said("reserved bits that are 0");
                        self.wrong("a bitmap table entry", place, entry, said);
                    }
                    if host > 0 && self.follows("a bitmap table entry", place, entry, host, cluster)
                    {
                        self.add(tally, ByteRange::new(host, cluster), mark::ALONE, table.uses);
                    }
                }
                at = range.end();
            }
        }
        Ok(())
    }

    /// Whether `len` bytes at `host` are there, a cluster at the end in part at least. If not, the `entry` at `place`
    /// is wrong.
    pub fn follows(
        &mut self,
        structure: &'static str,
        place: u64,
        entry: u64,
        host: u64,
        len: u64,
    ) -> bool {
        let cluster = self.geometry.cluster();
        let aligned = len != cluster || self.geometry.within(host) == 0;
        let inside = host < self.len && host + len < self.len + cluster;
        if !aligned {
            self.cannot_follow(structure, place, entry, "a multiple of the cluster size");
        } else if !inside {
            self.cannot_follow(structure, place, entry, "inside the file");
        }
        aligned && inside
    }

    /// The L2 tables from offset `from` on, as many as may be in memory at once, and where the others begin.
    pub async fn tables_from(
        &mut self,
        from: u64,
    ) -> Result<(Vec<(u64, Uses)>, Option<u64>), ImageError> {
        let most = usize::try_from(self.options.memory / 256).unwrap_or(usize::MAX).max(1);
        let mut tables: BTreeMap<u64, Uses> = BTreeMap::new();
        let mut more = false;
        let cluster = self.geometry.cluster();
        for index in 0..self.structures.l1.len() {
            let l1 = self.structures.l1[index];
            let mut at = l1.offset;
            while at < l1.range().end() {
                let range = ByteRange::between(at, l1.range().end().min(at + AT_ONCE));
                self.told(at)?;
                let bytes = self.file.read(range).await?;
                for (index, entry) in (0_u64..).zip(bytes.chunks_exact(8)) {
                    let entry = L1Entry(u64::from_be_bytes(entry.try_into().expect("eight-bytes")));
                    if entry.0 == 0 {
                        continue;
                    }
                    let place = at + index * 8;
                    if entry.0 & L1_RESERVED != 0 {
                        let said = Expected::Said("reserved bits that are 0");
                        self.wrong("an L1 entry", place, entry.0, said);
                    }
                    let Some(table) = entry.table() else { continue };
                    if !self.follows("an L1 entry", place, entry.0, table, cluster) || table < from
                    {
                        continue;
                    }
                    let uses = tables.entry(table).or_default();
                    uses.count = uses.count.saturating_add(l1.uses);
                    if l1.active {
                        uses.guest = ((at - l1.offset) / 8 + index) * self.geometry.l1_reach();
                        uses.marks |= if entry.is_own() { mark::OWN } else { mark::PLAIN };
                    }
                    if tables.len() > most {
                        more = true;
                        tables.pop_last();
                    }
                }
                at = range.end();
            }
        }
        let next = tables.last_key_value().filter(|_| more).map(|(offset, _)| offset + cluster);
        Ok((tables.into_iter().collect(), next))
    }
}

/// Tables one behind the other that are read at once.
pub fn runs(tables: &[(u64, Uses)], cluster: u64) -> impl Iterator<Item = &[(u64, Uses)]> {
    let most = usize::try_from((AT_ONCE / cluster).max(1)).expect("requests-are-in-memory");
    let follows = move |a: &(u64, Uses), b: &(u64, Uses)| a.0 + cluster == b.0;
    tables.chunk_by(follows).flat_map(move |run| run.chunks(most))
}
