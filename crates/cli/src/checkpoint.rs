//! Checkpoint files: a search put down, with everything that tells whose it is.
//!
//! A file is two lines of JSON and a digest of them: a head for people and for comparing, and what is left to do. It
//! belongs to the very program that wrote it, since one that behaves otherwise would leave out what it has to explore.
//! It is replaced as a whole, so that whenever the process is killed one of the two is there. One process goes on from
//! it at a time, and holds a lock on it: on the next file before that takes the place of the last.

use std::fs::{File, Metadata, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blockyard_sim::{Checkpoint, Summary};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::explore::Search;
use crate::failure::Failure;
use crate::seed;
use crate::spec::pairs;

const VERSION: u64 = 1;
/// The least time between two checkpoints.
const PAUSE: Duration = Duration::from_millis(250);
/// Saving takes at most one part in so many of the time.
const SHARE: u32 = 20;

/// What is left of a search, and what was done.
#[derive(Serialize, Deserialize)]
pub(crate) struct Left {
    pub checkpoint: Checkpoint,
    pub summary: Summary,
}

impl Left {
    /// Whether nothing is left.
    pub fn is_end(&self) -> bool {
        self.checkpoint.is_end()
    }
}

/// Keeps a search in a file.
pub(crate) struct Keeper<'a> {
    path: &'a Path,
    /// Where the file is: `path` may be a link.
    real: PathBuf,
    /// The file there, locked.
    file: File,
    /// What must be equal in a search that goes on from the file.
    identity: Vec<(&'static str, String)>,
    seconds_before: f64,
    began: Instant,
    next: Instant,
    /// Why the last checkpoint could not be written.
    failure: Option<Failure>,
}

impl<'a> Keeper<'a> {
    /// A keeper, and what the file holds, if it is there.
    ///
    /// # Errors
    /// If it holds something else, which is left as it is, or another process goes on from it.
    pub fn open(path: &'a Path, search: &Search<'_>) -> Result<(Self, Option<Left>), Failure> {
        let (began, identity) = (Instant::now(), identity(search)?);
        let next = began + PAUSE;
        let mut file = hold(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| Failure::file(path, error))?;
        let real = path.canonicalize().map_err(|error| Failure::file(path, error))?;
        let (seconds_before, failure) = (0.0, None);
        let mut keeper = Self { path, real, file, identity, seconds_before, began, next, failure };
        // Who was killed before the first checkpoint has left nothing in it.
        let left = if text.is_empty() { None } else { Some(keeper.read(&text)?) };
        Ok((keeper, left))
    }

    /// Checks whose a file is, and reads what it holds.
    fn read(&mut self, text: &str) -> Result<Left, Failure> {
        let wrong = |what: String| Failure::file(self.path, what);
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let (body, end) = rest.split_once('\n').unwrap_or((rest, ""));
        let head: Map<String, Value> = serde_json::from_str(first).unwrap_or_default();
        match head.get("blockyard-checkpoint").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(wrong(format!("a checkpoint of version {other}; {VERSION} is needed")));
            }
            None => return Err(wrong("not a checkpoint".into())),
        }
        for (key, here) in &self.identity {
            let there = head.get(*key).and_then(Value::as_str).unwrap_or_default();
            if there != here {
                let what = difference(key, there, here);
                return Err(wrong(format!("kept from another search: {what} now")));
            }
        }
        if end.trim_end() != digest(first, body) {
            return Err(wrong("damaged: it is not what was written".into()));
        }
        self.seconds_before = head.get("seconds").and_then(Value::as_f64).unwrap_or(0.0);
        serde_json::from_str(body).map_err(|error| wrong(error.to_string()))
    }

    /// About the file.
    pub fn about(&self, failure: &Failure) -> Failure {
        Failure::file(self.path, failure)
    }

    /// Since the search began, in earlier processes too.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    /// Where the search is kept, or why it is not.
    pub fn result(self) -> Result<String, Failure> {
        self.failure.map_or_else(|| Ok(self.path.display().to_string()), Err)
    }

    /// Whether it is time for a checkpoint.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Replaces the file; if that cannot be done now, it is told at the end.
    pub fn keep(&mut self, left: &Left) {
        let begin = Instant::now();
        self.failure = self.write(left).err();
        self.next = Instant::now() + PAUSE.max(begin.elapsed() * SHARE);
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// If it cannot be written: it is as it was.
    fn write(&mut self, left: &Left) -> Result<(), Failure> {
        let body = serde_json::to_string(left).map_err(|error| Failure::file(self.path, error))?;
        let identity = self.identity.iter().map(|(key, value)| (key.to_string(), json!(value)));
        let mut head: Map<String, Value> = identity.collect();
        head.insert("blockyard-checkpoint".into(), json!(VERSION));
        head.insert("executions".into(), json!(left.summary.executions));
        head.insert("seconds".into(), json!(self.seconds()));
        let head = Value::Object(head).to_string();
        let text = format!("{head}\n{body}\n{}\n", digest(&head, &body));
        let mut beside = self.real.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        self.file = replace(&self.real, &beside, &text)
            .map_err(|error| Failure::file(self.path, format!("{}: {error}", beside.display())))?;
        Ok(())
    }

    /// Makes the first checkpoint.
    ///
    /// # Errors
    /// If it cannot be written: then there is no file.
    pub fn begin(&mut self, left: &Left) -> Result<(), Failure> {
        self.write(left).inspect_err(|_| {
            // What is wrong is told already.
            let _ = std::fs::remove_file(&self.real);
        })
    }
}

