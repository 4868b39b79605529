//! A bitmap that finds its next set bit without reading the empty parts.
//!
//! Level 0 has one bit an item, 64 to a word. Each further level has one bit for every word of the
//! level below, up to a level of at most one word.
//!
//! Invariants:
//! - `upper-level-mirrors-lower`: a bit of an upper level is set exactly if its word below is not 0.
//! - `count-agrees`: the stored count is the number of set bits in level 0.
//! - `no-bit-past-end`: no bit at or past the length is set, on any level.
//!
//! To read or change an item that does not exist is a bug of the caller and panics; searching and
//! counting past the end is legal and finds nothing there.
//!
//! Not for: sharing, granularity (items are items), serialisation.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::cursor::{Cursor, Iter};
use crate::words::{self, WORD_BITS};

/// Level 0 words up to which every mutator of a debug build ends with a full check. Beyond, the
/// check would turn each single-bit change into a walk over megabytes; there `check_invariants` is
/// for the caller to call.
const SELF_CHECKED_WORDS: usize = 64;

/// A hierarchical bitmap over item indices `0..len`.
///
/// Takes about `len / 8` bytes of memory, allocated at once.
#[derive(PartialEq, Eq)]
pub struct HBitmap {
    /// Level 0 first; `level-0-exists` always. Each has a bit for every word of the one before, and
    /// only the last has fewer than two words.
    levels: Vec<Vec<u64>>,
    len: u64,
    count: u64,
}

impl Clone for HBitmap {
    /// Of an empty one nothing is copied: memory that is zero already is not touched.
    fn clone(&self) -> Self {
        let levels = match self.is_empty() {
            true => self.levels.iter().map(|level| alloc::vec![0; level.len()]).collect(),
            false => self.levels.clone(),
        };
        Self { levels, ..*self }
    }
}

impl HBitmap {
    /// A bitmap of `len` clear items; 0 is legal.
    ///
    /// # Panics
    /// If the machine cannot address that many bits.
    pub fn new(len: u64) -> Self {
        let mut bitmap = Self { levels: Vec::from([Vec::new()]), len: 0, count: 0 };
        bitmap.resize(len);
        bitmap
    }

    /// A bitmap of `len` items, 64 to a word, the first one lowest. Words that are missing are clear, and what there is
    /// past the last item is left out.
    ///
    /// # Panics
    /// If the machine cannot address that many bits.
    pub fn from_words(len: u64, mut words: Vec<u64>) -> Self {
        let mut bitmap = Self::new(len);
        words.resize(bitmap.levels[0].len(), 0);
        if let (Some(last), 1..) = (words.last_mut(), len % WORD_BITS) {
            *last &= (1 << (len % WORD_BITS)) - 1;
        }
        bitmap.count = words.iter().map(|word| u64::from(word.count_ones())).sum();
        bitmap.levels[0] = words;
        bitmap.mirror_from(1);
        bitmap.self_check();
        bitmap
    }

    /// Makes the levels from this one on what the levels below them say.
    fn mirror_from(&mut self, height: usize) {
        for upper in height..self.levels.len() {
            let (below, level) = self.levels.split_at_mut(upper);
            for (bits, words) in level[0].iter_mut().zip(below[upper - 1].chunks(64)) {
                let bit = |(index, word): (usize, &u64)| u64::from(*word != 0) << index;
                *bits = words.iter().enumerate().map(bit).sum();
            }
        }
    }

    /// Number of items.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Number of set items; takes constant time.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether no item is set, whatever the length.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether item `index` is set.
    ///
    /// # Panics
    /// `item-within-bitmap`: if there is no such item.
    pub fn get(&self, index: u64) -> bool {
        assert!(index < self.len, "item-within-bitmap: {index} of {}", self.len);
        self.levels[0][words::word_of(index)] >> (index % WORD_BITS) & 1 == 1
    }

    /// Sets every item of `range`; returns how many were clear.
    ///
    /// # Panics
    /// `item-within-bitmap`: if the range is not empty and ends past the last item.
    pub fn set_range(&mut self, range: Range<u64>) -> u64 {
        if !self.admits(&range) {
            return 0;
        }
        let (items, uppers) = self.levels.split_first_mut().expect("level-0-exists");
        let words::Set { changed, mut woke_word } = words::set(items, &range);
        let mut bits = range;
        for level in uppers {
            if !woke_word {
                break;
            }
            bits = bits.start / WORD_BITS..(bits.end - 1) / WORD_BITS + 1;
            woke_word = words::set(level, &bits).woke_word;
        }
        self.count += changed;
        self.self_check();
        changed
    }

