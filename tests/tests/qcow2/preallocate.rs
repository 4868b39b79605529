//! Disks whose clusters have space before they are written: made so, and made longer so.

use std::path::Path;

use blockyard_block::{Preallocation, ReadFlags, Truncate};
use blockyard_qcow2::{Caches, Files, Image, ImageFile};
use blockyard_runtime::IoBuffer;
use blockyard_units::{ByteLen, ByteRange};
use serde_json::{Value, json};

use super::check::folder;
use super::create::make;
use super::disk::{Disk, run};
use super::nodes::{SECRET, converted};
use super::peer;

const OLD: u64 = (1 << 20) + 512;
const NEW: u64 = (5 << 20) + 1024;

const WAYS: [Preallocation; 3] =
    [Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full];

/// Makes the disk of an image longer, which has been written and discarded in part before.
fn grow(image: &Path, how: Preallocation) {
    let disk = Disk::new(std::fs::read(image).expect("it is there"));
    let files = Files::of_disk(&disk);
    run(async {
        let file = ImageFile::Disk(&disk);
        let image = Image::open("image", file, Caches::default(), false).await.expect("it opens");
        let rubbish: IoBuffer = vec![7; 512 << 10].into();
        image.write(&files, 0, rubbish).await.expect("it writes");
        let half = ByteRange::new(0, 256 << 10);
        image.discard(&files, half).await.expect("it is discarded");
        image.flush(&files).await.expect("it flushes");
        let truncate = Truncate { len: ByteLen(NEW), preallocation: how };
        image.truncate(&files, truncate).await.expect("it grows");
        let added = ByteRange::between(OLD, NEW);
        let read = image.read(&files, added, ReadFlags::default()).await.expect("it reads");
        assert!(read.iter().all(|byte| *byte == 0), "what was added reads as zeroes");
        let shorter = Truncate { len: ByteLen(OLD), preallocation: how };
        image.truncate(&files, shorter).await.expect_err("nothing is added");
        image.close(&files).await.expect("it closes");
    });
    std::fs::write(image, disk.bytes()).expect("it can be written");
}

/// The first byte from `from` on that has no space in the image, as QEMU sees it.
fn first_without_space(image: &str, from: u64) -> Option<u64> {
    let output = peer::call("qemu-img", &["map", "-f", "qcow2", "--output=json", image]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("it says JSON");
    let extents = said.as_array().expect("a list").iter();
    let number = |extent: &Value, key: &str| extent[key].as_u64().expect("a number");
    let mut behind =
        extents.filter(|extent| number(extent, "start") + number(extent, "length") > from);
    behind.find(|extent| extent["offset"].is_null()).map(|extent| number(extent, "start"))
}

#[test]
fn what_is_added_to_a_disk_has_space_and_reads_as_zeroes() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("preallocated");
    let image = folder.join("image");
    let name = image.to_string_lossy().into_owned();
    let sorts = ["compat=0.10", "cluster_size=4k", "extended_l2=on", "cluster_size=512"];
    for (sort, how) in sorts.iter().flat_map(|sort| WAYS.map(|how| (*sort, how))) {
        let what = format!("{sort}, {}", how.word());
        peer::call(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", sort, &name, &OLD.to_string()],
        );
        grow(&image, how);
        peer::checks_clean(&image, &what);
        let read = converted(&["-f", "qcow2", &name], &folder.join("raw"));
        assert_eq!(read.len() as u64, NEW, "{what}");
        assert!(read[OLD as usize..].iter().all(|byte| *byte == 0), "{what}: what QEMU reads");
        let whole = OLD.next_multiple_of(64 << 10);
        assert_eq!(first_without_space(&name, whole), None, "{what}");
    }
}

#[test]
fn an_encrypted_disk_that_is_preallocated_reads_as_zeroes() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("preallocated-luks");
    let image = folder.join("image");
    let opened = format!(
        "driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename={}",
        image.to_string_lossy()
    );
    let with_secret = ["--object", SECRET, "--image-opts", &opened];
    let encrypt = json!({ "format": "luks", "key-secret": "s", "iter-time": 10 });
    for how in WAYS {
        let wanted = json!({ "encrypt": encrypt, "preallocation": how.word() });
        make(&image, None, &wanted).expect("it is made");
        let read = converted(&with_secret, &folder.join("raw"));
        assert!(read.len() == 10 << 20 && read.iter().all(|byte| *byte == 0), "{}", how.word());
        peer::opens_clean(&with_secret, how.word());
        let write = [
            "-c",
            "write -P 3 1000k 100k",
            "-c",
            "read -P 0 0 1000k",
            "-c",
            "read -P 3 1000k 100k",
        ];
        let said = peer::call("qemu-io", &[&write[..], &with_secret].concat());
        assert!(!String::from_utf8_lossy(&said.stdout).contains("failed"), "{said:?}");
        peer::opens_clean(&with_secret, how.word());
    }
    let wanted = json!({ "encrypt": encrypt, "preallocation": "full", "version": "v2" });
    let refused = make(&image, None, &wanted).expect_err("it has no zero clusters");
    assert!(refused.contains("need version 3"), "{refused}");
}
