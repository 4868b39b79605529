//! The images that are measured.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use blockyard_block::Preallocation;
use blockyard_host::{CreateMode, Host, HostFile};
use blockyard_qcow2::{Caches, CreateOptions, Files, Image, ImageFile, NewSnapshot, create};
use blockyard_units::ByteRange;

use crate::common::machine::{Folder, shared};
use crate::copy;

/// Bytes of the disk of a large image.
pub const LARGE: u64 = 64 << 30;

/// What is in a raw disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Data everywhere.
    Full,
    /// 64 KiB of each mebibyte, and holes.
    Sparse,
    /// Zeroes that are written.
    Zeroes,
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Sparse => "sparse",
            Self::Zeroes => "zeroes",
        }
    }

    /// Bytes.
    pub fn len(self) -> u64 {
        if self == Self::Sparse { 1 << 30 } else { 256 << 20 }
    }

    /// A raw disk with it.
    pub fn raw(self) -> PathBuf {
        shared(&format!("{}.raw", self.name()), |path| {
            let mut file = File::create(path).expect("the folder is writable");
            file.set_len(self.len()).expect("the folder is writable");
            let byte = if self == Self::Zeroes { 0 } else { 0x5A };
            let piece = vec![byte; if self == Self::Sparse { 64 << 10 } else { 1 << 20 }];
            for at in (0..self.len()).step_by(1 << 20) {
                file.seek(SeekFrom::Start(at)).expect("files can be sought in");
                file.write_all(&piece).expect("there is space");
            }
        })
    }

    /// An image with it, as it is converted.
    pub fn image(self) -> PathBuf {
        let raw = self.raw();
        shared(&format!("{}.qcow2", self.name()), |path| {
            make(path, &CreateOptions::new(self.len()));
            copy::convert("raw", &raw, "qcow2", path);
        })
    }
}

pub fn host() -> Host {
    Host::new(1).expect("the machine has threads")
}

/// Makes an image.
pub fn make(path: &Path, options: &CreateOptions) {
    let file = HostFile::create(path, 0, CreateMode::Replace).expect("the folder is writable");
    host().block_on(create(&Files::of_disk(&file), options)).expect("the options go together");
}

/// An image without anything in it.
pub fn empty(folder: &Folder, len: u64) -> PathBuf {
    let path = folder.path("empty.qcow2");
    make(&path, &CreateOptions::new(len));
    path
}

/// A large image each of whose clusters is allocated.
pub fn large(cluster_size: u64) -> PathBuf {
    shared(&format!("large-{cluster_size}.qcow2"), |path| {
        let preallocation = Preallocation::Metadata;
        make(path, &CreateOptions { cluster_size, preallocation, ..CreateOptions::new(LARGE) });
    })
}

/// The same with so many snapshots; between two of them each L2 table was changed.
pub fn with_snapshots(count: u64) -> PathBuf {
    let large = large(64 << 10);
    shared(&format!("snapshots-{count}.qcow2"), |path| {
        copy_file(&large, path);
        let file = HostFile::open(path, false).expect("it was just made");
        host().block_on(async {
            let image = open(&file).await;
            let files = Files::of_disk(&file);
            for number in 0..count {
                let new = NewSnapshot { name: format!("s{number}"), ..NewSnapshot::default() };
                image.create_snapshot(&files, new).await.expect("it is taken");
                for offset in (number << 16..LARGE).step_by(512 << 20) {
                    let data = vec![number as u8; 4096];
                    image.write(&files, offset, data.into()).await.expect("it writes");
                }
            }
            image.close(&files).await.expect("it closes");
        });
    })
}

/// Images on images, the lowest one first, and each of them names the one below.
pub fn chain(count: usize) -> Vec<PathBuf> {
    let len = 64 << 20;
    let path = |index: usize| {
        shared(&format!("chain-{index}.qcow2"), |path| {
            let folder = path.parent().expect("it is in one");
            let below =
                index.checked_sub(1).map(|below| folder.join(format!("chain-{below}.qcow2")));
            let backing = below.map(|below| (below.display().to_string(), Some("qcow2".into())));
            make(path, &CreateOptions { backing, ..CreateOptions::new(len) });
        })
    };
    (0..count).map(path).collect()
}

pub async fn open(file: &HostFile) -> Image {
    let image = Image::open("image", ImageFile::Disk(file), Caches::default(), false).await;
    image.expect("it is sound")
}

/// A copy to be changed, which is on the disk.
pub fn own_copy(folder: &Folder, of: &Path) -> PathBuf {
    let path = folder.path("copy.qcow2");
    copy_file(of, &path);
    File::open(&path).and_then(|file| file.sync_all()).expect("the disk takes it");
    path
}

fn copy_file(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("--sparse=always").args([from, to]).status();
    assert!(done.is_ok_and(|status| status.success()), "cp works");
}

/// The places of requests that reach every part of a disk.
pub fn everywhere(count: u64) -> impl Iterator<Item = ByteRange> {
    (0..count).map(|index| ByteRange::new(index * 7_919 * (64 << 10) % LARGE, 4096))
}
