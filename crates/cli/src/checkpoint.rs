//! Checkpoint files: a search put down, with everything that tells whose it is.
//!
//! A file is two lines of JSON: a head for people and for comparing, and what is left to do. It belongs to the very
//! program that wrote it, since one that behaves otherwise would leave out what it has to explore. It is replaced as a
//! whole, so that whenever the process is killed one of the two is there.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blockyard_sim::{Checkpoint, Summary};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::explore::Search;
use crate::failure::Failure;
use crate::seed;

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
    /// What must be equal in a search that goes on from the file.
    identity: Map<String, Value>,
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
    /// If it holds something else; it is left as it is.
    pub fn open(path: &'a Path, search: &Search<'_>) -> Result<(Self, Option<Left>), Failure> {
        let (began, identity) = (Instant::now(), identity(search)?);
        let next = began + PAUSE;
        let mut keeper = Self { path, identity, seconds_before: 0.0, began, next, failure: None };
        let left = match std::fs::read_to_string(path) {
            Ok(text) => Some(keeper.read(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::file(path, error)),
        };
        Ok((keeper, left))
    }

    /// Checks whose a file is, and reads what it holds.
    fn read(&mut self, text: &str) -> Result<Left, Failure> {
        let wrong = |what: String| Failure::file(self.path, what);
        let (head, body) = text.split_once('\n').unwrap_or((text, ""));
        let head: Map<String, Value> = serde_json::from_str(head).unwrap_or_default();
        match head.get("blockyard-checkpoint").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(wrong(format!("a checkpoint of version {other}; {VERSION} is needed")));
            }
            None => return Err(wrong("not a checkpoint".into())),
        }
        for (key, here) in &self.identity {
            let there = head.get(key).unwrap_or(&Value::Null);
            if there != here {
                let said = format!("kept from another search: {key} was {there} and is {here} now");
                return Err(wrong(said));
            }
        }
        if head.get("digest") != Some(&json!(digest(body))) {
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
    pub fn write(&self, left: &Left) -> Result<(), Failure> {
        let body = serde_json::to_string(left).map_err(|error| Failure::file(self.path, error))?;
        let mut head = self.identity.clone();
        head.insert("blockyard-checkpoint".into(), json!(VERSION));
        head.insert("executions".into(), json!(left.summary.executions));
        head.insert("seconds".into(), json!(self.seconds()));
        head.insert("digest".into(), json!(digest(&body)));
        let text = format!("{}\n{body}\n", Value::Object(head));
        replace(self.path, &text).map_err(|error| Failure::file(self.path, error))
    }
}

/// Writes beside the file, and renames.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    let written = write();
    if written.is_err() {
        // What is wrong is told already.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn digest(body: &str) -> String {
    blake3::hash(body.trim_end().as_bytes()).to_hex().to_string()
}

/// What decides which executions there are, and which of them are run.
fn identity(search: &Search<'_>) -> Result<Map<String, Value>, Failure> {
    let heads = seed::heads(search.spec).into_iter().map(|(key, value)| (key.into(), json!(value)));
    let mut identity: Map<String, Value> = heads.collect();
    identity.insert("strategy".into(), json!(search.strategy.word()));
    identity.insert("program".into(), json!(program()?));
    Ok(identity)
}

/// Tells builds apart.
fn program() -> Result<String, Failure> {
    let read = || std::fs::read(std::env::current_exe()?);
    let bytes = read()
        .map_err(|error| Failure::usage(format!("--resume: cannot read this program: {error}")))?;
    Ok(blake3::hash(&bytes).to_hex()[..16].into())
}
