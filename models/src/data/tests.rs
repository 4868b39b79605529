//! Tests.

use super::*;
use alloc::vec;

#[test]
fn filling_agrees_with_the_byte_at_each_position() {
    for tag in [0, 1, 7, 0xffff_ffff] {
        for (start, len) in [(0, 0), (0, 1), (3, 2), (3, 5), (3, 6), (0, 8), (5, 30), (4096, 64)] {
            let mut buffer = vec![0xaa; len as usize];
            fill_pattern(tag, ByteRange::new(start, len), &mut buffer);
            for (byte, at) in buffer.iter().zip(start..) {
                assert_eq!(*byte, pattern(tag, at), "tag {tag} at {at}");
                assert!(tag != 0 || *byte == 0);
            }
        }
    }
}

#[test]
fn a_word_names_its_writer() {
    for tag in [1, 2, 1000, 0xffff_ffff] {
        for position in [0, 8, 4096, (1 << 35) - 8] {
            assert_eq!(writer(word(tag, position).to_le_bytes()), (tag, position));
            assert_ne!(word(tag, position), 0);
        }
    }
    assert_eq!(writer([0; 8]), (0, 0));
}

#[test]
fn a_piece_is_a_cut_word_or_whole_words() {
    let cases = [((0, 5), 5), ((0, 8), 8), ((0, 23), 16), ((3, 2), 2), ((3, 9), 5), ((7, 1), 1)];
    for ((position, len), piece) in cases {
        assert_eq!(piece_len(position, len), piece, "{len} at {position}");
    }
}

#[test]
fn matching_stops_at_the_first_word_that_differs() {
    let mut buffer = vec![0; 32];
    fill_pattern(5, ByteRange::new(64, 32), &mut buffer);
    assert_eq!(matching_len(5, 64, &buffer), 32);
    assert_eq!(matching_len(6, 64, &buffer), 0);
    assert_eq!(matching_len(5, 72, &buffer), 0);
    buffer[17] ^= 1;
    assert_eq!(matching_len(5, 64, &buffer), 16);
    assert_eq!((matching_len(5, 66, &buffer[2..8]), matching_len(5, 81, &buffer[17..20])), (6, 0));
}
