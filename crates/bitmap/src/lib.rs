//! Bitmaps as plain values: [`HBitmap`] over item indices, [`DirtyBitmap`] over the bytes of a
//! disk.
//!
//! Everything is changed through `&mut self` and answers at once; [`SharedBitmap`] puts a dirty bitmap behind the
//! door. Not for: names, persistence, or the decision when a write is recorded.
//!
//! Invariants, told where they are held: `upper-level-mirrors-lower`, `count-agrees`,
//! `no-bit-past-end` ([`HBitmap`]); `granules-cover-disk` ([`DirtyBitmap`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cursor;
mod dirty;
mod error;
mod hbitmap;
mod shared;
mod words;

#[cfg(test)]
mod tests;

pub use cursor::{Cursor, Iter};
pub use dirty::DirtyBitmap;
pub use error::BitmapError;
pub use hbitmap::HBitmap;
pub use shared::SharedBitmap;
