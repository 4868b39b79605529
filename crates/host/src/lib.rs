//! The real machine: executor, clock, files.
