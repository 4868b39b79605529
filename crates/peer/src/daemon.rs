//! The daemon: how it is started, asked and ended.
//!
//! Its monitor is on its standard input and output, which are one end of a pair of sockets, so no name is left behind.
//! Its NBD server listens at an abstract address, which goes when it ends.
//!
//! Source: QEMU's documentation of `qemu-storage-daemon` (`--chardev`, `--monitor`) and its QMP specification.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::error::PeerError;
use crate::nbd::Nbd;
use crate::{LOOK, PATIENCE};

/// What it is called.
pub const PROGRAM: &str = "qemu-storage-daemon";

/// Whether it is installed.
pub fn is_there() -> bool {
    let version = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Whether the caller wants no more of it.
pub(crate) type Stop = Rc<dyn Fn() -> bool>;

/// Whether a read that ends so may be tried again.
pub(crate) fn is_early(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// A running daemon, and its monitor. Dropped, it is killed.
pub struct Daemon {
    child: Child,
    monitor: BufReader<UnixStream>,
    /// The part of a line that has come.
    line: Vec<u8>,
    events: VecDeque<Json>,
    version: String,
    /// The NBD server listens.
    serves: bool,
    stop: Stop,
}

impl Daemon {
    /// Starts one. It is killed as soon as somebody waits for it while `stop` says so.
    ///
    /// # Errors
    /// It is not installed, or does not speak as it should.
    pub fn start(stop: impl Fn() -> bool + 'static) -> Result<Self, PeerError> {
        let cannot = |error| PeerError::io("qemu-storage-daemon cannot be started", &error);
        let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
        let input = OwnedFd::from(theirs.try_clone().map_err(cannot)?);
        ours.set_read_timeout(Some(LOOK)).map_err(cannot)?;
        let child = Command::new(PROGRAM)
            .args(["--chardev", "stdio,id=monitor", "--monitor", "monitor"])
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            // Ctrl-C on our terminal is ours: it is we who end the daemon.
            .process_group(0)
            .spawn();
        let child = child.map_err(|error| match error.kind() {
            ErrorKind::NotFound => PeerError::Absent,
            _ => cannot(error),
        })?;
        let mut daemon = Self {
            child,
            monitor: BufReader::new(ours),
            line: Vec::new(),
            events: VecDeque::new(),
            version: String::new(),
            serves: false,
            stop: Rc::new(stop),
        };
        let greeting = daemon.message("its greeting")?;
        let version = &greeting["QMP"]["version"]["qemu"];
        let [major, minor, micro] =
            ["major", "minor", "micro"].map(|part| version[part].as_u64().unwrap_or_default());
        daemon.version = format!("{major}.{minor}.{micro}");
        daemon.done("qmp_capabilities", &json!({}))?;
        Ok(daemon)
    }

    /// Its version, as `10.0.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it replies to a command: what it returns, or its error with `class` and `desc`.
    ///
    /// # Errors
    /// It does not reply.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: &Json,
    ) -> Result<Result<Json, Json>, PeerError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        if let Err(error) = self.monitor.get_mut().write_all(line.as_bytes()) {
            return Err(self.has_ended(command, &error));
        }
        let mut message = self.message(command)?;
        while message.get("event").is_some() {
            self.events.push_back(message);
            message = self.message(command)?;
        }
        match (message.get("return"), message.get("error")) {
            (Some(value), _) => Ok(Ok(value.clone())),
            (None, Some(error)) => Ok(Err(error.clone())),
            (None, None) => Err(self.has_failed(&format!("{command}: it said {message}"))),
        }
    }

    /// The same of a command that is to succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn done(&mut self, command: &str, arguments: &Json) -> Result<Json, PeerError> {
        let reply = self.execute(command, arguments)?;
        reply.map_err(|error| PeerError::Failed(format!("{command}: {}", text(&error["desc"]))))
    }

    /// The events that have come since somebody asked last: what it told before its last reply is among them.
    pub fn events(&mut self) -> Vec<Json> {
        self.events.drain(..).collect()
    }

    fn address(&self) -> String {
        format!("blockyard-{}", self.child.id())
    }

    /// Exports a node, writable or not, by NBD under a name of its own; its client. What the command replies, if that
    /// is an error.
    ///
    /// # Errors
    /// It does not reply, or not as a server does.
    pub fn export(
        &mut self,
        name: &str,
        node: &str,
        writable: bool,
    ) -> Result<Result<Nbd, Json>, PeerError> {
        if !self.serves {
            let data = json!({ "path": self.address(), "abstract": true });
            let arguments = json!({ "addr": { "type": "unix", "data": data } });
            self.done("nbd-server-start", &arguments)?;
            self.serves = true;
        }
        let export = json!({
            "type": "nbd", "id": name, "name": name, "node-name": node, "writable": writable,
        });
        match self.execute("block-export-add", &export)? {
            Ok(_) => Nbd::connect(&self.address(), name, self.stop.clone()).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Ends it in order: its nodes are closed, and what they store is in their images. It takes no command any more.
    ///
    /// # Errors
    /// It has not ended within a while, and was killed; or it ended badly.
    pub fn quit(&mut self) -> Result<(), PeerError> {
        self.done("quit", &json!({}))?;
        match self.ended_within(PATIENCE) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.has_failed(&format!("quit: {status}"))),
            None => Err(self.gives_up("quit")),
        }
    }

    /// Waits for one more event, for so long at most.
    ///
    /// # Errors
    /// It has ended.
    pub fn wait_event(&mut self, at_most: Duration) -> Result<(), PeerError> {
        let set = |daemon: &Self, time| daemon.monitor.get_ref().set_read_timeout(Some(time));
        let cannot = |error| PeerError::io("its monitor", &error);
        set(self, at_most).map_err(cannot)?;
        let event = self.line("an event");
        set(self, LOOK).map_err(cannot)?;
        self.events.extend(event?);
        Ok(())
    }

    /// How it ended, if it does within this time. Its end of the monitor's sockets is closed by then.
    fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < time && !(self.stop)() {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(status) => return status,
                Err(_) => return None,
            }
            // What it still tells is nobody's concern; once it has closed its end, this does not wait any more.
            self.line.clear();
            let _ = self.monitor.read_until(b'\n', &mut self.line);
        }
        None
    }

    /// What it says next.
    fn message(&mut self, asked: &str) -> Result<Json, PeerError> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE && !(self.stop)() {
            if let Some(message) = self.line(asked)? {
                return Ok(message);
            }
        }
        Err(self.gives_up(asked))
    }

    /// The same, if it says it before long.
    fn line(&mut self, asked: &str) -> Result<Option<Json>, PeerError> {
        match self.monitor.read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.ends_with(b"\n") => {
                let line = std::mem::take(&mut self.line);
                let message = serde_json::from_slice(&line);
                message
                    .map(Some)
                    .map_err(|error| self.has_failed(&format!("{asked}: no JSON: {error}")))
            }
            Ok(_) => Err(self.has_ended(asked, &ErrorKind::UnexpectedEof.into())),
            Err(error) if is_early(&error) => Ok(None),
            Err(error) => Err(self.has_ended(asked, &error)),
        }
    }

    fn gives_up(&self, asked: &str) -> PeerError {
        if (self.stop)() {
            return PeerError::Stopped;
        }
        let seconds = PATIENCE.as_secs();
        PeerError::Failed(format!("{PROGRAM}: {asked}: no answer for {seconds} s; it was killed"))
    }

    /// Its monitor has.
    fn has_ended(&mut self, asked: &str, error: &io::Error) -> PeerError {
        match self.ended_within(LOOK) {
            Some(status) => self.has_failed(&format!("{asked}: it has ended: {status}")),
            None => self.has_failed(&format!("{asked}: {error}")),
        }
    }

    /// With what it complained about.
    fn has_failed(&mut self, what: &str) -> PeerError {
        let mut said = String::new();
        self.end();
        if let Some(mut complaints) = self.child.stderr.take() {
            // What cannot be read is no news.
            let _ = complaints.read_to_string(&mut said);
        }
        let said = said.trim().replace('\n', "; ");
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        PeerError::Failed(format!("{PROGRAM}: {what}{said}"))
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or("it does not say why")
}
