//! One of those that a scenario is played on in turns.

use std::collections::BTreeMap;
use std::fmt;

use blockyard_qmp::{Dict, Value};

use crate::request::Asked;

/// Something that an actor does, for any block layer to do it.
#[derive(Clone, Debug)]
pub enum Deed<'a> {
    /// A command, with arguments as the scenario has them.
    Execute {
        /// Its name.
        command: &'a str,
        /// Strings stand for numbers, truth values and sizes too.
        arguments: &'a Dict,
    },
    /// A guest device on a node.
    Attach {
        /// The device.
        id: &'a str,
        /// The node.
        node: &'a str,
        /// It follows the node's length.
        resizes: bool,
        /// Its guest meets every error.
        reports: bool,
    },
    /// A guest's request.
    Request {
        /// The device.
        device: &'a str,
        /// What it asks.
        asked: Asked,
        /// What it writes.
        data: Vec<u8>,
    },
    /// A guest's flush.
    Flush {
        /// The device.
        device: &'a str,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It is done; what a command returned.
    Done(Value),
    /// The data of a guest's read.
    Data(Vec<u8>),
    /// A command was refused.
    Refused {
        /// QMP's class of the error.
        class: String,
        /// For people.
        desc: String,
    },
    /// A guest's request failed.
    Failed(String),
}

impl Reply {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Data(_))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(_) => f.write_str("done"),
            Self::Data(data) => write!(f, "{} bytes", data.len()),
            Self::Refused { class, desc } => write!(f, "refused: {class}: {desc}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Why nobody can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Somebody wants it to end.
    Interrupted,
    /// A side does not work: which, and why.
    Failed(&'static str, String),
}

/// An event's name and data.
pub type Told = (String, Dict);

/// A block layer that does what it is told, one thing after another.
pub trait Side {
    /// How differences call it.
    fn name(&self) -> &'static str;

    /// Why it cannot do this at all, as far as that is known beforehand.
    fn refuses(&self, deed: &Deed<'_>) -> Option<String>;

    /// Does it, and waits until it is done.
    ///
    /// # Errors
    /// It does not answer.
    fn play(&mut self, deed: &Deed<'_>) -> Result<Reply, Broken>;

    /// The events since somebody asked last.
    fn events(&mut self) -> Vec<Told>;

    /// Lets a moment pass.
    ///
    /// # Errors
    /// The user has seen enough.
    fn pause(&mut self) -> Result<(), Broken>;

    /// The devices, each with the node that it leads to, and how long it is for its guest.
    ///
    /// # Errors
    /// It does not answer.
    fn devices(&mut self) -> Result<BTreeMap<String, (String, u64)>, Broken>;

    /// Closes the images. Nothing is asked of it any more.
    ///
    /// # Errors
    /// They cannot be closed.
    fn close(&mut self) -> Result<(), Broken>;
}
