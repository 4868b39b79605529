//! Where metadata and data are: in a node's children, or on disks when there is no node.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{BlockError, Io, ReadFlags};
use blockyard_runtime::{IoBuffer, Storage};
use blockyard_units::ByteRange;

use super::format::{ENTRY, Entry, Header, SECTOR, parse_entry};

/// Bytes of the table that are read at once.
const AT_ONCE: u64 = 1 << 20;

/// One of the two.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// The child of this name of the node that this is the view of.
    Child(&'a Io, &'static str),
    /// A disk.
    Disk(&'a dyn Storage),
}

impl Place<'_> {
    /// Bytes.
    ///
    /// # Errors
    /// If there is no such child.
    pub fn len(&self) -> Result<u64, BlockError> {
        match self {
            Self::Child(io, name) => Ok(io.len(name)?.0),
            Self::Disk(disk) => Ok(disk.len().0),
        }
    }

    /// Reads what lies inside.
    pub async fn read(&self, range: ByteRange) -> Result<IoBuffer, BlockError> {
        match self {
            Self::Child(io, name) => io.read(name, range, ReadFlags::default()).await,
            Self::Disk(disk) => disk.read(range).await.map_err(|kind| {
                let node = disk.name().into();
                BlockError::Io { kind, node, range }
            }),
        }
    }
}

/// What stands in the metadata.
pub struct Read {
    /// The header.
    pub header: Header,
    /// An entry for each guest cluster.
    pub entries: Vec<Entry>,
    /// Bytes from the beginning of the metadata, where there is something that ought to be zero.
    pub stray: Vec<ByteRange>,
}

/// Reads the metadata.
///
/// # Errors
/// They cannot be understood, whatever else is in them; or reading failed.
///
/// # Yields
/// As reading does.
pub async fn read_metadata(place: Place<'_>) -> Result<Result<Read, String>, BlockError> {
    let len = place.len()?;
    let first = place.read(ByteRange::new(0, len.min(SECTOR))).await?;
    let header = match Header::parse(&first) {
        Ok(header) => header,
        Err(wrong) => return Ok(Err(wrong)),
    };
    if len < header.end() {
        let end = header.end();
        return Ok(Err(alloc::format!("the metadata have {len} bytes, and need {end}")));
    }
    let (mut entries, mut stray) = (Vec::new(), Vec::new());
    let count = usize::try_from(header.clusters()).expect("the-table-is-limited");
    // Room is made for no more than is there.
    if entries.try_reserve_exact(count).is_err() {
        let bytes = header.table_len();
        return Ok(Err(alloc::format!("there is no memory for its table of {bytes} bytes")));
    }
    let rest = ByteRange::between(SECTOR, header.cluster);
    if !rest.is_empty() && place.read(rest).await?.iter().any(|byte| *byte != 0) {
        stray.push(rest);
    }
    let mut at = header.cluster;
    while at < header.end() {
        let piece = ByteRange::between(at, header.end().min(at + AT_ONCE));
        let bytes = place.read(piece).await?;
        for (offset, bytes) in (at..).step_by(ENTRY as usize).zip(bytes.chunks(ENTRY as usize)) {
            let parsed = parse_entry(bytes);
            if entries.len() < count {
                entries.push(parsed.unwrap_or(None));
            }
            let behind = entries.len() == count && offset >= header.cluster + count as u64 * ENTRY;
            if parsed.is_err() || (behind && bytes.iter().any(|byte| *byte != 0)) {
                stray.push(ByteRange::new(offset, ENTRY));
            }
        }
        at = piece.end();
    }
    Ok(Ok(Read { header, entries, stray }))
}
