//! Guest data that tells who wrote it and where: each write has a *tag* of its own, and the bytes of a tag are a pure
//! function of tag and position.
//!
//! Invariants: `tags-differ-in-every-word`: the aligned 8-byte words of two tags at one position differ; and
//! `word-names-its-writer`: a word can be turned back into tag and position. Tag 0 is zeroes. Tags are below 2^32;
//! positions repeat every 32 GiB. A part of a word tells tags apart only most of the time.

use blockyard_units::ByteRange;

/// Bytes in a word, the unit that names its writer.
pub const WORD: u64 = 8;
/// Odd, so that multiplying by it can be undone.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const UNMIX: u64 = 0xf1de_83e1_9937_733d;

/// The little-endian word of `tag` that holds byte `position`.
fn word(tag: u64, position: u64) -> u64 {
    let place = if tag == 0 { 0 } else { (position / WORD) & 0xffff_ffff };
    let mixed = (tag << 32 | place).wrapping_mul(MIX);
    mixed ^ (mixed >> 32)
}

/// Tag and position whose word this would be, if it is anybody's: `(0, 0)` for zeroes.
pub fn writer(word: [u8; 8]) -> (u64, u64) {
    let mixed = u64::from_le_bytes(word);
    let plain = (mixed ^ (mixed >> 32)).wrapping_mul(UNMIX);
    (plain >> 32, (plain & 0xffff_ffff) * WORD)
}

/// The byte of `tag` at absolute `position` in bytes.
pub fn pattern(tag: u64, position: u64) -> u8 {
    word(tag, position).to_le_bytes()[(position % WORD) as usize]
}

/// Writes the data of `tag` for `range` into `buffer`.
///
/// # Panics
/// If the buffer's length is not the range's.
pub fn fill_pattern(tag: u64, range: ByteRange, buffer: &mut [u8]) {
    assert_eq!(buffer.len(), range.len().as_usize(), "buffer-fits-range");
    let (mut position, mut rest) = (range.start(), buffer);
    while !rest.is_empty() {
        let piece;
        (piece, rest) = rest.split_at_mut(piece_len(position, rest.len()));
        if piece.len() < WORD as usize {
            for (byte, at) in piece.iter_mut().zip(position..) {
                *byte = pattern(tag, at);
            }
        } else {
            let (words, _) = piece.as_chunks_mut();
            for (index, bytes) in words.iter_mut().enumerate() {
                *bytes = word(tag, position + index as u64 * WORD).to_le_bytes();
            }
        }
        position += piece.len() as u64;
    }
}

/// How many bytes of `len` at `position` are one piece: the part of a word that is cut, or a run of whole words.
pub(crate) fn piece_len(position: u64, len: usize) -> usize {
    let to_boundary = (position.wrapping_neg() % WORD) as usize;
    match (to_boundary, len) {
        (0, ..8) => len,
        (0, _) => len & !7,
        _ => to_boundary.min(len),
    }
}

/// How many leading bytes of one piece at `position` are those of `tag`; a word counts whole or not at all, cut or not.
pub(crate) fn matching_len(tag: u64, position: u64, piece: &[u8]) -> usize {
    let (words, cut) = piece.as_chunks();
    if words.is_empty() {
        let same = cut.iter().zip(position..).all(|(byte, at)| *byte == pattern(tag, at));
        return if same { piece.len() } else { 0 };
    }
    let expected = |index: usize| word(tag, position + index as u64 * WORD).to_le_bytes();
    8 * words.iter().enumerate().take_while(|(index, found)| **found == expected(*index)).count()
}

#[cfg(test)]
mod tests;
