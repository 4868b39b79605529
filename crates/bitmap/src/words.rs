//! Bit ranges over a row of 64-bit words: one level of the hierarchy, which knows nothing of the
//! others.
//!
//! Bit `i` of a row is bit `i % 64` of word `i / 64`. Ranges here are not empty and end inside the
//! row.

use alloc::vec::Vec;
use core::ops::Range;

/// Bits in a word, and so the fan-out of the hierarchy.
pub(crate) const WORD_BITS: u64 = u64::BITS as u64;

/// The word that bit `index` is in.
pub(crate) fn word_of(index: u64) -> usize {
    usize::try_from(index / WORD_BITS).expect("word-index-fits")
}

/// The bits of `index`'s word at and above `index`.
pub(crate) fn mask_from(index: u64) -> u64 {
    u64::MAX << (index % WORD_BITS)
}

/// The bits of `last`'s word at and below `last`.
fn mask_through(last: u64) -> u64 {
    u64::MAX >> (WORD_BITS - 1 - last % WORD_BITS)
}

/// A bit range as the words that it touches: all of the inner ones, a part of the two outer ones.
struct Span {
    first: usize,
    last: usize,
    first_mask: u64,
    last_mask: u64,
}

impl Span {
    fn of(range: &Range<u64>) -> Self {
        let last_bit = range.end - 1;
        Self {
            first: word_of(range.start),
            last: word_of(last_bit),
            first_mask: mask_from(range.start),
            last_mask: mask_through(last_bit),
        }
    }

    /// The bits of word `word` that are in the range.
    fn mask(&self, word: usize) -> u64 {
        let from = if word == self.first { self.first_mask } else { u64::MAX };
        let through = if word == self.last { self.last_mask } else { u64::MAX };
        from & through
    }

    /// The touched words, each with its bits that are in the range.
    fn parts<'a>(&self, words: &'a mut [u64]) -> impl Iterator<Item = (&'a mut u64, u64)> {
        let touched = words[self.first..=self.last].iter_mut();
        touched.zip(self.first..).map(|(word, index)| (word, self.mask(index)))
    }
}

/// What [`set`] did.
pub(crate) struct Set {
    /// Counts the bits that were clear.
    pub changed: u64,
    /// Whether a word was zero before; if none was, the level above is right already.
    pub woke_word: bool,
}

/// Sets every bit of `range`.
pub(crate) fn set(words: &mut [u64], range: &Range<u64>) -> Set {
    let span = Span::of(range);
    let mut done = Set { changed: 0, woke_word: false };
    for (word, mask) in span.parts(words) {
        done.changed += u64::from((mask & !*word).count_ones());
        done.woke_word |= *word == 0;
        *word |= mask;
    }
    done
}

/// What [`reset`] did.
pub(crate) struct Reset {
    /// Counts the bits that were set.
    pub changed: u64,
    /// Indices of words that are zero now: exactly the bits to clear in the level above. May be
    /// empty.
    pub zero_words: Range<u64>,
}

/// Clears every bit of `range`.
pub(crate) fn reset(words: &mut [u64], range: &Range<u64>) -> Reset {
    let span = Span::of(range);
    let mut changed = 0;
    for (word, mask) in span.parts(words) {
        changed += u64::from((mask & *word).count_ones());
        *word &= !mask;
    }
    // Only the two outer words can have kept a bit; if they are one and the same, the range turns
    // out empty.
    let start = span.first as u64 + u64::from(words[span.first] != 0);
    let end = span.last as u64 + u64::from(words[span.last] == 0);
    Reset { changed, zero_words: start..end }
}

/// Counts the set bits of `range`.
pub(crate) fn count(words: &[u64], range: &Range<u64>) -> u64 {
    let span = Span::of(range);
    let inside = |index: usize| words[index] & span.mask(index);
    (span.first..=span.last).map(|index| u64::from(inside(index).count_ones())).sum()
}

/// The first clear bit of `range`.
pub(crate) fn first_clear(words: &[u64], range: &Range<u64>) -> Option<u64> {
    let span = Span::of(range);
    (span.first..=span.last).find_map(|index| {
        let clear = !words[index] & span.mask(index);
        (clear != 0).then(|| bit_at(index, clear))
    })
}

/// The lowest bit of `bits`, which is not zero, as an index into the row; `bits` are of word
/// `word`.
pub(crate) fn bit_at(word: usize, bits: u64) -> u64 {
    word as u64 * WORD_BITS + u64::from(bits.trailing_zeros())
}

/// A word whose every bit becomes `1 << order` bits of a row.
pub(crate) struct Spread {
    order: u32,
    /// Bits that a word of the row is made of.
    taken: u32,
    /// By order: how many words are made of the same ones.
    again: u32,
    /// For how many bits together the table says what they become.
    group: u32,
    table: Vec<u64>,
}

impl Spread {
    pub fn new(order: u32) -> Self {
        let (taken, again) = (u64::BITS >> order.min(6), order.saturating_sub(6));
        let group = taken.min(8);
        let ones = if order < 6 { (1 << (1 << order)) - 1 } else { u64::MAX };
        let of_bit = |bits: u64, index: u32| (bits >> index & 1) * (ones << (index << order));
        let spread = |bits| (0..group).map(|index| of_bit(bits, index)).sum();
        Self { order, taken, again, group, table: (0..1 << group).map(spread).collect() }
    }

    /// How many words a word becomes.
    pub fn words(&self) -> usize {
        1 << self.order
    }

    /// How many bits so many become.
    pub fn bits(&self, count: u32) -> u64 {
        u64::from(count) << self.order
    }

    /// The word of that index that `bits` become.
    pub fn word(&self, bits: u64, index: usize) -> u64 {
        let first = (index >> self.again) as u32 * self.taken;
        if self.taken == self.group {
            return self.of_group(bits >> first);
        }
        (0..self.taken)
            .step_by(self.group as usize)
            .fold(0, |word, at| word | self.of_group(bits >> (first + at)) << (at << self.order))
    }

    fn of_group(&self, bits: u64) -> u64 {
        self.table[bits as usize & (self.table.len() - 1)]
    }
}
