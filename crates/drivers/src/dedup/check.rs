//! Whether an image holds together: each entry refers to a data cluster that is there and has the content that the
//! entry says.
//!
//! A data cluster that nothing refers to is free space, not an error. An entry that is wrong has no right content that
//! anybody could know, so it is told and left; what is repaired is something where zeroes belong.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_runtime::{IoBuffer, Storage};
use blockyard_units::ByteRange;

use super::format::{MAGIC, Reference, digest_of};
use super::place::{Place, read_metadata};

/// Findings that are kept.
const MOST_FINDINGS: usize = 1000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DedupCheck {
    /// The first of what is wrong, for people.
    pub findings: Vec<String>,
    /// Things that are wrong and can be put right by nobody.
    pub corruptions: u64,
    /// Places that ought to be zero and are not.
    pub stray: u64,
    /// How many of those are zero now.
    pub stray_fixed: u64,
    /// Guest clusters, and how many of them are not zeroes.
    pub total_clusters: u64,
    /// See above.
    pub referring_clusters: u64,
    /// Data clusters that are referred to.
    pub data_clusters: u64,
    /// Data clusters that are there and not referred to.
    pub free_clusters: u64,
}

impl DedupCheck {
    /// Whether nothing is wrong any more.
    pub fn is_sound(&self) -> bool {
        self.corruptions == 0 && self.stray == self.stray_fixed
    }

    fn told(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding());
        }
    }

    fn corrupt(&mut self, finding: impl FnOnce() -> String) {
        self.corruptions += 1;
        self.told(finding);
    }
}

/// Whether a disk begins as the metadata of an image do.
///
/// # Yields
/// As the disk does.
pub async fn is_metadata(disk: &dyn Storage) -> bool {
    let beginning = ByteRange::new(0, disk.len().0.min(MAGIC.len() as u64));
    disk.read(beginning).await.is_ok_and(|bytes| *bytes == *MAGIC)
}

/// Checks an image, reading each data cluster that is referred to. `watch` is told how many of how many are read, and
/// says whether to go on; none if it does not.
///
/// # Errors
/// Reading failed.
///
/// # Yields
/// As the disks do.
pub async fn check(
    metadata: &dyn Storage,
    data: &dyn Storage,
    watch: &mut (dyn FnMut(u64, u64) -> bool + Send),
) -> Result<Option<DedupCheck>, BlockError> {
    look(metadata, data, watch).await.map(|looked| looked.map(|(check, _)| check))
}

/// The same, and puts right what can be.
///
/// # Errors
/// Reading or writing failed.
///
/// # Yields
/// As the disks do.
pub async fn repair(
    metadata: &dyn Storage,
    data: &dyn Storage,
    watch: &mut (dyn FnMut(u64, u64) -> bool + Send),
) -> Result<Option<DedupCheck>, BlockError> {
    let Some((mut check, stray)) = look(metadata, data, watch).await? else { return Ok(None) };
    let failed = |range| {
        let node: String = metadata.name().into();
        move |kind| BlockError::Io { kind, node, range }
    };
    for range in stray {
        let zeroes = IoBuffer::zeroes(range.len().as_usize());
        metadata.write(range.start(), zeroes, false).await.map_err(failed(range))?;
        check.stray_fixed += 1;
    }
    if check.stray_fixed > 0 {
        metadata.flush().await.map_err(failed(ByteRange::new(0, 0)))?;
    }
    Ok(Some(check))
}

/// What is wrong, and where there ought to be zeroes.
async fn look(
    metadata: &dyn Storage,
    data: &dyn Storage,
    watch: &mut (dyn FnMut(u64, u64) -> bool + Send),
) -> Result<Option<(DedupCheck, Vec<ByteRange>)>, BlockError> {
    let mut check = DedupCheck::default();
    let read = match read_metadata(Place::Disk(metadata)).await? {
        Ok(read) => read,
        Err(wrong) => {
            check.corrupt(|| wrong);
            return Ok(Some((check, Vec::new())));
        }
    };
    check.total_clusters = read.header.clusters();
    for range in &read.stray {
        check.stray += 1;
        check.told(|| format!("the metadata at {range} ought to be zeroes"));
    }
    let there = data.len().0 / read.header.cluster;
    // Who refers to a data cluster first, by each digest.
    let mut wanted: BTreeMap<u64, Vec<(u64, Reference)>> = BTreeMap::new();
    for (index, reference) in (0..).zip(&read.entries) {
        let Some(reference) = *reference else { continue };
        check.referring_clusters += 1;
        if reference.at >= there {
            let at = reference.at;
            check
                .corrupt(|| format!("entry {index}: data cluster {at}, of {there} that there are"));
            continue;
        }
        let digests = wanted.entry(reference.at).or_default();
        if digests.iter().all(|(_, other)| other.digest != reference.digest) {
            digests.push((index, reference));
        }
    }
    check.data_clusters = wanted.len() as u64;
    check.free_clusters = there - check.data_clusters;
    let mut wrong = BTreeSet::new();
    for (done, (at, digests)) in (0..).zip(&wanted) {
        if !watch(done, check.data_clusters) {
            return Ok(None);
        }
        let range = ByteRange::new(at * read.header.cluster, read.header.cluster);
        let content = digest_of(&Place::Disk(data).read(range).await?);
        let others = digests.iter().filter(|(_, entry)| Some(entry.digest) != content);
        wrong.extend(others.map(|(_, entry)| (entry.at, entry.digest)));
    }
    for (index, reference) in (0..).zip(&read.entries) {
        let Some(Reference { at, digest }) = *reference else { continue };
        if wrong.contains(&(at, digest)) {
            check.corrupt(|| format!("entry {index}: data cluster {at} has another content"));
        }
    }
    Ok(Some((check, read.stray)))
}
