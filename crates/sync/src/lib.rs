//! The only door to shared mutable state and to waiting.
