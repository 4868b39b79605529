//! A client of NBD, with what a guest needs: one request after another, simple replies.
//!
//! Source: the NBD protocol (`doc/proto.md` of NetworkBlockDevice/nbd): fixed newstyle negotiation,
//! `NBD_OPT_EXPORT_NAME`, transmission phase with simple replies, values of the constants.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
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

/// A connection to an export. Dropped, it is closed without a word.
pub struct Nbd {
    stream: UnixStream,
    size: u64,
    cookie: u64,
    stop: Stop,
}

fn broken(error: &io::Error) -> PeerError {
    if is_early(error) {
        let seconds = PATIENCE.as_secs();
        return PeerError::Failed(format!("nbd: no reply for {seconds} s"));
    }
    PeerError::io("nbd", error)
}

impl Nbd {
    /// Connects to an abstract address, and takes an export.
    pub(crate) fn connect(address: &str, export: &str, stop: Stop) -> Result<Self, PeerError> {
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
        let fua = if ask.fua { FLAG_FUA } else { 0 };
        let no_hole = if ask.op == (Op::Zeroes { unmap: false }) { FLAG_NO_HOLE } else { 0 };
        let (offset, len) = if ask.op == Op::Flush { (0, 0) } else { (ask.offset, ask.len) };
        let mut request = Vec::with_capacity(28 + ask.data.len());
        request.extend(REQUEST.to_be_bytes());
        request.extend((fua | no_hole).to_be_bytes());
        request.extend(ask.op.number().to_be_bytes());
        request.extend(self.cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(len.to_be_bytes());
        request.extend(ask.data);
        self.send(&request)?;
        let (magic, error) = (u32::from_be_bytes(self.take()?), u32::from_be_bytes(self.take()?));
        let cookie = u64::from_be_bytes(self.take()?);
        if (magic, cookie) != (REPLY, self.cookie) {
            return Err(PeerError::Failed("nbd: this is no reply to what was asked".into()));
        }
        if error != 0 {
            return Ok(Err(error));
        }
        let mut data = vec![0; if ask.op == Op::Read { len as usize } else { 0 }];
        self.fill(&mut data)?;
        Ok(Ok(data))
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
