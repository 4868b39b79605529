//! What a command says, as text or as one JSON object.

use std::io::Write;

use serde_json::{Map, Value};

use crate::failure::Failure;

/// The process's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Nothing broken.
    Clean = 0,
    /// A property was violated.
    Violated = 1,
    /// Usage or bad input.
    BadInput = 2,
    /// Exhaustion was asked for, and the budget ran out first.
    Budget = 3,
    /// Interrupted.
    Interrupted = 130,
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
            eprintln!("blockyard: {failure}");
        }
        Status::BadInput as u8
    }
}

/// Writes to standard output; if nobody takes it, there is nothing left to do.
fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        eprintln!("blockyard: standard output: {error}");
        std::process::exit(Status::BadInput as i32);
    }
}