    /// Clears every item of `range`; returns how many were set.
    ///
    /// # Panics
    /// `item-within-bitmap`: if the range is not empty and ends past the last item.
    pub fn reset_range(&mut self, range: Range<u64>) -> u64 {
        if !self.admits(&range) {
            return 0;
        }
        let (items, uppers) = self.levels.split_first_mut().expect("level-0-exists");
        let words::Reset { changed, mut zero_words } = words::reset(items, &range);
        for level in uppers {
            if zero_words.is_empty() {
                break;
            }
            zero_words = words::reset(level, &zero_words).zero_words;
        }
        self.count -= changed;
        self.self_check();
        changed
    }

    /// Sets every item.
    pub fn set_all(&mut self) {
        self.set_range(0..self.len);
    }

    /// Clears every item.
    pub fn clear(&mut self) {
        self.reset_range(0..self.len);
    }

    /// The first set item at or after `from`. Empty words are skipped through the upper levels.
    pub fn next_set(&self, from: u64) -> Option<u64> {
        // Climb until a word has a set bit at or after the position, then go down along lowest
        // bits.
        let mut position = from;
        for (height, level) in self.levels.iter().enumerate() {
            let word = usize::try_from(position / WORD_BITS).ok()?;
            let bits = level.get(word)? & words::mask_from(position);
            if bits != 0 {
                return Some(self.descend(height, words::bit_at(word, bits)));
            }
            position = position / WORD_BITS + 1;
        }
        None
    }

    /// The first clear item at or after `from`. Reads every word between.
    pub fn next_clear(&self, from: u64) -> Option<u64> {
        self.next_clear_within(from..self.len)
    }

    /// The first run of set items inside `range`, at most `max_len` items of it. A run that begins
    /// before the range is found from the range's start on. Nothing if `max_len` is 0.
    pub fn next_set_area(&self, range: Range<u64>, max_len: u64) -> Option<Range<u64>> {
        let end = range.end.min(self.len);
        let start = self.next_set(range.start).filter(|&start| start < end && max_len > 0)?;
        let limit = end.min(start.saturating_add(max_len));
        Some(start..self.next_clear_within(start..limit).unwrap_or(limit))
    }

    /// Number of set items inside `range`; items past the end count as clear.
    pub fn count_range(&self, range: Range<u64>) -> u64 {
        let range = range.start..range.end.min(self.len);
        if range.is_empty() { 0 } else { words::count(&self.levels[0], &range) }
    }

