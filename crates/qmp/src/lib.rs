//! One option parser, typed commands and events.
