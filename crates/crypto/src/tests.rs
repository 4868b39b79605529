//! Tests of the crate, and the numbers that they share.

mod headers;
mod hostile;
mod luks2;
mod pieces;
mod sectors;

/// Fills bytes with numbers that look random, the same every time.
fn numbers(seed: u64) -> impl FnMut(&mut [u8]) + Send {
    let mut state = seed;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            *byte = (state >> 56) as u8;
        }
    }
}
