//! Checks of images whose data are in a file of their own.

use blockyard_qcow2::{
    Caches, Check, CheckOptions, CreateOptions, DataFile, Files, Image, ImageFile, Repair,
    Severity, check, create, repair,
};

use super::check::folder;
use super::disk::{Disk, run};
use super::hostile::Bent;
use super::peer;

const CLUSTER: u64 = 4096;
const OWN: u64 = 1 << 63;

/// An image, and its data file, of 1 MiB, whose first 16 clusters and last one are written.
fn image(name: &str) -> (Bent, Disk) {
    let (disk, data) = (Disk::default(), Disk::default());
    let files = Files { data: ImageFile::Disk(&data), ..Files::of_disk(&disk) };
    let data_file = Some(DataFile { name: name.into(), raw: false });
    let options = CreateOptions { cluster_size: CLUSTER, data_file, ..CreateOptions::new(1 << 20) };
    run(create(&files, &options)).expect("the options go together");
    let image = Image::open("image", ImageFile::Disk(&disk), Caches::default(), false);
    let image = run(image).expect("it opens");
    for (offset, clusters) in [(0, 16), ((1 << 20) - CLUSTER, 1)] {
        let bytes = vec![7; usize::try_from(clusters * CLUSTER).expect("images are small")];
        run(image.write(&files, offset, bytes.into())).expect("there is room");
    }
    run(image.close(&files)).expect("there is room");
    (Bent(disk.bytes()), data)
}

fn checked(image: &Disk, data: Option<&Disk>, memory: u64) -> Check {
    let options = CheckOptions { memory, ..CheckOptions::default() };
    let data = data.map(|data| ImageFile::Disk(data));
    run(check(ImageFile::Disk(image), data, options, &mut |_| true)).expect("it can be checked")
}

#[test]
fn data_are_where_the_guest_has_them_and_no_cluster_of_the_image() {
    let (bent, data) = image("data");
    let whole = Disk::new(bent.0.clone());
    for data in [None, Some(&data)] {
        let check = checked(&whole, data, 64 << 20);
        assert!(check.is_clean(), "{check:?}");
        assert_eq!(check.allocated_clusters, 17);
        assert_eq!(check.image_end_offset, bent.0.len() as u64, "the image's own clusters");
    }
    let at = bent.l2() + 3 * 8;
    // Elsewhere; and where the data of another cluster are.
    for host in [7 * CLUSTER, 200 * CLUSTER, 1 << 40] {
        let mut image = Bent(bent.0.clone());
        image.put(at, host | OWN, 8);
        let disk = Disk::new(image.0);
        for memory in [64 << 20, 0] {
            let check = checked(&disk, Some(&data), memory);
            assert_eq!((check.corruptions, check.leaks, check.clear_flags), (1, 0, 0), "{check:?}");
            assert_eq!((check.findings[0].offset, check.findings[0].found), (at, host | OWN));
        }
    }
}

#[test]
fn data_are_in_the_data_file() {
    let (bent, data) = image("data");
    let disk = Disk::new(bent.0.clone());
    let bytes = data.bytes();
    // A part of a cluster is enough.
    for (len, missing) in [((1 << 20) - 100, 0), (1 << 19, 1), (10 * 4096 + 1, 6), (0, 17)] {
        let short = Disk::new(bytes[..len].to_vec());
        let check = checked(&disk, Some(&short), 64 << 20);
        assert_eq!(check.corruptions, missing, "{len}: {check:?}");
    }
}

#[test]
fn a_flag_that_is_missing_comes_back() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("qcow2-external");
    let path = |name: &str| folder.join(name);
    let (mut bent, data) = image(&path("data").to_string_lossy());
    let at = bent.l2() + 3 * 8;
    bent.put(at, 3 * CLUSTER, 8);
    let disk = Disk::new(bent.0);
    let check = checked(&disk, Some(&data), 64 << 20);
    assert_eq!((check.corruptions, check.clear_flags), (0, 1), "{check:?}");
    assert_eq!(check.findings[0].severity, Severity::ClearFlag);
    let (file, options) = (ImageFile::Disk(&disk), CheckOptions::default());
    let data_file = Some(ImageFile::Disk(&data));
    let repaired = run(repair(file, data_file, Repair::All, options, &mut |_| true));
    assert!(repaired.expect("it can be repaired").is_clean());
    assert_eq!(Bent(disk.bytes()).get(at, 8), (3 * CLUSTER) | OWN);
    std::fs::write(path("data"), data.bytes()).expect("there is room");
    std::fs::write(path("image"), disk.bytes()).expect("there is room");
    peer::checks_clean(&path("image"), "a repaired image");
}
