//! Images that QEMU has written, read by us, written on by us, and read by it again.

use std::fs;
use std::path::{Path, PathBuf};

use blockyard_block::ReadFlags;
use blockyard_qcow2::{Caches, Files, Image, ImageFile};
use blockyard_units::ByteRange;

use super::disk::{Disk, run};
use super::peer;

const SIZE: u64 = 6 << 20;

/// Options of `qemu-img create`.
const SORTS: &[&str] = &[
    "compat=0.10",
    "compat=1.1",
    "cluster_size=512",
    "cluster_size=4k,refcount_bits=1",
    "cluster_size=4k,refcount_bits=64",
    "cluster_size=2M",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "compression_type=zstd",
    "lazy_refcounts=on",
    "preallocation=metadata",
    "preallocation=falloc",
    "preallocation=full,cluster_size=4k",
];

/// What is done to each by `qemu-io`: data, compressed data, zeroes of both kinds, and what is given back.
const COMMANDS: &[&str] = &[
    "write -P 1 0 300k",
    "write -P 2 1M 5000",
    "write -c -P 3 2M 2M",
    "write -z 100k 70k",
    "write -z -u 1M 64k",
    "write -P 5 3145700 100",
    "discard 200k 64k",
    "write -P 6 6290944 512",
];

fn make(directory: &Path, options: &str) -> PathBuf {
    let image = directory.join("theirs.qcow2");
    let path = image.to_string_lossy().into_owned();
    let size = SIZE.to_string();
    peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path, &size]);
    let mut arguments = vec!["-f", "qcow2", "-d", "unmap"];
    // It does not compress what has space of its own already.
    let allocated = options.contains("preallocation");
    for command in COMMANDS.iter().filter(|command| !(allocated && command.contains("write -c"))) {
        arguments.extend(["-c", command]);
    }
    arguments.push(&path);
    peer::call("qemu-io", &arguments);
    if !options.contains("refcount_bits=1") {
        peer::call("qemu-img", &["snapshot", "-c", "kept", &path]);
    }
    image
}

#[test]
fn images_that_qemu_wrote_are_read_and_written_on() {
    if !peer::is_there() {
        return;
    }
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("theirs");
    fs::create_dir_all(&directory).expect("the directory is writable");
    for options in SORTS {
        let path = make(&directory, options);
        let raw = directory.join("theirs.raw");
        let (from, to) = (path.to_string_lossy(), raw.to_string_lossy());
        peer::call("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &from, &to]);
        let mut expected = fs::read(&raw).expect("it was written");
        let disk = Disk::new(fs::read(&path).expect("it was written"));
        let caches = Caches { l2: 0, refcount: 0 };
        let image = run(Image::open("image", ImageFile::Disk(&disk), caches, false));
        let image = image.unwrap_or_else(|error| panic!("{options}: {error}"));
        let files = Files::of_disk(&disk);
        let read = run(image.read(&files, ByteRange::new(0, SIZE), ReadFlags::default()));
        assert!(read.expect("it reads").to_vec() == expected, "{options}: all of it is read");
        for (number, offset) in (10_u8..).zip([0, 150_000, 2_100_000, 4 << 20, SIZE - 1000]) {
            let data = vec![number; 1000];
            expected[offset as usize..][..1000].copy_from_slice(&data);
            run(image.write(&files, offset, data.into())).expect("it writes");
        }
        run(image.close(&files)).expect("it closes");
        fs::write(&path, disk.bytes()).expect("there is room for the image");
        fs::write(&raw, &expected).expect("there is room for its contents");
        peer::checks_clean(&path, options);
        peer::holds_the_same((&path, "driver=qcow2"), &raw, options);
    }
    fs::remove_dir_all(directory).expect("it is there");
}
