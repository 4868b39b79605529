//! What a command says, as text or as one JSON object.

use std::io::{ErrorKind, Write};

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::progress::Interrupt;

/// The process's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nothing broken.
    Clean,
    /// A property was violated.
    Violated,
    /// Usage or bad input.
    BadInput,
    /// Exhaustion was asked for, and the budget ran out first.
    Budget,
    /// Interrupted.
    Interrupted,
}

impl Status {
    /// As the process returns it.
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Violated => 1,
            Self::BadInput => 2,
            Self::Budget => 3,
            Self::Interrupted => Interrupt::status(),
        }
    }
}

/// Where a command's result goes.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// For people.
    pub fn text() -> Self {
        Self { json: false }
    }

    /// For programs.
    pub fn json() -> Self {
        Self { json: true }
    }

    /// The command's result, in the form asked for.
    pub fn print(&self, text: impl FnOnce() -> String, json: impl FnOnce() -> Map<String, Value>) {
        if self.json {
            write_out(&format!("{}\n", Value::Object(json())));
        } else {
            self.print_part(text);
        }
    }

    /// A part of the result, for people who wait for the rest.
    pub fn print_part(&self, text: impl FnOnce() -> String) {
        if !self.json {
            write_out(&text());
        }
    }

    /// Says why the command could not be done.
    pub fn fail(&self, failure: &Failure) -> u8 {
        if self.json {
            let message = Value::String(failure.to_string());
            let error = Value::Object(Map::from_iter([("error".into(), message)]));
            write_out(&format!("{error}\n"));
        } else {
            complain(failure);
        }
        Status::BadInput.code()
    }
}

/// Writes to standard output. A reader that has gone has had enough; that it cannot be written is told.
fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&Failure::usage(format!("standard output: {error}")));
            std::process::exit(Status::BadInput.code().into());
        }
        _ => {}
    }
}

fn complain(failure: &Failure) {
    // Nobody is left to tell if even this cannot be written.
    let _ = writeln!(std::io::stderr(), "blockyard: {failure}");
}
