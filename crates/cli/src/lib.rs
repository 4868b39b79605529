//! The blockyard command.
