//! `luks`: what comes back, what lies below, and what is refused.

use std::sync::Arc;

use blockyard_block::{Backend, BlockError, Preallocation, Truncate, Write};
use blockyard_crypto::{
    CipherSpec, Cost, Hash, Header, Iterations, Luks2, Luks2Options, Secret, SlotChange, Volume,
};
use blockyard_drivers::Luks;
use blockyard_graph::Permissions;
use blockyard_runtime::{IoBuffer, Storage};
use blockyard_sim::{Budgets, DiskImage};
use blockyard_units::{ByteLen, ByteRange, Mutant};

use crate::bench::{Bench, Test, bytes, check_on, file};

const PAYLOAD: u64 = 1032 * 512;
const LEN: u64 = 16 << 10;

/// An image of `len` bytes behind the header, all of them noise; with a short key, so that it is made fast.
fn image(len: u64) -> IoBuffer {
    let cipher = CipherSpec::from_options(Some("aes-128"), Some("cbc"), None, None);
    let few = Iterations { slot: 3, digest: 2 };
    let mut random = |bytes: &mut [u8]| bytes.fill(0x5A);
    let cipher = cipher.expect("it is known");
    let made = Header::create(cipher, Hash::Sha1, b"open", few, &mut random);
    let update = made.expect("the arguments are fine").update;
    assert_eq!(update.header.payload_offset(), PAYLOAD);
    let mut image = vec![0xEE; (PAYLOAD + len) as usize];
    image[..Header::LEN].copy_from_slice(&update.header.to_bytes());
    image[update.offset as usize..][..update.material.len()].copy_from_slice(&update.material);
    image.into()
}

fn disk(len: u64) -> DiskImage {
    let image = DiskImage::new("disk", image(len));
    DiskImage { capacity: ByteLen(PAYLOAD + 2 * LEN), ..image }
}

/// A device on the image, opened with a passphrase.
async fn opened(bench: &Bench, passphrase: &[u8]) -> Result<Backend, BlockError> {
    let secret = Arc::new(Secret::new(passphrase.into()));
    let links = vec![("luks", Box::new(Luks::new("luks", secret)) as _), file(bench)];
    Ok(bench.chain_for(Permissions::ALL, links).await?.0)
}

async fn device(bench: &Bench) -> Backend {
    opened(bench, b"open").await.expect("the passphrase is right")
}

fn truncate(len: u64) -> Write {
    Write::truncate(Truncate { len: ByteLen(len), preallocation: Preallocation::Off })
}

#[test]
fn what_is_written_comes_back_and_lies_encrypted_below() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        assert_eq!(backend.len().expect("there is a root").0, LEN);
        let whole = ByteRange::new(0, LEN);
        backend.write(Write::zeroes(whole)).await.expect("no fault is budgeted");
        let mut model = vec![0; LEN as usize];
        for (seed, start, len) in [(2, 0, 512), (3, 700, 1), (4, 1000, 3000), (5, LEN - 9, 9)] {
            let data = bytes(seed, len);
            model[start as usize..(start + len) as usize].copy_from_slice(&data);
            backend.write(Write::data(start, data)).await.expect("no fault is budgeted");
        }
        backend.flush().await.expect("no fault is budgeted");
        let shown = backend.read(whole).await.expect("no fault is budgeted");
        assert!(*shown == model[..], "what was written came back otherwise");
        // A discard is nothing.
        backend.write(Write::discard(whole)).await.expect("no fault is budgeted");
        let shown = backend.read(whole).await.expect("no fault is budgeted");
        assert!(*shown == model[..], "a discard changed something");
        let below = bench.disk.read(ByteRange::new(0, PAYLOAD + LEN)).await.expect("it is there");
        assert!(below[..PAYLOAD as usize] == image(0)[..], "the header was written");
        let pairs = below[PAYLOAD as usize..].chunks(16).zip(model.chunks(16));
        assert!(pairs.clone().all(|(below, above)| below != above), "something lies in the clear");
    });
    check_on(&test, disk(LEN));
}

#[test]
fn its_length_is_that_of_the_child_without_the_header() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        assert_eq!(
            backend.len().expect("there is a root").0,
            LEN,
            "a part of a sector is not shown"
        );
        backend.write(truncate(LEN / 2)).await.expect("no fault is budgeted");
        assert_eq!(bench.disk.len().0, PAYLOAD + LEN / 2);
        backend.write(truncate(2 * LEN)).await.expect("no fault is budgeted");
        assert_eq!(backend.len().expect("there is a root").0, 2 * LEN);
        backend.write(Write::data(2 * LEN - 512, bytes(9, 512))).await.expect("it is inside");
        let odd = backend.write(truncate(LEN + 1)).await;
        assert_eq!(
            odd,
            Err(BlockError::Invalid(
                "a luks image has whole sectors of 512 bytes, not 16385".into()
            ))
        );
        let outside = backend.write(Write::data(2 * LEN, bytes(9, 512))).await;
        assert!(matches!(outside, Err(BlockError::Invalid(_))), "{outside:?}");
    });
    check_on(&test, disk(LEN + 511));
}

