//! The header, and the table by itself.

use alloc::vec;
use alloc::vec::Vec;

use super::format::{Digest, Header, MOST_CLUSTERS, Reference, digest_of, parse_entry, put_entry};
use super::table::{Run, Step, Table};

/// Anything and the end of the space.
const FREE: (u64, u64) = (u64::MAX, u64::MAX);

fn digest(number: u8) -> Digest {
    digest_of(&[number]).expect("it is no zero")
}

fn contents(numbers: &[u8]) -> Vec<Option<Digest>> {
    numbers.iter().map(|number| digest_of(&[*number])).collect()
}

/// Writes all of it.
fn write(table: &mut Table, guest: u64, numbers: &[u8]) {
    let contents = contents(numbers);
    let mut done = 0;
    loop {
        let (set, step) = table.plan(guest + done, &contents[done as usize..], FREE);
        done += set;
        match step {
            Step::Done => break,
            Step::Full => panic!("there is space"),
            Step::Store(run) => {
                table.settle(run, &contents[done as usize..]);
                done += run.count;
            }
        }
        table.check_invariants();
    }
    table.check_invariants();
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let header = Header::new(4096, 1 << 20).expect("that is fine");
    let bytes = header.to_bytes();
    assert_eq!(bytes.len(), 4096);
    assert_eq!(Header::parse(&bytes), Ok(header));
    for (cluster, len) in [(511, 512), (256, 512), (128 << 10, 0), (512, 100)] {
        assert!(Header::new(cluster, len).is_err(), "{cluster} {len}");
    }
    assert!(Header::new(512, 512 * (MOST_CLUSTERS + 1)).is_err());
    assert!(Header::parse(&bytes[..100]).is_err());
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    for entry in [None, Some(Reference { at: 7, digest: digest(1) })] {
        let mut bytes = Vec::new();
        put_entry(entry, &mut bytes);
        assert_eq!(parse_entry(&bytes), Ok(entry));
    }
    let mut bytes = vec![0; 32];
    bytes[31] = 1;
    assert!(parse_entry(&bytes).is_err());
}

#[test]
fn what_is_written_beside_the_same_is_kept_once() {
    let mut table = Table::new(vec![None; 4]).expect("it is empty");
    let (_, one) = table.plan(0, &contents(&[1]), FREE);
    let (_, two) = table.plan(1, &contents(&[1]), FREE);
    assert_eq!(one, Step::Store(Run { guest: 0, at: 0, count: 1 }));
    assert_eq!(two, Step::Store(Run { guest: 1, at: 1, count: 1 }));
    for step in [two, one] {
        let Step::Store(run) = step else { panic!("just compared") };
        table.settle(run, &contents(&[1]));
        table.check_invariants();
    }
    assert_eq!(table.look(0, 1), (Some(1), 1), "who was first has kept it");
    write(&mut table, 2, &[2]);
    assert_eq!(table.look(2, 1), (Some(0), 1), "what was given back is free");
}

#[test]
fn what_is_written_again_before_a_flush_is_still_there() {
    let mut table = Table::new(vec![None; 2]).expect("it is empty");
    write(&mut table, 0, &[1]);
    write(&mut table, 0, &[2]);
    let copied = table.copy();
    assert_eq!(copied.unneeded, [0]);
    write(&mut table, 1, &[1]);
    assert_eq!(table.look(1, 1), (Some(0), 1), "it costs no write");
    assert!(table.release(&copied.unneeded, false).is_empty(), "and is needed");
    table.check_invariants();
}

#[test]
fn a_reader_keeps_what_it_reads() {
    let mut table = Table::new(vec![None; 2]).expect("it is empty");
    write(&mut table, 0, &[1, 2]);
    let pinned = table.pin(0, 2);
    table.clear(0, 2);
    let copied = table.copy();
    assert!(!table.flush_releases() && table.waits_for_flush());
    assert!(table.release(&copied.unneeded, false).is_empty());
    table.unpin(&pinned);
    let left = table.release(&copied.unneeded, false);
    assert_eq!(left, [0, 1]);
    assert!(table.waits_for_flush(), "they are on their way");
    table.free(&left);
    assert!(!table.waits_for_flush());
    table.check_invariants();
}

#[test]
fn references_are_counted_from_the_table() {
    let reference = |at, number| Some(Reference { at, digest: digest(number) });
    let mut table = Table::new(vec![reference(3, 1), None, reference(3, 1), reference(1, 2)])
        .expect("it fits together");
    table.check_invariants();
    write(&mut table, 1, &[5]);
    assert_eq!(table.look(1, 1), (Some(0), 1), "a hole is free");
    table.clear(0, 1);
    assert!(!table.waits_for_flush());
    table.clear(2, 1);
    assert!(table.waits_for_flush());
    let torn = vec![reference(3, 1), reference(3, 2)];
    assert_eq!(Table::new(torn).err(), Some(1));
}
