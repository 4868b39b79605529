//! Tests: by hand, and against a search that tries every order.

use super::*;
use crate::data::fill_pattern;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

mod brute_force;
mod copies;

const BLOCK: u64 = 4096;

fn data(tag: u64, range: ByteRange) -> Vec<u8> {
    let mut data = vec![0; range.len().as_usize()];
    fill_pattern(tag, range, &mut data);
    data
}

fn block(index: u64) -> ByteRange {
    ByteRange::new(index * BLOCK, BLOCK)
}

/// Plays `script` on blocks: `w1@0` invokes a write with operation number and tag 1 of block 0 (`0-2`: blocks 0 and
/// 1), likewise `r` read, `z` write zeroes, `d` discard, `c1@2<0` a copy from block 0, `q` a status; `ok1`, `fail1`
/// respond; `r3=1,2` responds to read 3 with a tag a block, `1<0` with what was block 0's; `q3=0` to a status with a
/// block of zeroes, `q3=1` with one of data; `hand9@0` sets contents.
fn play(script: &str) -> Result<(), Violation> {
    let mut model = GuestRegister::new("disk0");
    let mut reads = BTreeMap::new();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    for word in script.split_whitespace() {
        if let Some((read, tags)) = word.split_once('=') {
            let op = number(&read[1..]);
            let first: u64 = reads[&op];
            if read.starts_with('q') {
                let zeroes = tags == "0";
                model.respond_status(op, block(first).len(), zeroes)?;
                continue;
            }
            let tags = tags.split(',').zip(first..);
            let tags = tags.map(|(tag, at)| match tag.split_once('<') {
                Some((tag, from)) => (number(tag), number(from)),
                None => (number(tag), at),
            });
            let found: Vec<u8> = tags.flat_map(|(tag, at)| data(tag, block(at))).collect();
            model.respond_read(op, &found)?;
        } else if let Some((op, at)) = word.split_once('@') {
            let (at, source) = at.split_once('<').unwrap_or((at, "0"));
            let (from, to) = at.split_once('-').unwrap_or((at, ""));
            let from = number(from);
            let to = if to.is_empty() { from + 1 } else { number(to) };
            let range = ByteRange::between(from * BLOCK, to * BLOCK);
            let digits = op.find(|c: char| c.is_ascii_digit()).expect("an operation number");
            let (kind, op) = (&op[..digits], number(&op[digits..]));
            match kind {
                "w" => model.invoke_write(op, range, op),
                "z" => model.invoke_write_zeroes(op, range),
                "d" => model.invoke_discard(op, range),
                "c" => model.invoke_copy(op, number(source) * BLOCK, range),
                "hand" => model.replace_contents(range, op),
                _ => {
                    model.invoke_read(op, range);
                    reads.insert(op, from);
                }
            }
        } else if let Some(op) = word.strip_prefix("ok") {
            model.respond_write(number(op), true)?;
        } else {
            model.respond_failed(number(word.trim_start_matches("fail")))?;
        }
    }
    Ok(())
}

#[test]
fn permitted_histories_pass() {
    for script in [
        "r1@0 r1=0",
        "w1@0 ok1 r2@0 r2=1",
        "w1@0 r2@0 r3@0 r2=0 r3=1 r4@0 r4=1 ok1",
        // Either order of two concurrent writes; torn between blocks.
        "w1@0-2 w2@0-2 ok1 ok2 r3@0-2 r3=1,2 r4@0-2 r4=1,2",
        "w1@0 w2@0 ok2 r3@0 r3=2 ok1 r4@0 r4=1",
        // A read remembers what it might have seen.
        "w1@0 ok1 r9@0 w2@0 ok2 w3@0 ok3 r9=2",
        // A failed write happened, or not, or in part.
        "w1@0 fail1 r2@0 r2=0 r3@0 r3=0",
        "w1@0-2 fail1 r2@0-2 r2=0,1 r3@0-2 r3=0,1",
        "w1@0 ok1 d2@0 ok2 r3@0 r3=1 r4@0 r4=1",
        "w1@0 ok1 d2@0 ok2 r3@0 r3=0",
        "w1@0 ok1 d2@0 fail2 r3@0 r3=0",
        "w1@0 ok1 z2@0 ok2 r3@0 r3=0",
        "w1@0 r5@0 fail5 ok1",
        "w1@0 ok1 w2@0 hand9@0 r3@0 r3=9 ok2 r4@0 r4=2",
        "w1@0 hand9@0 ok1 r4@0 r4=9",
    ] {
        assert_eq!(play(script), Ok(()), "{script}");
    }
}