#[test]
fn what_cannot_be_opened_says_why_and_never_the_passphrase() {
    let fails = |passphrase: &'static [u8], image: IoBuffer, said: &'static str| {
        let test = Test::new(move |bench| async move {
            let error = opened(&bench, passphrase).await.map(drop).expect_err("it cannot be");
            let text = error.to_string();
            assert!(text.contains(said) && !text.contains("pass-word"), "{text}");
        });
        check_on(&test, DiskImage::new("disk", image));
    };
    fails(b"pass-word", image(LEN), "the passphrase opens none of the key slots");
    fails(b"", image(LEN), "the passphrase opens none of the key slots");
    fails(b"open", bytes(1, 600), "corrupt: luks header, magic at byte 0");
    fails(b"open", bytes(1, 9), "corrupt: luks header, length at byte 0: 9 bytes");
    fails(b"open", IoBuffer::default(), "corrupt: luks header, length at byte 0: 0 bytes");
    let whole = image(LEN);
    fails(b"open", whole.slice(0..PAYLOAD as usize - 1), "payload-offset at byte 104");
}

#[test]
fn a_fault_below_is_the_requests_own() {
    let test = Test::new(|bench| async move {
        let Ok(backend) = opened(&bench, b"open").await else { return };
        let written = backend.write(Write::data(512, bytes(3, 512))).await;
        let read = backend.read(ByteRange::new(512, 512)).await;
        if let (Ok(()), Ok(read)) = (written, read) {
            assert_eq!(*read, *bytes(3, 512));
        }
    });
    let budgets = Budgets { faults: 1, ..Budgets::NONE };
    crate::bench::explore_on(&test, disk(1024), budgets);
}

/// Where the payload of a LUKS2 image begins here.
const PAYLOAD_2: u64 = 288 << 10;

/// A LUKS2 image of `len` bytes behind the header, with long sectors.
fn image_2(len: u64) -> IoBuffer {
    let options = Luks2Options {
        cipher: CipherSpec::from_words("aes", "xts-plain64", 32).expect("it is known"),
        sector_size: 4096,
        hash: Hash::Sha256,
        cost: Cost::Argon2 { id: true, time: 1, memory: 32, lanes: 4 },
        digest_iterations: 2,
        keyslots_size: PAYLOAD_2 - (32 << 10),
        detached: false,
    };
    let mut random = |bytes: &mut [u8]| bytes.fill(0x5A);
    let mut image = vec![0xEE; (PAYLOAD_2 + len) as usize];
    let made = Luks2::create(&options, b"open", &mut random);
    for step in made.expect("the options are fine").0 {
        image[step.offset as usize..][..step.bytes.len()].copy_from_slice(&step.bytes);
    }
    image.into()
}

#[test]
fn a_luks2_image_is_written_in_its_own_sectors() {
    let test = Test::new(|bench| async move {
        let backend = device(&bench).await;
        assert_eq!(backend.len().expect("there is a root").0, LEN);
        let whole = ByteRange::new(0, LEN);
        let mut model = backend.read(whole).await.expect("no fault is budgeted").to_vec();
        for (seed, start, len) in [(2, 0, 512), (3, 700, 1), (4, 1000, 9000), (5, LEN - 9, 9)] {
            let data = bytes(seed, len);
            model[start as usize..(start + len) as usize].copy_from_slice(&data);
            backend.write(Write::data(start, data)).await.expect("no fault is budgeted");
        }
        let shown = backend.read(whole).await.expect("no fault is budgeted");
        assert!(*shown == model[..], "what was written came back otherwise");
        let odd = backend.write(truncate(LEN - 512)).await;
        let said = "a luks image has whole sectors of 4096 bytes, not 15872";
        assert_eq!(odd, Err(BlockError::Invalid(said.into())));
        let below = bench.disk.read(ByteRange::new(0, PAYLOAD_2 + LEN)).await.expect("it is there");
        assert!(below[..PAYLOAD_2 as usize] == image_2(0)[..], "the header was written");
    });
    check_on(&test, DiskImage::new("disk", image_2(LEN + 4095)));
}

/// Erases the only slot, by force, and tries it as the old header says.
fn erased(image: fn(u64) -> IoBuffer) -> (Test, DiskImage) {
    let test = Test::new(move |bench| async move {
        let backend = device(&bench).await;
        let change = SlotChange::Erase { slot: Some(0), old: None, force: true };
        backend.amend(Arc::new(change)).await.expect("no fault is budgeted");
        let old = image(0);
        let volume = Volume::parse(&old, old.len() as u64, false).expect("it was fine");
        let (slot, place) = volume.key_materials(true)[0];
        let opens = async |material: &[u8]| {
            let key = volume.unlock_in_pieces(slot, b"open", material, || Box::pin(async {})).await;
            key.expect("the length is right").is_some()
        };
        assert!(opens(&old[place.start() as usize..place.end() as usize]).await);
        let material = bench.disk.read(place).await.expect("no fault is budgeted");
        assert!(!opens(&material).await, "a slot that was erased opens the image");
    });
    (test, DiskImage::new("disk", image(LEN)))
}

#[test]
fn an_old_header_does_not_bring_an_erased_slot_back() {
    for image in [image as fn(u64) -> IoBuffer, image_2] {
        let (test, disk) = erased(image);
        check_on(&test, disk);
    }
}

#[test]
#[should_panic(expected = "a slot that was erased opens the image")]
fn key_material_that_stays_is_noticed() {
    let (test, disk) = erased(image_2);
    check_on(&test.with(Mutant::LuksErasedSlotKeepsKey), disk);
}