    /// The set items in ascending order. For a walk during which the bitmap changes, see
    /// [`Cursor`].
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self, Cursor::default())
    }

    /// Makes the bitmap `len` items long. Items below both lengths stay as they are, dropped ones
    /// leave the count, new ones are clear.
    ///
    /// # Panics
    /// If the machine cannot address that many bits.
    pub fn resize(&mut self, len: u64) {
        if len < self.len {
            self.reset_range(len..self.len);
        }
        self.len = len;
        let mut bits = len;
        let mut height = 0;
        loop {
            let words = usize::try_from(bits.div_ceil(WORD_BITS)).expect("bitmap-fits-memory");
            if height == self.levels.len() {
                // The level below was the top until now, so at most its first word can have a set
                // bit.
                let first = self.levels[height - 1].first().is_some_and(|&word| word != 0);
                self.levels.push(Vec::from([u64::from(first)]));
            }
            self.levels[height].resize(words, 0);
            height += 1;
            if words <= 1 {
                break;
            }
            bits = words as u64;
        }
        self.levels.truncate(height);
        self.self_check();
    }

    /// Sets every item that is set in `other`; returns how many were clear.
    ///
    /// # Panics
    /// `lengths-agree`: if the two differ in length.
    pub fn union_with(&mut self, other: &Self) -> u64 {
        let news = |(word, source): (&u64, &u64)| u64::from((source & !word).count_ones());
        let changed = self.levels[0].iter().zip(&other.levels[0]).map(news).sum();
        self.union_uncounted(other);
        self.count += changed;
        self.self_check();
        changed
    }

    /// Sets for each item that is set in `other` the `1 << order` items that it stands for, as far as they exist;
    /// returns how many were clear. What is clear in `other` is skipped.
    ///
    /// # Panics
    /// `lengths-agree`: if `other` does not have just the items that these need.
    pub fn union_spread(&mut self, other: &Self, order: u32) -> u64 {
        assert_eq!(other.len, self.len.div_ceil(1 << order), "lengths-agree");
        let spread = words::Spread::new(order);
        let (mut changed, mut from) = (0, 0);
        while let Some(item) = other.next_set(from) {
            let word = words::word_of(item);
            changed += self.add_spread(word << order, &spread, other.levels[0][word]);
            from = (word as u64 + 1) * WORD_BITS;
        }
        if let (Some(last), 1..) = (self.levels[0].last_mut(), self.len % WORD_BITS) {
            let past_end = *last & words::mask_from(self.len);
            *last &= !past_end;
            changed -= u64::from(past_end.count_ones());
        }
        self.mirror_from(2);
        self.count += changed;
        self.self_check();
        changed
    }

    /// Adds what `bits` become to the words from `start` on, and to the level above them; returns how many were clear.
    fn add_spread(&mut self, start: usize, spread: &words::Spread, bits: u64) -> u64 {
        let (items, uppers) = self.levels.split_first_mut().expect("level-0-exists");
        let end = items.len().min(start + spread.words());
        let news = &mut items[start..end];
        // Then they need not be counted one by one.
        let fresh = news.len() == spread.words() && news.iter().all(|word| *word == 0);
        let mut changed = 0;
        for (chunk, words) in news.chunks_mut(64).enumerate() {
            let mut some = 0;
            for (index, word) in words.iter_mut().enumerate() {
                let added = spread.word(bits, chunk * 64 + index);
                if fresh {
                    *word = added;
                } else {
                    changed += u64::from((added & !*word).count_ones());
                    *word |= added;
                }
                some |= u64::from(*word != 0) << index;
            }
            // These are of one word there: fewer begin at a multiple of how many they are.
            if let Some(upper) = uppers.first_mut() {
                let at = start + chunk * 64;
                upper[at / 64] |= some << (at % 64);
            }
        }
        if fresh { spread.bits(bits.count_ones()) } else { changed }
    }

    /// The same, with the count left as it was: for a mutant.
    pub(crate) fn union_uncounted(&mut self, other: &Self) {
        assert_eq!(self.len, other.len, "lengths-agree");
        for (level, source) in self.levels.iter_mut().zip(&other.levels) {
            for (word, source) in level.iter_mut().zip(source) {
                *word |= source;
            }
        }
    }

    /// The items, 64 to a word, the first one lowest.
    pub fn words(&self) -> &[u64] {
        &self.levels[0]
    }

    /// Recomputes upper levels and count from level 0.
    ///
    /// # Panics
    /// If they are not as stored; the message names the invariant.
    pub fn check_invariants(&self) {
        let mut bits = self.len;
        for (height, level) in self.levels.iter().enumerate() {
            let words = bits.div_ceil(WORD_BITS);
            assert_eq!(level.len() as u64, words, "no-bit-past-end: words of level {height}");
            if let Some(last) = level.last().filter(|_| !bits.is_multiple_of(WORD_BITS)) {
                assert_eq!(last & words::mask_from(bits), 0, "no-bit-past-end: level {height}");
            }
            bits = words;
        }
        assert!(bits <= 1, "upper-level-mirrors-lower: the top has {bits} words");
        for (height, pair) in self.levels.windows(2).enumerate() {
            for (word, below) in pair[0].iter().enumerate() {
                let bit = pair[1][word / 64] >> (word % 64) & 1;
                let upper = height + 1;
                assert_eq!(
                    bit == 1,
                    *below != 0,
                    "upper-level-mirrors-lower: bit {word} of level {upper}"
                );
            }
        }
        assert_eq!(self.count, count_ones(&self.levels[0]), "count-agrees");
    }

    /// Whether there is anything to change in `range`.
    fn admits(&self, range: &Range<u64>) -> bool {
        let any = !range.is_empty();
        assert!(!any || range.end <= self.len, "item-within-bitmap: {range:?} of {}", self.len);
        any
    }

    /// The first set item below set bit `index` of level `height`.
    fn descend(&self, height: usize, index: u64) -> u64 {
        self.levels[..height].iter().rev().fold(index, |word, level| {
            let word = usize::try_from(word).expect("word-index-fits");
            assert_ne!(level[word], 0, "upper-level-mirrors-lower: word {word}");
            words::bit_at(word, level[word])
        })
    }

    /// The first clear item of `range`, which ends at the latest at the length.
    fn next_clear_within(&self, range: Range<u64>) -> Option<u64> {
        if range.is_empty() { None } else { words::first_clear(&self.levels[0], &range) }
    }

    /// The runs of set items in ascending order; neighbouring runs have a clear item between them.
    pub(crate) fn areas(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let area = self.next_set_area(from..self.len, u64::MAX)?;
            from = area.end;
            Some(area)
        })
    }

    fn self_check(&self) {
        if cfg!(debug_assertions) && self.levels[0].len() <= SELF_CHECKED_WORDS {
            self.check_invariants();
        }
    }

    /// For tests that plant a bug: word `word` of level `height`, to be spoilt.
    #[cfg(test)]
    pub(crate) fn word_mut(&mut self, height: usize, word: usize) -> &mut u64 {
        &mut self.levels[height][word]
    }
}

impl fmt::Debug for HBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HBitmap {} of {} ", self.count, self.len)?;
        f.debug_list().entries(self.areas()).finish()
    }
}

fn count_ones(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}
