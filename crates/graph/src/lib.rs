//! The block graph as an immutable value.