/// Opens the file at `path`, or makes it, and locks it.
fn hold(path: &Path) -> Result<File, Failure> {
    let about = |error: std::io::Error| Failure::file(path, error);
    loop {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(about)?;
        if !file.metadata().map_err(about)?.is_file() {
            return Err(Failure::file(path, "not a file that could be replaced"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let why = "another process goes on from it; wait for that, or take another file";
                return Err(Failure::file(path, why));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Failure::file(path, format!("cannot be locked: {error}")));
            }
        }
        // It may have been replaced just before: then this is nobody's any more.
        let id = |file: Metadata| (file.dev(), file.ino());
        if std::fs::metadata(path).ok().map(id) == file.metadata().ok().map(id) {
            return Ok(file);
        }
    }
}

/// Writes beside the file, and renames; the new file is locked before.
fn replace(path: &Path, beside: &Path, text: &str) -> std::io::Result<File> {
    let write = || {
        let mut file = File::create(beside)?;
        file.try_lock()?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(beside, path)?;
        Ok(file)
    };
    let written = write();
    if written.is_err() {
        // What is wrong is told already.
        let _ = std::fs::remove_file(beside);
    }
    written
}

fn digest(head: &str, body: &str) -> String {
    blake3::hash(format!("{head}\n{body}").as_bytes()).to_hex().to_string()
}

/// How what a search said under `key` differs: of words K=V the first that does.
fn difference(key: &str, there: &str, here: &str) -> String {
    let words = |text| pairs(str::split_whitespace(text)).unwrap_or_default();
    let (were, are) = (words(there), words(here));
    let changed = are.iter().find_map(|(word, is)| {
        let was = were.get(word).filter(|was| *was != is)?;
        Some(format!("{key}: {word} was {was} and is {is}"))
    });
    changed.unwrap_or_else(|| format!("{key} was {there} and is {here}"))
}

/// What decides which executions there are, and which of them are run; the scenario first.
fn identity(search: &Search<'_>) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut identity = seed::heads(search.spec);
    identity.push(("strategy", search.strategy.word().into()));
    identity.push(("program", program()?));
    Ok(identity)
}

/// Tells builds apart.
fn program() -> Result<String, Failure> {
    let read = || std::fs::read(std::env::current_exe()?);
    let bytes = read()
        .map_err(|error| Failure::usage(format!("--resume: cannot read this program: {error}")))?;
    Ok(blake3::hash(&bytes).to_hex()[..16].into())
}
