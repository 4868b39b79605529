//! What lies behind the end of a backing file when a longer one takes its place: a job does so, and what a guest has
//! zeroed there stays zeroes.

use blockyard_block::{Preallocation, ReadFlags, Truncate};
use blockyard_qcow2::{Caches, CreateOptions, Files, Image, ImageFile, Zeroes, create};
use blockyard_units::{ByteLen, ByteRange};

use super::check::folder;
use super::disk::{Disk, run};
use super::peer;

const CLUSTER: u64 = 16 << 10;
/// The first offset of the second L2 table: an entry has 8 bytes, or 16.
const REACH: u64 = CLUSTER / 8 * CLUSTER;
/// Bytes of the shorter file; it ends inside a cluster.
const SHORT: u64 = CLUSTER + 700;
/// What the files hold.
const BELOW: u8 = 0x77;
/// What a guest writes.
const OWN: u8 = 0x11;

/// An image over a file that is shorter.
struct Case {
    image: Image,
    disk: Disk,
    below: Disk,
}

/// What images there are.
const SORTS: [(u32, bool); 3] = [(2, false), (3, false), (3, true)];

impl Case {
    fn new((version, extended_l2): (u32, bool), size: u64) -> Self {
        let disk = Disk::default();
        let options = CreateOptions {
            version,
            extended_l2,
            cluster_size: CLUSTER,
            backing: Some(("below.raw".into(), Some("raw".into()))),
            ..CreateOptions::new(size)
        };
        run(create(&Files::of_disk(&disk), &options)).expect("the options go together");
        let file = ImageFile::Disk(&disk);
        let image = run(Image::open("image", file, Caches::default(), false)).expect("it opens");
        Self { image, disk, below: Disk::new(vec![BELOW; SHORT as usize]) }
    }

    fn files(&self) -> Files<'_> {
        Files { backing: Some(ImageFile::Disk(&self.below)), ..Files::of_disk(&self.disk) }
    }

    fn write(&self, range: ByteRange) {
        let data = vec![OWN; range.len().as_usize()];
        run(self.image.write(&self.files(), range.start(), data.into())).expect("it writes");
    }

    fn write_zeroes(&self, range: ByteRange, may_unmap: bool) {
        let how = Zeroes { may_unmap, no_fallback: false };
        run(self.image.write_zeroes(&self.files(), range, how)).expect("it writes zeroes");
    }

    fn discard(&self, range: ByteRange) {
        run(self.image.discard(&self.files(), range)).expect("it discards");
    }

    fn truncate(&self, len: u64) {
        let truncate = Truncate { len: ByteLen(len), preallocation: Preallocation::Off };
        run(self.image.truncate(&self.files(), truncate)).expect("it changes its length");
    }

    fn read(&self, range: ByteRange) -> Vec<u8> {
        let files = self.files();
        run(self.image.read(&files, range, ReadFlags::default())).expect("it reads").to_vec()
    }
}

fn cluster(index: u64) -> ByteRange {
    ByteRange::new(index * CLUSTER, CLUSTER)
}

fn is_all(bytes: &[u8], byte: u8) -> bool {
    bytes.iter().all(|found| *found == byte)
}

#[test]
fn what_a_guest_zeroed_stays_zeroes_when_a_longer_backing_file_takes_the_place_of_one() {
    let size = REACH + 8 * CLUSTER;
    for sort in SORTS {
        let mut case = Case::new(sort, size);
        for index in 3..7 {
            case.write(cluster(index));
        }
        let far = ByteRange::new(REACH + CLUSTER, 3 * CLUSTER);
        let part = ByteRange::new(9 * CLUSTER + 100, 600);
        // What was written, kept and given back; what never was, of a cluster and beyond all tables; and a part.
        case.write_zeroes(cluster(3), false);
        case.write_zeroes(cluster(4), true);
        case.discard(cluster(5));
        case.discard(cluster(4));
        case.write_zeroes(cluster(8), true);
        case.write_zeroes(part, true);
        case.write_zeroes(far, true);
        case.below = Disk::new(vec![BELOW; size as usize]);
        for zeroed in [cluster(3), cluster(4), cluster(8), part, far] {
            assert!(is_all(&case.read(zeroed), 0), "{sort:?}: {zeroed}");
        }
        let left = if sort.0 == 2 { OWN } else { 0 };
        assert!(is_all(&case.read(cluster(5)), left), "{sort:?}: what was discarded");
        assert!(is_all(&case.read(cluster(6)), OWN), "{sort:?}: what was written");
        assert!(is_all(&case.read(cluster(7)), BELOW), "{sort:?}: what is not the image's");
        check_with_peer(case, &format!("backing-{}-{}", sort.0, sort.1));
    }
}

/// It finds nothing wrong with the image, and reads what we do.
fn check_with_peer(case: Case, name: &str) {
    run(case.image.close(&case.files())).expect("it closes");
    if !peer::is_there() {
        return;
    }
    let folder = folder(name);
    let [image, below, raw] = ["image", "below.raw", "raw"].map(|file| folder.join(file));
    let read = case.read(ByteRange::new(0, case.image.len().0));
    for (file, bytes) in [(&image, case.disk.bytes()), (&below, case.below.bytes()), (&raw, read)] {
        std::fs::write(file, bytes).expect("there is room");
    }
    peer::checks_clean(&image, name);
    peer::holds_the_same((&image, "driver=qcow2"), &raw, name);
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn what_a_shorter_disk_lost_is_not_there_when_it_grows_over_a_shorter_backing_file() {
    let whole = ByteRange::new(0, 4 * CLUSTER);
    for sort in SORTS {
        let case = Case::new(sort, whole.len().0);
        case.write(whole);
        case.truncate(CLUSTER);
        case.truncate(whole.len().0);
        let lost = ByteRange::between(CLUSTER, whole.end());
        assert!(is_all(&case.read(lost), 0), "{sort:?}: what is behind the end");
        assert!(is_all(&case.read(cluster(0)), OWN), "{sort:?}: what was written");
    }
}
