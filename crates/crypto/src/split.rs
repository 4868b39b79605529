//! Anti-forensic information splitting: a key spread over so many stripes that losing any one of them loses the key.
//!
//! Source: LUKS 2.4.

use alloc::vec;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::hash::Hash;

/// Diffuses `data`, as the function H1 does: each piece of a digest's length becomes its digest, with its number.
fn diffuse(hash: Hash, data: &mut [u8]) {
    let len = hash.digest(&[]).len();
    for (number, piece) in (0_u32..).zip(data.chunks_mut(len)) {
        let digest = hash.digest(&[&number.to_be_bytes(), piece]);
        piece.copy_from_slice(&digest[..piece.len()]);
    }
}

fn xor(into: &mut [u8], other: &[u8]) {
    into.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
}

/// What the stripes before the last come to.
fn folded<'a>(hash: Hash, stripes: impl Iterator<Item = &'a [u8]>, len: usize) -> Secret {
    let mut folded = Zeroizing::new(vec![0; len]);
    for stripe in stripes {
        xor(&mut folded, stripe);
        diffuse(hash, &mut folded);
    }
    folded
}

type Secret = Zeroizing<Vec<u8>>;

/// `key` as `stripes` stripes of its length, all but the last of them drawn from `random`.
pub fn split(
    hash: Hash,
    key: &[u8],
    stripes: usize,
    random: &mut (dyn FnMut(&mut [u8]) + Send),
) -> Secret {
    let mut material = Zeroizing::new(vec![0; key.len() * stripes]);
    let (drawn, last) = material.split_at_mut(key.len() * (stripes - 1));
    random(drawn);
    last.copy_from_slice(&folded(hash, drawn.chunks(key.len()), key.len()));
    xor(last, key);
    material
}

/// The key that was split into stripes of `len` bytes.
pub fn merge(hash: Hash, material: &[u8], len: usize) -> Secret {
    let (drawn, last) = material.split_at(material.len() - len);
    let mut key = folded(hash, drawn.chunks(len), len);
    xor(&mut key, last);
    key
}
