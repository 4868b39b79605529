//! Encrypted requests that no device delays, beside what the cipher alone takes for as many bytes in place.

use blockyard_crypto::{CipherSpec, Created, Hash, Header, Iterations, SectorCipher};

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::{Layer, Load};
use crate::common::machine::{Folder, text, timed};

const LEN: u64 = 1 << 30;
const SIZE: u64 = 64 << 10;
const COUNT: u64 = 40_000;

const LOAD: Load = Load { count: COUNT, depth: 1, size: SIZE, step: SIZE, len: LEN, write: false };

/// A header whose payload is elsewhere.
fn bytes_of_header() -> Vec<u8> {
    let few = Iterations { slot: 1000, digest: 1000 };
    let mut random = |bytes: &mut [u8]| bytes.fill(0x5A);
    let made = Header::create(spec(), Hash::Sha256, b"x", few, &mut random);
    let Created { mut update, .. } = made.expect("the arguments are fine");
    let mut bytes = vec![0; update.header.payload_offset() as usize];
    update.header = update.header.detached();
    for step in update.steps() {
        bytes[step.offset as usize..][..step.bytes.len()].copy_from_slice(&step.bytes);
    }
    bytes
}

fn spec() -> CipherSpec {
    CipherSpec::from_words("aes", "xts-plain64", 64).expect("the words are known")
}

/// Microseconds of processor time for each request through a `luks` node, whose payload is a null disk.
fn ours_us(write: bool) -> Result<f64, Absent> {
    let folder = Folder::own();
    let header = folder.path("header");
    std::fs::write(&header, bytes_of_header()).expect("the directory is writable");
    let layer = Layer::new();
    layer.execute("object-add", ["qom-type=secret,id=s,data=x".into()]);
    let disk = "driver=luks,node-name=disk,key-secret=s";
    let payload = format!("file.driver=null-co,file.size={LEN}");
    let header = format!("header.driver=file,header.filename={}", text(&header));
    layer.execute("blockdev-add", [format!("{disk},{payload},{header}")]);
    let backend = layer.backend("disk");
    let load = Load { write, ..LOAD };
    layer.requests(&backend, Load { count: COUNT / 10, ..load });
    let (processor_s, _) = timed(|| layer.requests(&backend, load));
    Ok(processor_s * 1e6 / COUNT as f64)
}

/// The same for the cipher, over and over the same bytes.
fn cipher_us(write: bool) -> Result<f64, Absent> {
    let cipher = SectorCipher::new(&spec(), &[3; 64]);
    let mut data = vec![0x5A; SIZE as usize];
    let mut all = |count: u64| {
        for place in (Load { count, ..LOAD }).places(0) {
            match write {
                true => cipher.encrypt(place, &mut data),
                false => cipher.decrypt(place, &mut data),
            }
        }
    };
    all(COUNT / 10);
    let (processor_s, _) = timed(|| all(COUNT));
    Ok(processor_s * 1e6 / COUNT as f64)
}

const fn row(
    name: &'static str,
    what: &'static str,
    cipher: fn() -> Result<f64, Absent>,
    ours: fn() -> Result<f64, Absent>,
) -> Row {
    let target = Target::PeerAtMost(1.2);
    Row { name, what, unit: Unit::Microseconds, target, qemu: cipher, ours }
}

pub const ROWS: &[Row] = &[
    row(
        "luks-read",
        "64 KiB read of luks over null-co, peer: aes-xts alone",
        || cipher_us(false),
        || ours_us(false),
    ),
    row("luks-write", "    written", || cipher_us(true), || ours_us(true)),
];
