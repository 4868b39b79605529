//! A client of NBD, with what a guest needs: simple replies; one request after another, or many at a time from two
//! threads.
//!
//! Source: the NBD protocol (`doc/proto.md` of NetworkBlockDevice/nbd): fixed newstyle negotiation,
//! `NBD_OPT_EXPORT_NAME`, transmission phase with simple replies, values of the constants.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::rc::Rc;
use std::time::Instant;

use crate::daemon::{Stop, is_early};
use crate::error::PeerError;
use crate::{LOOK, PATIENCE};

const INIT: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
const EXPORT_NAME: u32 = 1;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const FLAG_FUA: u16 = 1;
const FLAG_NO_HOLE: u16 = 2;

/// What is asked of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads it.
    Read,
    /// Writes the data that come with it.
    Write,
    /// Makes everything durable that was written; the range does not matter.
    Flush,
    /// Gives it back.
    Trim,
    /// Writes zeroes; whether by giving space back.
    Zeroes {
        /// It may.
        unmap: bool,
    },
}

impl Op {
    fn number(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::Zeroes { .. } => 6,
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What.
    pub op: Op,
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
    /// Of a write; as long as it.
    pub data: &'a [u8],
    /// It is durable when it ends.
    pub fua: bool,
}

impl Ask<'_> {
    /// As it is sent, under a number that its reply will have.
    fn bytes(&self, cookie: u64) -> Vec<u8> {
        let fua = if self.fua { FLAG_FUA } else { 0 };
        let no_hole = if self.op == (Op::Zeroes { unmap: false }) { FLAG_NO_HOLE } else { 0 };
        let (offset, len) = if self.op == Op::Flush { (0, 0) } else { (self.offset, self.len) };
        let mut request = Vec::with_capacity(28 + self.data.len());
        request.extend(REQUEST.to_be_bytes());
        request.extend((fua | no_hole).to_be_bytes());
        request.extend(self.op.number().to_be_bytes());
        request.extend(cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(len.to_be_bytes());
        request.extend(self.data);
        request
    }
}

/// The head of a reply: the number of its request, and that of an error if there was one.
fn reply(head: [u8; 16]) -> Result<(u64, u32), PeerError> {
    let number =
        |part: Range<usize>| head[part].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    match (u32::try_from(number(0..4)), u32::try_from(number(4..8))) {
        (Ok(REPLY), Ok(error)) => Ok((number(8..16), error)),
        _ => Err(no_reply()),
    }
}

fn no_reply() -> PeerError {
    PeerError::Failed("nbd: this is no reply to what was asked".into())
}

/// A connection to an export. Dropped, it is closed without a word.
pub struct Nbd {
    stream: UnixStream,
    size: u64,
    cookie: u64,
    stop: Stop,
}

/// The half of a connection that asks; nothing is read through it. Dropped, the connection is closed.
pub struct Asker(UnixStream);

/// The half of a connection that hears the replies.
pub struct Hearer(UnixStream);

impl Asker {
    /// Asks, under a number that the reply will have.
    ///
    /// # Errors
    /// The server takes nothing any more.
    ///
    /// # Panics
    /// `halves-do-not-read`
    pub fn ask(&mut self, cookie: u64, ask: &Ask<'_>) -> Result<(), PeerError> {
        assert_ne!(ask.op, Op::Read, "halves-do-not-read");
        self.0.write_all(&ask.bytes(cookie)).map_err(|error| broken(&error))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // Whoever hears is told; the server may have hung up before.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Hearer {
    /// Waits for the next reply: the number of its request, and that of an error or 0.
    ///
    /// # Errors
    /// The connection is closed, or this is no reply.
    pub fn hear(&mut self) -> Result<(u64, u32), PeerError> {
        let mut head = [0; 16];
        self.0.read_exact(&mut head).map_err(|error| broken(&error))?;
        reply(head)
    }
}

fn broken(error: &io::Error) -> PeerError {
    if is_early(error) {
        let seconds = PATIENCE.as_secs();
        return PeerError::Failed(format!("nbd: no reply for {seconds} s"));
    }
    PeerError::io("nbd", error)
}

impl Nbd {
    /// Connects to an abstract address, and takes an export; gives up as soon as it waits while `stop` says so.
    ///
    /// # Errors
    /// Nobody listens there, or there is no such export.
    pub fn connect(
        address: &str,
        export: &str,
        stop: Rc<dyn Fn() -> bool>,
    ) -> Result<Self, PeerError> {
        let address = SocketAddr::from_abstract_name(address).map_err(|error| broken(&error))?;
        let stream = UnixStream::connect_addr(&address).map_err(|error| broken(&error))?;
        stream.set_read_timeout(Some(LOOK)).map_err(|error| broken(&error))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|error| broken(&error))?;
        let mut nbd = Self { stream, size: 0, cookie: 0, stop };
        nbd.negotiate(export)?;
        Ok(nbd)
    }

    fn negotiate(&mut self, export: &str) -> Result<(), PeerError> {
        let (init, option) = (u64::from_be_bytes(self.take()?), u64::from_be_bytes(self.take()?));
        let flags = u16::from_be_bytes(self.take()?);
        if (init, option) != (INIT, OPTION) || flags & FIXED_NEWSTYLE == 0 {
            return Err(PeerError::Failed("nbd: the server has no fixed newstyle".into()));
        }
        let no_zeroes = flags & NO_ZEROES;
        let mut hello = Vec::new();
        hello.extend(u32::from(FIXED_NEWSTYLE | no_zeroes).to_be_bytes());
        hello.extend(OPTION.to_be_bytes());
        hello.extend(EXPORT_NAME.to_be_bytes());
        hello.extend(u32::try_from(export.len()).unwrap_or(u32::MAX).to_be_bytes());
        hello.extend(export.as_bytes());
        self.send(&hello)?;
        self.size = u64::from_be_bytes(self.take()?);
        let _transmission_flags: [u8; 2] = self.take()?;
        if no_zeroes == 0 {
            let _zeroes: [u8; 124] = self.take()?;
        }
        Ok(())
    }

    /// In bytes, as it was when this client came.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What a request gives: the data of a read, nothing of others, or the number of an error.
    ///
    /// # Errors
    /// There is no reply.
    pub fn ask(&mut self, ask: &Ask<'_>) -> Result<Result<Vec<u8>, u32>, PeerError> {
        self.cookie += 1;
        self.send(&ask.bytes(self.cookie))?;
        let (cookie, error) = reply(self.take()?)?;
        if cookie != self.cookie {
            return Err(no_reply());
        }
        if error != 0 {
            return Ok(Err(error));
        }
        let mut data = vec![0; if ask.op == Op::Read { ask.len as usize } else { 0 }];
        self.fill(&mut data)?;
        Ok(Ok(data))
    }

    /// For requests that overlap: one thread asks while another hears.
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub fn halves(self) -> Result<(Asker, Hearer), PeerError> {
        let heard = self.stream.try_clone().map_err(|error| broken(&error))?;
        heard.set_read_timeout(None).map_err(|error| broken(&error))?;
        Ok((Asker(self.stream), Hearer(heard)))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), PeerError> {
        self.stream.write_all(bytes).map_err(|error| broken(&error))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], PeerError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), PeerError> {
        let (began, mut filled) = (Instant::now(), 0);
        while filled < bytes.len() {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(PeerError::Failed("nbd: the server has hung up".into())),
                Ok(count) => filled += count,
                Err(_) if (self.stop)() => return Err(PeerError::Stopped),
                Err(error) if is_early(&error) && began.elapsed() < PATIENCE => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }
}
