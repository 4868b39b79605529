//! LUKS1: a header, eight slots of key material, and the payload behind them.
//!
//! The master key encrypts the payload. A slot holds it split into stripes and encrypted with a key that is derived
//! from a passphrase. A digest of the master key tells whether a passphrase was the right one.

mod create;
mod header;
mod slots;

pub use create::Created;
pub use header::{Header, Iterations};
pub use slots::{MasterKey, SlotUpdate};

/// Slots of a header (LUKS 2.1, LUKS_NUMKEYS).
pub const SLOTS: usize = 8;

/// Stripes of a slot's key material (LUKS 2.1, LUKS_STRIPES).
const STRIPES: u32 = 4000;

/// Rounds that a header may ask for in one place: half a minute or so with a slow machine. What is written takes two
/// seconds, where it was written.
pub const MAX_ITERATIONS: u32 = 1 << 26;

/// Bytes that a slot's key material may have: of the longest key.
pub const MAX_MATERIAL: u64 = 64 * STRIPES as u64;
