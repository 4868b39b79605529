//! Where two children differ.

use super::first_difference;

#[test]
fn the_first_byte_that_differs_is_found() {
    let cases: [(&[u8], &[u8], Option<usize>); 5] = [
        (&[], &[], None),
        (&[1, 2], &[1, 2], None),
        (&[1, 2, 3], &[1, 0, 0], Some(1)),
        (&[1, 2], &[1], Some(1)),
        (&[0], &[1], Some(0)),
    ];
    for (raw, test, expected) in cases {
        assert_eq!(first_difference(raw, test), expected);
    }
}