#[test]
fn what_no_order_permits_is_named() {
    let order = "which no order of the operations permits after what earlier reads saw";
    let replaced = "had replaced before the read began";
    for (script, expected) in [
        (
            "w1@0 ok1 w2@0 ok2 r3@0 r3=1",
            format!(
                "read 3 of disk0 at 0+4096 returned the data of write 1 at offset 0, which write 2 {replaced}; \
                 permitted there: the data of write 2"
            ),
        ),
        (
            "w1@1 ok1 r3@0-2 r3=0,0",
            format!(
                "read 3 of disk0 at 0+8192 returned zeroes at offset 4096, which write 1 {replaced}; \
                 permitted there: the data of write 1"
            ),
        ),
        // The value went back: a read had seen the new one.
        (
            "w1@0 r2@0 r2=1 r3@0 r3=0",
            format!(
                "read 3 of disk0 at 0+4096 returned zeroes at offset 0, {order}; \
                 permitted there: the data of write 1"
            ),
        ),
        // A failed write is settled once it has been seen.
        (
            "w1@0 fail1 r2@0 r2=0 r3@0 r3=1",
            format!(
                "read 3 of disk0 at 0+4096 returned the data of write 1 at offset 0, {order}; \
                 permitted there: zeroes"
            ),
        ),
        (
            "w1@0 ok1 z2@0 ok2 r3@0 r3=1",
            format!(
                "read 3 of disk0 at 0+4096 returned the data of write 1 at offset 0, \
                 which write zeroes 2 {replaced}; permitted there: zeroes"
            ),
        ),
        (
            "hand7@0 w1@0 ok1 d2@0 ok2 r3@0 r3=7",
            format!(
                "read 3 of disk0 at 0+4096 returned the data of fill 7 at offset 0, \
                 which write 1 {replaced}; permitted there: zeroes, the data of write 1"
            ),
        ),
        (
            "r3@0 r3=5",
            "read 3 of disk0 at 0+4096 returned at offset 0 bytes that nobody wrote there; \
             permitted there: zeroes"
                .into(),
        ),
    ] {
        let violation = play(script).expect_err(script);
        assert_eq!(violation.message, expected, "{script}");
    }
}

#[test]
fn misplaced_data_is_recognised() {
    let mut model = GuestRegister::new("disk0");
    model.fill(ByteRange::new(0, 2 * BLOCK), 7);
    model.invoke_read(1, block(0));
    let violation = model.respond_read(1, &data(7, block(1))).expect_err("moved by a block");
    assert!(
        violation.to_string().contains("at offset 0 the data of fill 7 for offset 4096"),
        "{violation}"
    );
}

#[test]
fn one_wrong_byte_is_found_at_any_alignment() {
    for (start, len) in [(0, 64), (3, 2), (3, 30), (5, 8), (511, 2)] {
        let range = ByteRange::new(start, len);
        for wrong in 0..len as usize {
            let mut model = GuestRegister::new("disk0");
            model.invoke_write(1, range, 1);
            assert_eq!(model.respond_write(1, true), Ok(()));
            for op in [2, 3] {
                model.invoke_read(op, range);
            }
            let mut found = data(1, range);
            assert_eq!(model.respond_read(2, &found), Ok(()));
            found[wrong] ^= 0x10;
            assert!(model.respond_read(3, &found).is_err(), "byte {wrong} of {range}");
        }
    }
}

#[test]
fn a_word_that_was_cut_while_a_read_began_may_be_read_in_two_halves() {
    let mut model = GuestRegister::new("disk0");
    let whole = ByteRange::new(0, 512);
    model.fill(whole, 9);
    model.invoke_write_zeroes(1, ByteRange::new(511, 512));
    model.invoke_read(2, whole);
    assert_eq!(model.respond_write(1, true), Ok(()));
    // In the end both halves are zeroes, and both may have been read as they were.
    model.invoke_write_zeroes(3, whole);
    assert_eq!(model.respond_write(3, true), Ok(()));
    let mut found = data(9, whole);
    found[511] = 0;
    assert_eq!(model.respond_read(2, &found), Ok(()));
}

#[test]
fn settled_segments_are_joined_again() {
    let mut model = GuestRegister::new("disk0");
    for op in 1..=16 {
        model.invoke_write(op, block(op % 4), 9);
        assert_eq!(model.respond_write(op, true), Ok(()));
    }
    assert_eq!(model.segments.len(), 2, "what was written, and the rest");
    model.invoke_write(17, block(1), 17);
    model.invoke_write(18, ByteRange::new(0, 4 * BLOCK), 18);
    assert_eq!(model.respond_write(18, true), Ok(()));
    assert_eq!(model.segments.len(), 4, "an operation in flight keeps its segment apart");
}
