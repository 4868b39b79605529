//! The states of a job and the verbs it takes, as one table.
//!
//! Source: QEMU's documentation of job states (JobStatus) and job commands.

use alloc::string::String;
use core::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// The state of a job.
    Status {
        /// Not there yet.
        Undefined = "undefined",
        /// Made, not started.
        Created = "created",
        /// At work.
        Running = "running",
        /// At rest, from running.
        Paused = "paused",
        /// In sync, and following.
        Ready = "ready",
        /// At rest, from ready.
        Standby = "standby",
        /// Done with its work; waits for the rest of its transaction.
        Waiting = "waiting",
        /// Waits for finalize; keeps tracking.
        Pending = "pending",
        /// Failed or cancelled, and being undone.
        Aborting = "aborting",
        /// Over; its result can be asked for.
        Concluded = "concluded",
        /// Gone.
        Null = "null",
    }
}

words! {
    /// What can be asked of a job.
    Verb {
        /// Stop.
        Cancel = "cancel",
        /// Rest.
        Pause = "pause",
        /// Go on.
        Resume = "resume",
        /// Work at another rate.
        SetSpeed = "set-speed",
        /// Finish, when in sync.
        Complete = "complete",
        /// Change the graph now.
        Finalize = "finalize",
        /// Forget a concluded job.
        Dismiss = "dismiss",
        /// Change an option.
        Change = "change",
    }
}

impl Status {
    /// The states that may follow.
    pub fn successors(self) -> &'static [Status] {
        use Status::*;
        match self {
            Undefined => &[Created],
            Created => &[Running, Aborting, Null],
            Running => &[Paused, Ready, Waiting, Aborting],
            Paused => &[Running],
            Ready => &[Standby, Waiting, Aborting],
            Standby => &[Ready],
            Waiting => &[Pending, Aborting],
            Pending => &[Aborting, Concluded],
            Aborting => &[Concluded],
            Concluded => &[Null],
            Null => &[],
        }
    }

    /// In sync, at work or at rest.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Standby)
    }

    /// The verbs it takes.
    pub fn verbs(self) -> &'static [Verb] {
        use Status::*;
        use Verb::*;
        match self {
            Undefined | Null => &[],
            Created => &[Cancel, Pause, Resume, SetSpeed],
            Running | Paused => &[Cancel, Pause, Resume, SetSpeed, Change],
            Ready | Standby => &[Cancel, Pause, Resume, SetSpeed, Complete, Change],
            Waiting => &[Cancel],
            Pending => &[Cancel, Finalize],
            Aborting => &[Cancel],
            Concluded => &[Dismiss],
        }
    }
}

/// The table, to look at.
pub fn picture() -> String {
    let mut picture = String::new();
    for status in Status::ALL {
        let words = |words: alloc::vec::Vec<&str>| {
            if words.is_empty() { String::from("-") } else { words.join(" ") }
        };
        let successors = words(status.successors().iter().map(|next| next.word()).collect());
        let verbs = words(status.verbs().iter().map(|verb| verb.word()).collect());
        picture += &alloc::format!("{status:<10} -> {successors:<32} | {verbs}\n");
    }
    picture
}
