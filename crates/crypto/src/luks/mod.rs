//! LUKS1: a header, eight slots of key material, and the payload behind them.
//!
//! The master key encrypts the payload. A slot holds it split into stripes and encrypted with a key that is derived
//! from a passphrase. A digest of the master key tells whether a passphrase was the right one.

mod amend;
mod create;
mod header;
mod slots;

pub use create::Created;
pub(crate) use create::uuid;
pub use header::{Header, Iterations};
pub use slots::SlotUpdate;

/// Slots of a header (LUKS 2.1, LUKS_NUMKEYS).
pub const SLOTS: usize = 8;

/// Stripes of a slot's key material (LUKS 2.1, LUKS_STRIPES).
pub(crate) const STRIPES: u32 = 4000;

/// Rounds that a header may ask for in one place: half a minute or so with a slow machine. What is written takes two
/// seconds, where it was written.
pub const MAX_ITERATIONS: u32 = 1 << 26;

/// Rounds that all that is tried of a header may take together: whoever made it is not to keep others waiting for
/// longer than a minute or so. Eight slots as they are made take less.
pub(crate) const MAX_TRIED: u64 = 1 << 27;

/// Bytes that a slot's key material may have: of the longest key.
pub const MAX_MATERIAL: u64 = 64 * STRIPES as u64;
