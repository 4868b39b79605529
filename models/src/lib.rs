//! Executable specifications.
