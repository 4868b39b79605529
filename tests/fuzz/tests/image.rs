//! Images that are wrong in thousands of ways.

use blockyard_fuzz::image::{check_image, seeds};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Numbers that are at an edge, or somewhere in the file.
fn edge(random: &mut ChaCha8Rng, file: u64) -> u64 {
    let place = (random.next_u64() % (file * 2)) & !511;
    let numbers = [
        0,
        1,
        7,
        u64::MAX,
        u64::MAX >> 1,
        1 << 63,
        1 << 62,
        1 << 61,
        0x00ff_ffff_ffff_fe00,
        u64::from(u32::MAX),
        u64::from(u32::MAX) << 32,
        file,
        file - 1,
        file << 32,
        place,
        place | 1 << 63,
        place | 1 << 62,
        place | 1,
        random.next_u64(),
        1 << (random.next_u32() % 64),
    ];
    numbers[random.next_u32() as usize % numbers.len()]
}

fn put(image: &mut [u8], at: usize, number: u64, len: usize) {
    let bytes = number.to_be_bytes();
    if let Some(field) = image.get_mut(at..at + len) {
        field.copy_from_slice(&bytes[8 - len..]);
    }
}

fn one(random: &mut ChaCha8Rng, image: &mut Vec<u8>) {
    let file = image.len() as u64;
    let at = random.next_u32() as usize % image.len();
    match random.next_u32() % 8 {
        0 => image[at] = random.next_u32() as u8,
        1 => image[at] ^= 1 << (random.next_u32() % 8),
        2 => {
            let edge = edge(random, file);
            put(image, at & !3 & 127, edge, 4);
        }
        3 => {
            let edge = edge(random, file);
            put(image, at & !7 & 127, edge, 8);
        }
        4 => image.truncate(at.max(1)),
        _ => {
            let edge = edge(random, file);
            put(image, at & !7, edge, 8);
        }
    }
}

#[test]
fn seeds_are_clean_and_whatever_is_put_into_a_header_field_does_no_harm() {
    for seed in seeds() {
        check_image(&seed);
        let file = seed.len() as u64;
        for (at, len) in
            (0..128).step_by(4).map(|at| (at, 4)).chain((0..128).step_by(8).map(|at| (at, 8)))
        {
            for number in [0, 1, 2, 63, 512, file, u64::MAX, 1 << 31, 1 << 62, 1 << 63] {
                let mut image = seed.clone();
                put(&mut image, at, number, len);
                check_image(&image);
            }
        }
    }
}

#[test]
fn whatever_is_changed_in_an_image_does_no_harm() {
    let seeds = seeds();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for number in 0..6000 {
        let mut image = seeds[number % seeds.len()].clone();
        for _ in 0..1 + random.next_u32() % 4 {
            one(&mut random, &mut image);
        }
        check_image(&image);
    }
}

/// What a fuzzer found: a repair counted a cluster in a refcount block that the guest has as data, by a table that
/// goes a little behind the end of the file, which a check followed less far than who reads the image.
#[test]
fn a_table_whose_last_cluster_is_there_in_part_is_followed() {
    let mut image = vec![0; 3453];
    for (at, number, len) in [
        (0, 0x5146_49fb, 4),
        (4, 3, 4),
        (20, 9, 4),
        (24, 65536, 8),
        // 268 entries, at 0x600.
        (36, 268, 4),
        (40, 0x600, 8),
        (48, 0x200, 8),
        (56, 1, 4),
        (96, 4, 4),
        (100, 112, 4),
        (0x200, 0x400, 8),
        (0x600, 1 << 63 | 0x800, 8),
        (0x868, 0x400, 8),
    ] {
        put(&mut image, at, number, len);
    }
    check_image(&image);
}
