//! `blklogwrites`: passes on what is asked of its child `file`, and writes down in its child `log` what was written, as
//! the tools for the logs of dm-log-writes read it.
//!
//! Invariants:
//! - `a-flush-names-what-it-has`: what had been written when a flush was asked for stands in the log before that flush,
//!   and what is written while it is under way behind it;
//! - `logged-as-it-lies`: writes serialise, so that those which overlap stand in the order in which they lie on the
//!   disk;
//! - `entries-before-their-number`: the super block counts entries that are durable. A log begins with a super block
//!   that counts none.
//!
//! Source: the kernel's documentation of dm-log-writes; QEMU's documented blklogwrites, with its options. Differs: what
//! is asked for fails if it could not be written down, and stands in the log if it failed after it was done in part;
//! changes of length are not in the log, which has no entry for them. What is not whole sectors is refused.

mod format;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use blockyard_block::{BlockDriver, BlockError, Io, Limits, ReadFlags, Write, WriteKind};
use blockyard_runtime::BoxFuture;
use blockyard_sync::Mutex;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteRange, Mutant};

use self::format::{DISCARD, Entry, FLUSH, FUA, Super};
use crate::FILE;
use crate::describe::may_write;

/// The name of the child that has the log.
pub(crate) const LOG: &str = "log";

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes that places and lengths are counted in; of a log that is appended to, those that it has, if nobody says.
    pub sector_size: Option<u32>,
    /// What is in the log stays.
    pub append: bool,
    /// The super block is written after so many entries, and after each that is to be durable.
    pub super_interval: u64,
}

impl LogOptions {
    /// Bytes of a sector, where nobody says.
    pub const SECTOR: u32 = 512;
    /// Bytes that a sector may have.
    pub const SECTORS: core::ops::RangeInclusive<u32> = 512..=64 << 10;
    /// Entries, where nobody says.
    pub const INTERVAL: u64 = 4096;
}

/// Writes down what is written.
pub struct Blklogwrites {
    name: String,
    options: LogOptions,
    /// Bytes of a sector.
    sector: Quiet<u32>,
    log: Mutex<Log>,
}

/// The log so far.
struct Log {
    entries: u64,
    /// The sector behind the last entry.
    next: u64,
    /// The super block says what is in the log, or less.
    begun: bool,
    /// Entries that the super block does not count.
    uncounted: u64,
}

impl Blklogwrites {
    /// One whose node is `name`.
    pub fn new(name: impl Into<String>, options: LogOptions) -> Self {
        let sector = options.sector_size.unwrap_or(LogOptions::SECTOR);
        let log = Mutex::new(Log { entries: 0, next: 1, begun: false, uncounted: 0 });
        Self { name: name.into(), options, sector: Quiet::new(sector), log }
    }

    fn sector(&self) -> u32 {
        self.sector.with(|sector| *sector)
    }

    fn invalid(&self, said: &str) -> BlockError {
        BlockError::Invalid(format!("node '{}': log: {said}", self.name))
    }

    /// Looks where the log ends that is there.
    async fn find(&self, io: &Io) -> Result<(), BlockError> {
        let read = |at, len| io.read(LOG, ByteRange::new(at, len), ReadFlags::default());
        let len = io.len(LOG)?.0;
        if len < Super::LEN {
            return Err(self.invalid("there is none that could be appended to"));
        }
        let found = Super::parse(&read(0, Super::LEN).await?);
        let found = found.map_err(|said| self.invalid(&said))?;
        let sector = u64::from(found.sector);
        if self.options.sector_size.is_some_and(|wanted| wanted != found.sector) {
            return Err(self.invalid(&format!("its sectors have {sector} bytes")));
        }
        let mut next = 1_u64;
        for number in 0..found.entries {
            let behind = || self.invalid(&format!("entry {number} is behind its end"));
            let inside = |sectors: u64| sectors.checked_mul(sector).filter(|end| *end <= len);
            inside(next.saturating_add(1)).ok_or_else(behind)?;
            let entry = Entry::parse(&read(next * sector, Entry::LEN).await?);
            next = next.saturating_add(1).saturating_add(entry.sectors_of_data());
            inside(next).ok_or_else(behind)?;
        }
        let mut log = self.log.lock().await;
        *log = Log { entries: found.entries, next, begun: true, uncounted: 0 };
        log.unlock();
        self.sector.with(|sector| *sector = found.sector);
        Ok(())
    }

