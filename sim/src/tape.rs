//! The tape as text, and the file that keeps a failure.
//!
//! A seed file is lines: a first line with the format's version, `key: value` heads, `tape:`, then one choice a line.
//! What follows `  ; ` on a line, and lines that begin with `#`, are for people. Code changes never invalidate a file
//! by themselves: a replay goes on until a choice does not fit.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

const FIRST_LINE: &str = "blockyard seed file 1";

/// A choice, and what it led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeLine {
    /// The event, as the world describes it.
    pub event: String,
    /// What the step said it did.
    pub notes: Vec<String>,
}

/// What shrinking found out about a step; one of its notes.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// Without this fault nothing breaks.
    Fault,
    /// Without this power loss nothing breaks.
    Crash,
    /// Unless the task before is preempted here nothing breaks.
    Preemption,
    /// If this step and that one, counted from zero, come the other way round nothing breaks.
    Race { other: usize },
}

const NECESSARY: &str = "necessary ";
const RACES: &str = "races with step ";

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault => write!(f, "{NECESSARY}fault"),
            Self::Crash => write!(f, "{NECESSARY}crash"),
            Self::Preemption => write!(f, "{NECESSARY}preemption"),
            Self::Race { other } => write!(f, "{RACES}{}", other + 1),
        }
    }
}

/// A replay that does not fit: which step, what the tape has there, and what was possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Counts from one.
    pub step: usize,
    /// The tape's line.
    pub expected: String,
    /// What could have come.
    pub possible: Vec<String>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, expected, possible } = self;
        write!(f, "step {step}: the tape says '{expected}'; possible were {}", possible.join(", "))
    }
}

/// A kept failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeedFile {
    /// What it was found with, in order; see [`SeedFile::head`].
    pub heads: Vec<(String, String)>,
    /// The choices.
    pub tape: Vec<TapeLine>,
}

/// Why a text is no seed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedFileError {
    /// Counts from one.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for SeedFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl core::error::Error for SeedFileError {}

impl SeedFile {
    /// The value of a head.
    ///
    /// # Errors
    /// If there is no such head.
    pub fn head(&self, key: &str) -> Result<&str, SeedFileError> {
        let found = self.heads.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| SeedFileError {
            line: 1,
            message: alloc::format!("there is no head '{key}:'"),
        })
    }

    /// Adds a head.
    pub fn push_head(&mut self, key: &str, value: impl fmt::Display) {
        self.heads.push((key.into(), value.to_string().replace('\n', " ")));
    }

    /// Reads a seed file.
    ///
    /// # Errors
    /// Names the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, SeedFileError> {
        let wrong = |line, message: &str| Err(SeedFileError { line, message: message.into() });
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        match lines.next() {
            Some((_, line)) if line.trim_end() == FIRST_LINE => {}
            _ => return wrong(1, "not a seed file: the first line is not 'blockyard seed file 1'"),
        }
        let mut file = Self::default();
        let mut in_tape = false;
        for (number, line) in lines {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if in_tape {
                file.tape.push(TapeLine::parse(line));
            } else if line.trim_end() == "tape:" {
                in_tape = true;
            } else if let Some((key, value)) = line.split_once(':') {
                if file.head(key.trim()).is_ok() {
                    return wrong(number, "this head is there twice");
                }
                file.heads.push((key.trim().into(), value.trim().into()));
            } else {
                return wrong(number, "neither 'key: value' nor 'tape:'");
            }
        }
        if in_tape { Ok(file) } else { wrong(text.lines().count(), "there is no 'tape:'") }
    }
}

impl TapeLine {
    /// Those of its notes that say what the failure needs: this fault or preemption, or the order of this step and
    /// another. Only shrinking knows.
    pub fn marks(&self) -> impl Iterator<Item = &String> {
        let is_mark = |note: &&String| note.starts_with(NECESSARY) || note.starts_with(RACES);
        self.notes.iter().filter(is_mark)
    }

    fn parse(line: &str) -> Self {
        let (event, notes) = line.split_once("  ; ").unwrap_or((line, ""));
        let notes = notes.split("; ").filter(|note| !note.is_empty()).map(String::from).collect();
        Self { event: event.trim_end().into(), notes }
    }
}

impl fmt::Display for TapeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.notes.is_empty() {
            return f.write_str(&self.event);
        }
        write!(f, "{:<44}  ; {}", self.event, self.notes.join("; "))
    }
}

impl fmt::Display for SeedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        self.heads.iter().try_for_each(|(key, value)| writeln!(f, "{key}: {value}"))?;
        writeln!(f, "tape:")?;
        self.tape.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
