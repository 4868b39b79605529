//! Checks and repairs against `qemu-img`: images that it makes, and images that were damaged.

use std::path::{Path, PathBuf};

use blockyard_qcow2::{Caches, Check, CheckOptions, Image, ImageFile, Repair, check, repair};
use serde_json::Value;

use super::disk::{Disk, run};
use super::peer;

/// A folder for one test.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    // It may not be there yet.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// Calls `qemu-img`, which shall succeed.
fn qemu_img(arguments: &[&str]) {
    let output = peer::qemu_img(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "qemu-img {arguments:?}: {said}");
}

/// Has `qemu-io` do this to an image.
fn qemu_io(image: &str, commands: &[&str]) {
    let mut command = std::process::Command::new("qemu-io");
    command.args(["-f", "qcow2"]);
    commands.iter().for_each(|text| {
        command.args(["-c", text]);
    });
    let output = command.arg(image).output().expect("qemu-io is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What `qemu-img check` says.
fn checked_by_peer(image: &Path) -> Value {
    let output = peer::qemu_img(&["check", "--output=json", &image.to_string_lossy()]);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

fn checked(disk: &Disk, memory: u64) -> Check {
    let options = CheckOptions { memory, ..CheckOptions::default() };
    run(check(ImageFile::Disk(disk), None, options, &mut |_| true)).expect("it can be checked")
}

fn repaired(disk: &Disk, what: Repair) -> Check {
    let options = CheckOptions::default();
    run(repair(ImageFile::Disk(disk), None, what, options, &mut |_| true))
        .expect("it can be repaired")
}

/// Both say the same of an image.
fn compare(image: &Path) {
    let theirs = checked_by_peer(image);
    let disk = Disk::new(std::fs::read(image).expect("it is there"));
    let before = disk.bytes();
    // At once, and in as many windows as there are refcount blocks.
    for memory in [64 << 20, 0] {
        let ours = checked(&disk, memory);
        let number = |key: &str| theirs[key].as_u64().unwrap_or(0);
        let name = image.display();
        assert_eq!(ours.findings, [], "{name}");
        assert!(ours.is_clean(), "{name}: {ours:?}");
        assert_eq!((number("corruptions"), number("leaks")), (0, 0), "{name}: {theirs}");
        let pairs = [
            ("check-errors", ours.check_errors),
            ("total-clusters", ours.total_clusters),
            ("allocated-clusters", ours.allocated_clusters),
            ("fragmented-clusters", ours.fragmented_clusters),
            ("compressed-clusters", ours.compressed_clusters),
            ("image-end-offset", ours.image_end_offset),
        ];
        for (key, ours) in pairs {
            assert_eq!(ours, number(key), "{name}: {key} with {memory}: {theirs}");
        }
    }
    assert!(disk.bytes() == before, "a check writes nothing");
    assert!(repaired(&disk, Repair::All).is_clean());
    assert!(disk.bytes() == before, "a repair of what is right writes nothing");
}

#[test]
fn images_of_qemu_check_as_they_do_there() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("qcow2-check");
    let mut sorts: Vec<String> = Vec::new();
    for cluster in ["512", "1k", "4k", "32k", "64k", "512k", "2M"] {
        sorts.push(format!("cluster_size={cluster}"));
    }
    for cluster in ["512", "64k"] {
        sorts.push(format!("compat=0.10,cluster_size={cluster}"));
    }
    for bits in [1, 2, 4, 8, 32, 64] {
        sorts.push(format!("cluster_size=4k,refcount_bits={bits}"));
    }
    for more in ["16k,extended_l2=on", "64k,extended_l2=on", "64k,compression_type=zstd"] {
        sorts.push(format!("cluster_size={more}"));
    }
    for preallocation in ["metadata", "falloc", "full"] {
        sorts.push(format!("cluster_size=4k,preallocation={preallocation}"));
    }
    for (number, sort) in sorts.iter().enumerate() {
        let image = folder.join(format!("{number}.qcow2"));
        let name = image.to_string_lossy();
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", sort, &name, "8M"]);
        compare(&image);
        let commands =
            ["write -P 1 0 100k", "write -P 2 3M 1M", "write -P 3 1M 64k", "discard 3M 64k"];
        qemu_io(&name, &commands);
        if !sort.contains("0.10") {
            qemu_io(&name, &["write -z 4M 1M", "write -z -u 3500k 100k", "write -P 5 4200k 5k"]);
        }
        compare(&image);
        if !sort.contains("refcount_bits=1") {
            qemu_img(&["snapshot", "-c", "one", &name]);
            qemu_io(&name, &["write -P 7 64k 256k", "write -P 6 7M 300k"]);
            qemu_img(&["snapshot", "-c", "a longer name", &name]);
            qemu_io(&name, &["discard 0 256k"]);
            compare(&image);
        }
        if !sort.contains("0.10") {
            qemu_img(&["bitmap", "--add", &name, "first"]);
            qemu_img(&["bitmap", "--add", "-g", "512", &name, "second"]);
            qemu_io(&name, &["write -P 8 5M 20k"]);
            compare(&image);
        }
        let compressed = folder.join(format!("{number}-compressed.qcow2"));
        let to = compressed.to_string_lossy();
        let options = sort.split(",preallocation").next().unwrap_or_default();
        qemu_img(&["convert", "-q", "-c", "-O", "qcow2", "-o", options, &name, &to]);
        qemu_io(&to, &["write -P 9 100k 3k"]);
        compare(&compressed);
        std::fs::remove_file(&image).expect("it is there");
        std::fs::remove_file(&compressed).expect("it is there");
    }
}

/// What a damage is done to: an image's bytes, and where its structures are.
struct Damaged(Vec<u8>);

impl Damaged {
    fn get(&self, at: u64) -> u64 {
        let at = usize::try_from(at).expect("images are small");
        u64::from_be_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn put(&mut self, at: u64, number: u64) {
        let at = usize::try_from(at).expect("images are small");
        self.0[at..at + 8].copy_from_slice(&number.to_be_bytes());
    }

    fn l1(&self) -> u64 {
        self.get(40)
    }

    fn l2(&self) -> u64 {
        self.get(self.l1()) & 0x00ff_ffff_ffff_fe00
    }

    fn reftable(&self) -> u64 {
        self.get(48)
    }

    /// Of 16 bits, for the cluster at `host`.
    fn set_count(&mut self, host: u64, count: u16) {
        let at = self.get(self.reftable()) + host / CLUSTER * 2;
        let at = usize::try_from(at).expect("images are small");
        self.0[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    /// Where the data of guest cluster `index` are.
    fn data(&self, index: u64) -> u64 {
        self.get(self.l2() + index * 8) & 0x00ff_ffff_ffff_fe00
    }
}

const CLUSTER: u64 = 4096;
const OWN: u64 = 1 << 63;

/// A damage, whether it is one for data, and what it does.
type Damage = (&'static str, bool, fn(&mut Damaged));

const DAMAGES: &[Damage] = &[
    ("leak", false, |image| {
        let end = image.0.len() as u64;
        image.0.resize(image.0.len() + 4096, 0);
        image.set_count(end, 1);
    }),
    ("count of several", true, |image| image.set_count(image.data(1), 7)),
    ("used cluster with count 0", true, |image| image.set_count(image.data(2), 0)),
    ("table with count 0", true, |image| image.set_count(image.l2(), 0)),
    ("header with count 0", true, |image| image.set_count(0, 0)),
    ("COPIED and shared", true, |image| {
        let data = image.data(1);
        image.put(image.l2() + 8 * 3, data | OWN);
    }),
    ("COPIED and counted twice", true, |image| {
        let data = image.data(1);
        image.put(image.l2() + 8 * 3, data);
        image.set_count(data, 2);
    }),
    ("COPIED clear", true, |image| image.put(image.l2() + 8, image.data(1))),
    ("COPIED clear on a table", true, |image| image.put(image.l1(), image.l2())),
    ("data in the L1 table", true, |image| image.put(image.l2() + 8, image.l1() | OWN)),
    ("data in the refcount table", true, |image| image.put(image.l2() + 8, image.reftable() | OWN)),
    ("data in a refcount block", true, |image| {
        image.put(image.l2() + 8, image.get(image.reftable()) | OWN);
    }),
    ("data in their own table", true, |image| image.put(image.l2() + 8, image.l2() | OWN)),
    ("double reference", true, |image| image.put(image.l2() + 8 * 2, image.data(1) | OWN)),
    ("no refcount block", true, |image| image.put(image.reftable(), 0)),
    ("refcount block not at a cluster", true, |image| image.put(image.reftable(), 5 << 9)),
    ("refcount block behind the end", true, |image| image.put(image.reftable(), 1 << 40)),
    ("refcount block twice", true, |image| {
        image.put(image.reftable() + 8, image.get(image.reftable()));
    }),
    ("no counts", true, |image| {
        let at = usize::try_from(image.get(image.reftable())).expect("images are small");
        image.0[at..at + 4096].fill(0);
    }),
    ("all counts too high", true, |image| {
        let at = usize::try_from(image.get(image.reftable())).expect("images are small");
        image.0[at..at + 4096].fill(3);
    }),
];

fn whole(folder: &Path) -> Vec<u8> {
    let path = folder.join("whole.qcow2");
    let name = path.to_string_lossy();
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", &name, "2M"]);
    qemu_io(&name, &["write -P 1 0 12k", "write -P 2 20k 4k", "write -P 3 1M 4k"]);
    std::fs::read(&path).expect("it is there")
}

#[test]
fn damages_are_found_by_both_and_what_we_repair_is_whole_for_qemu() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("qcow2-damages");
    let whole = whole(&folder);
    for (name, corrupt, damage) in DAMAGES {
        let path = folder.join(format!("{}.qcow2", name.replace(' ', "-")));
        let mut image = Damaged(whole.clone());
        damage(&mut image);
        std::fs::write(&path, &image.0).expect("there is room");
        let theirs = checked_by_peer(&path);
        let number = |key: &str| theirs[key].as_u64().unwrap_or(0);
        let disk = Disk::new(image.0.clone());
        let ours = checked(&disk, 64 << 20);
        assert_eq!(ours, Check { ..checked(&disk, 0) }, "{name}: windows find the same");
        assert!(!ours.is_clean(), "{name} is noticed");
        let found = ours.corruptions + ours.clear_flags;
        assert_eq!(found > 0, *corrupt, "{name}: {:?}", ours.findings);
        assert_eq!(number("corruptions") > 0, *corrupt, "{name}: {theirs}");
        if !corrupt {
            assert_eq!(ours.leaks, number("leaks"), "{name}: {theirs}");
            assert!(repaired(&disk, Repair::Leaks).is_clean(), "{name}");
        } else {
            let after = repaired(&disk, Repair::All);
            assert!(after.is_clean(), "{name}: {:?}", after.findings);
            assert_eq!(after.corruptions_fixed, ours.corruptions, "{name}");
        }
        assert!(checked(&disk, 0).is_clean(), "{name}");
        std::fs::write(&path, disk.bytes()).expect("there is room");
        peer::checks_clean(&path, name);
        let read = |at: u64| {
            let bytes = disk.bytes();
            let at = usize::try_from(at).expect("images are small");
            bytes[at..at + 4096].to_vec()
        };
        let image = Damaged(disk.bytes());
        assert_eq!(read(image.data(0)), [1; 4096], "{name}: data stay");
    }
}

#[test]
fn what_cannot_be_followed_is_told_and_nothing_is_given_up() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("qcow2-unfollowed");
    let whole = whole(&folder);
    let damages: [Damage; 4] = [
        ("L1 entry not at a cluster", true, |image| image.put(image.l1(), 5 << 9 | OWN)),
        ("L1 entry behind the end", true, |image| image.put(image.l1(), 1 << 40 | OWN)),
        ("L2 entry not at a cluster", true, |image| image.put(image.l2(), 5 << 9 | OWN)),
        ("L2 entry behind the end", true, |image| image.put(image.l2(), 1 << 40 | OWN)),
    ];
    for (name, _, damage) in damages {
        let mut image = Damaged(whole.clone());
        damage(&mut image);
        let disk = Disk::new(image.0.clone());
        let before = checked(&disk, 0);
        assert!(before.corruptions > 0 && before.leaks > 0, "{name}: {before:?}");
        for what in [Repair::Leaks, Repair::All] {
            let after = repaired(&disk, what);
            assert_eq!((after.corruptions, after.leaks), (before.corruptions, before.leaks));
            assert!(disk.bytes() == image.0, "{name}: nothing is written");
        }
    }
}

#[test]
fn a_dirty_image_is_repaired_when_it_is_opened_for_writing() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("qcow2-dirty");
    let mut image = Damaged(whole(&folder));
    let data = image.data(1);
    image.set_count(data, 0);
    image.put(72, 1);
    let disk = Disk::new(image.0.clone());
    let file = ImageFile::Disk(&disk);
    run(Image::open("image", file, Caches::default(), true)).expect("it opens for reading");
    assert!(disk.bytes() == image.0, "reading changes nothing");
    run(Image::open("image", file, Caches::default(), false)).expect("it opens for writing");
    let mut whole = Damaged(disk.bytes());
    assert_eq!(whole.get(72), 0, "it is not dirty any more");
    whole.put(72, 1);
    whole.set_count(data, 0);
    assert!(whole.0 == image.0, "and nothing else has changed");
    assert!(checked(&disk, 0).is_clean());
    image.put(image.l1(), 5 << 9 | OWN);
    let disk = Disk::new(image.0.clone());
    let refused = run(Image::open("image", ImageFile::Disk(&disk), Caches::default(), false));
    let said = refused.err().expect("it cannot be repaired").to_string();
    assert!(said.contains("cannot be repaired"), "{said}");
    assert_eq!(Damaged(disk.bytes()).get(72), 1, "it stays dirty");
}