    /// Writes down what was done, with its data, and says so in the super block if it is to be durable.
    async fn append(
        &self,
        io: &Io,
        log: &mut Log,
        flags: u64,
        (range, data): (ByteRange, Option<WriteKind>),
    ) -> Result<(), BlockError> {
        let sector = u64::from(self.sector());
        if !log.begun {
            self.count(io, log).await?;
            io.flush(LOG).await?;
            log.begun = true;
        }
        let [first, count] = [range.start(), range.len().0].map(|bytes| bytes / sector);
        let entry = Entry { sector: first, sectors: count, flags };
        let at = log.next * sector;
        io.write(LOG, Write::data(at, entry.to_bytes(self.sector()).into())).await?;
        if let Some(kind) = data {
            io.write(LOG, Write::new(kind, ByteRange::new(at + sector, range.len().0))).await?;
        }
        log.next += 1 + entry.sectors_of_data();
        log.entries += 1;
        log.uncounted += 1;
        if flags & (FLUSH | FUA) != 0 || log.uncounted >= self.options.super_interval {
            self.count_durably(io, log).await?;
        }
        Ok(())
    }

    /// The same in one's turn.
    async fn logged(
        &self,
        io: &Io,
        flags: u64,
        done: (ByteRange, Option<WriteKind>),
    ) -> Result<(), BlockError> {
        let mut log = self.log.lock().await;
        let logged = self.append(io, &mut log, flags, done).await;
        log.unlock();
        logged
    }

    async fn finish(&self, io: &Io) -> Result<(), BlockError> {
        let mut log = self.log.lock().await;
        if log.uncounted > 0 && may_write(io, LOG) {
            self.count_durably(io, &mut log).await?;
        }
        log.unlock();
        Ok(())
    }

    async fn count_durably(&self, io: &Io, log: &mut Log) -> Result<(), BlockError> {
        io.flush(LOG).await?;
        self.count(io, log).await?;
        io.flush(LOG).await?;
        log.uncounted = 0;
        Ok(())
    }

    /// Writes the super block.
    async fn count(&self, io: &Io, log: &Log) -> Result<(), BlockError> {
        let counted = Super { sector: self.sector(), entries: log.entries };
        io.write(LOG, Write::data(0, counted.to_bytes().into())).await
    }
}

impl BlockDriver for Blklogwrites {
    fn main_child(&self) -> Option<&'static str> {
        Some(FILE)
    }

    fn limits(&self) -> Limits {
        Limits { request_alignment: self.sector(), ..Limits::NONE }
    }

    fn serialises_writes(&self) -> bool {
        true
    }

    /// # Errors
    /// There is no log that could be appended to, its sectors are not those that are asked for, or they are longer than
    /// what is logged has.
    fn open<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            if self.options.append {
                self.find(io).await?;
            }
            let (len, sector) = (io.len(FILE)?, self.sector());
            if !len.0.is_multiple_of(u64::from(sector)) {
                let said = format!("its sectors have {sector} bytes, and the file {len}");
                return Err(self.invalid(&said));
            }
            Ok(())
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let write = match write.kind {
                WriteKind::Copy(_) => write.resolved().await?,
                _ => write,
            };
            let (range, fua) = (write.range, if write.flags.fua { FUA } else { 0 });
            let logged = match &write.kind {
                WriteKind::Data(data) | WriteKind::Compressed(data) => {
                    Some((fua, Some(WriteKind::Data(data.clone()))))
                }
                WriteKind::Zeroes => Some((fua, Some(WriteKind::Zeroes))),
                WriteKind::Discard => Some((fua | DISCARD, None)),
                WriteKind::Copy(_) | WriteKind::Truncate(_) => None,
            };
            let Some((flags, data)) = logged else { return io.write(FILE, write).await };
            let sector = u64::from(self.sector());
            // At an end that is not at a multiple.
            if !range.len().0.is_multiple_of(sector) {
                return Err(self.invalid(&format!("{range} is no whole number of sectors")));
            }
            let done = (range, data);
            if io.layer().design().is_mutant(Mutant::BlklogwritesLogsFirst) {
                self.logged(io, flags, done).await?;
                return io.write(FILE, write).await;
            }
            io.write(FILE, write).await?;
            self.logged(io, flags, done).await
        })
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            // Whoever writes meanwhile waits with his entry.
            let mut log = self.log.lock().await;
            io.flush(FILE).await?;
            let logged = self.append(io, &mut log, FLUSH, (ByteRange::new(0, 0), None)).await;
            log.unlock();
            logged
        })
    }

    fn close<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.finish(io))
    }

    fn becomes_read_only<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.finish(io))
    }
}
