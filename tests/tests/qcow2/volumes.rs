//! LUKS images that commands make, amend and use, with `cryptsetup` (version 2) and QEMU (version 1) as judges of them.
//!
//! Where one of these is absent a test says on standard error that it was skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockyard_peer::Daemon;
use serde_json::{Value as Json, json};
use xts_mode::{Xts128, get_tweak_default};

use super::check::folder;
use super::create::concluded;
use super::nodes::{Nodes, add_secret, file};
use super::peer;

const FIRST: &str = "correct horse";

/// Whether `cryptsetup` is there; says so if not.
fn cryptsetup_is_there() -> bool {
    let found = Command::new("cryptsetup").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: cryptsetup is not installed, and this test compares with it");
    }
    found
}

/// Files of one test, with passphrases in files of their own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = Self(folder(name));
        for passphrase in [FIRST, "theirs", "another"] {
            fs::write(place.path(passphrase), passphrase).expect("it is writable");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Whether `cryptsetup` does this; for key slots this needs no device.
    fn does(&self, arguments: &[&str]) -> bool {
        let done = Command::new("cryptsetup").arg("-q").args(arguments).output();
        let done = done.expect("it is there");
        eprintln!("cryptsetup {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.status.success()
    }

    /// Whether this passphrase opens the image for `cryptsetup`.
    fn opens(&self, image: &str, passphrase: &str) -> bool {
        let (image, key) = (self.text(image), self.text(passphrase));
        self.does(&["open", "--test-passphrase", &image, "--key-file", &key])
    }
}

/// Bytes of which no two sectors are equal.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 32) as u32
    };
    (0..len.div_ceil(4)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

/// A monitor with the secrets `s` (the first passphrase), `t` and `n`.
fn nodes() -> Nodes {
    let nodes = Nodes::new();
    nodes.done("stop", &json!({}));
    add_secret(&nodes, FIRST);
    for (id, data) in [("t", "theirs"), ("n", "another")] {
        nodes.done("object-add", &json!({ "qom-type": "secret", "id": id, "data": data }));
    }
    nodes
}

/// The same with the node `top` on an image.
fn opened(image: &Path, secret: &str) -> Result<Nodes, String> {
    let nodes = nodes();
    let top =
        json!({ "driver": "luks", "node-name": "top", "key-secret": secret, "file": file(image) });
    nodes.execute("blockdev-add", &top)?;
    nodes.done("cont", &json!({}));
    Ok(nodes)
}

/// Makes files, nodes on them, and an image in these.
fn make(place: &Place, children: &[(&str, &str)], options: Json) -> Result<(), String> {
    let nodes = nodes();
    let mut wanted =
        json!({ "driver": "luks", "key-secret": "s", "size": 4 << 20, "iter-time": 10 });
    let members = wanted.as_object_mut().expect("it has members");
    members.extend(options.as_object().expect("options are members").clone());
    for (child, name) in children {
        let options = json!({ "driver": "file", "filename": place.path(name), "size": 0 });
        nodes.done("blockdev-create", &json!({ "job-id": "job", "options": options }));
        concluded(&nodes)?;
        let mut node = file(&place.path(name));
        node["node-name"] = (*child).into();
        nodes.done("blockdev-add", &node);
        members.insert((*child).into(), (*child).into());
    }
    nodes.execute("blockdev-create", &json!({ "job-id": "job", "options": wanted }))?;
    let made = concluded(&nodes);
    nodes.close();
    made
}

/// `plain` as a volume key has it on disk, by an implementation that is none of ours.
fn by_another(key: &[u8], sector: usize, mut plain: Vec<u8>) -> Vec<u8> {
    use aes::cipher::KeyInit;
    let (data, tweak) = key.split_at(key.len() / 2);
    let number = |index: u128| get_tweak_default(index * (sector / 512) as u128);
    if key.len() == 32 {
        let new = |key: &[u8]| aes::Aes128::new_from_slice(key).expect("it has its length");
        Xts128::new(new(data), new(tweak)).encrypt_area(&mut plain, sector, 0, number);
    } else {
        let new = |key: &[u8]| aes::Aes256::new_from_slice(key).expect("it has its length");
        Xts128::new(new(data), new(tweak)).encrypt_area(&mut plain, sector, 0, number);
    }
    plain
}

/// How `cryptsetup` is told to make an image, so that it takes no time, and the bytes of its sectors.
const FORMATS: &[(&str, usize)] = &[
    ("--pbkdf argon2id --pbkdf-memory 64 --pbkdf-parallel 2 --pbkdf-force-iterations 4", 512),
    ("--pbkdf argon2i --pbkdf-memory 64 --pbkdf-force-iterations 4", 4096),
    ("--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --hash sha512 --key-size 256", 512),
    ("--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-metadata-size 64k", 1024),
    ("--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label a --subsystem b --offset 8192", 2048),
];

#[test]
fn what_cryptsetup_formatted_is_used_and_what_is_written_lies_as_its_key_says() {
    if !cryptsetup_is_there() {
        return;
    }
    for (index, (format, sector)) in FORMATS.iter().enumerate() {
        let place = Place::new(&format!("cryptsetup-{index}"));
        let (image, key) = (place.path("a"), place.text(FIRST));
        let created = fs::File::create(&image).and_then(|file| file.set_len(20 << 20));
        created.expect("it is writable");
        let format: Vec<&str> = format.split(' ').collect();
        let sectors = format!("--sector-size={sector}");
        let name = place.text("a");
        let all = [&["luksFormat", "--type=luks2", &sectors], &format[..], &[&name, &key]].concat();
        assert!(place.does(&all), "{format:?}");
        let dump = ["luksDump", "--dump-volume-key", "--key-file", &key, "--volume-key-file"];
        assert!(place.does(&[&dump[..], &[&place.text("volume-key"), &name]].concat()));
        let volume_key = fs::read(place.path("volume-key")).expect("it was dumped");
        let refused = opened(&image, "n").map(drop).expect_err("it is another passphrase");
        assert!(refused.contains("the passphrase opens none of the key slots"), "{refused}");
        let data = noise(100 << 10);
        let read = opened(&image, "s").expect("it is the passphrase").use_top(&[(0, data.clone())]);
        assert!(read.starts_with(&data), "{format:?}");
        let disk = fs::read(&image).expect("it is there");
        let payload = &disk[disk.len() - read.len()..];
        assert!(payload.starts_with(&by_another(&volume_key, *sector, data)), "{format:?}");
        assert!(place.opens("a", FIRST), "{format:?}");
    }
}

/// What we are told to make.
fn second_versions() -> [Json; 4] {
    [
        json!({ "x-version": 2, "x-pbkdf-memory": 64, "x-sector-size": 4096 }),
        json!({ "x-version": 2, "x-pbkdf": "pbkdf2", "hash-alg": "sha512", "cipher-alg": "aes-128" }),
        json!({ "x-version": 2, "x-pbkdf": "pbkdf2", "x-keyslots-size": 2 << 20 }),
        json!({ "x-version": 2, "x-pbkdf-memory": 64, "cipher-mode": "cbc", "ivgen-alg": "essiv" }),
    ]
}

#[test]
fn cryptsetup_opens_what_we_made_and_each_sees_the_other_s_slots() {
    if !cryptsetup_is_there() {
        return;
    }
    for (index, options) in second_versions().into_iter().enumerate() {
        let place = Place::new(&format!("ours-2-{index}"));
        make(&place, &[("file", "a")], options.clone()).expect("it can be made");
        let (image, name) = (place.path("a"), place.text("a"));
        assert!(place.opens("a", FIRST) && !place.opens("a", "theirs"), "{options}");
        let (first, theirs) = (place.text(FIRST), place.text("theirs"));
        let cheap =
            ["--pbkdf", "argon2id", "--pbkdf-memory", "64", "--pbkdf-force-iterations", "4"];
        let add = [&["luksAddKey", "--key-file", &first], &cheap[..], &[&name, &theirs]].concat();
        assert!(place.does(&add), "{options}");
        let data = noise(300 << 10);
        let nodes = opened(&image, "t").expect("it is a passphrase of the image");
        nodes.write_top("disk", 0, data.clone());
        let amend = |slots: Json| {
            let amend = json!({ "job-id": "job", "node-name": "top", "options": slots });
            nodes.done("x-blockdev-amend", &amend);
            concluded(&nodes).expect("it is allowed");
        };
        amend(json!({ "driver": "luks", "state": "active", "new-secret": "n", "iter-time": 10 }));
        amend(json!({ "driver": "luks", "state": "inactive", "old-secret": "s" }));
        nodes.close();
        assert!(place.opens("a", "another") && place.opens("a", "theirs"), "{options}");
        assert!(!place.opens("a", FIRST), "{options}");
        // One copy of the header is lost: theirs and ours go by the other, and amending brings it back.
        let mut bytes = fs::read(&image).expect("it is there");
        bytes[..4096].fill(0);
        fs::write(&image, bytes).expect("it is writable");
        let nodes = opened(&image, "n").expect("there is another copy");
        let add =
            json!({ "driver": "luks", "state": "active", "new-secret": "s", "iter-time": 10 });
        let amend = json!({ "job-id": "job", "node-name": "top", "options": add });
        nodes.done("x-blockdev-amend", &amend);
        concluded(&nodes).expect("it is allowed");
        assert!(nodes.use_top(&[]).starts_with(&data), "{options}");
        assert!(place.opens("a", FIRST), "{options}");
    }
}

#[test]
fn a_version_2_image_is_refused_what_it_cannot_have() {
    let place = Place::new("refused-2");
    for (options, said) in [
        (json!({ "x-version": 3 }), "x-version: there are 1 and 2"),
        (json!({ "x-sector-size": 4096 }), "x-sector-size: is for images of 'x-version' 2"),
        (json!({ "x-version": 2, "x-sector-size": 513 }), "size: is no whole number of sectors"),
        (json!({ "x-version": 2, "x-sector-size": 256 }), "sectors have 512 bytes"),
        (
            json!({ "x-version": 2, "x-sector-size": 4096, "cipher-mode": "cbc" }),
            "sectors have 512 bytes",
        ),
        (json!({ "x-version": 2, "x-pbkdf-memory": 31 }), "x-pbkdf-memory: refused: 31 KiB"),
        (json!({ "x-version": 2, "x-keyslots-size": 4097 }), "a multiple of 4096"),
        (json!({ "x-version": 2, "x-keyslots-size": 1_u64 << 40 }), "up to 128 MiB"),
        (json!({ "x-version": 2, "x-keyslots-size": 4096 }), "no room for the key material"),
        (
            json!({ "x-version": 2, "x-pbkdf": "pbkdf2", "x-pbkdf-memory": 64 }),
            "x-pbkdf-memory: is for argon2id",
        ),
        (json!({ "key-secret": "q" }), "there is no secret 'q'"),
        (json!({ "cipher-alg": "serpent-256" }), "cipher 'serpent-256'"),
        (json!({ "size": 513 }), "size: is no whole number of sectors"),
    ] {
        let error = make(&place, &[("file", "a")], options.clone()).expect_err("it is refused");
        assert!(error.contains(said), "{options}: {error}");
    }
    let neither = make(&place, &[], json!({})).expect_err("there is no place");
    assert!(neither.contains("file"), "{neither}");
}

/// What `qemu-io` says of reading what was written, with these options of the node.
fn read_by_qemu(options: &str, pattern: u8, len: usize) {
    let object = format!("secret,id=s,data={FIRST}");
    let read = format!("read -P {pattern} 0 {len}");
    let output =
        peer::call("qemu-io", &["--object", &object, "-c", &read, "--image-opts", options]);
    let said = String::from_utf8_lossy(&output.stdout);
    let whole = format!("read {len}/{len}");
    assert!(said.contains(&whole) && !said.contains("failed"), "{options}: {said}");
}

/// Has QEMU make an image of 1 MiB with a header that is detached.
fn make_by_qemu(place: &Place, header: &str, payload: &str) {
    let mut daemon = Daemon::start(|| false).expect("it is there");
    let mut done = |name: &str, arguments: Json| {
        let reply = daemon.done(name, &arguments);
        reply.unwrap_or_else(|error| panic!("{name} {arguments}: {error}"))
    };
    let secret = json!({ "qom-type": "secret", "id": "s", "data": FIRST });
    done("object-add", secret);
    for (node, name) in [("header", header), ("payload", payload)] {
        let created = fs::File::create(place.path(name));
        created.expect("it is writable");
        let mut file = file(&place.path(name));
        file["node-name"] = node.into();
        done("blockdev-add", file);
    }
    let options = json!({ "driver": "luks", "file": "payload", "header": "header",
        "key-secret": "s", "size": 1 << 20, "iter-time": 10 });
    done("blockdev-create", json!({ "job-id": "job", "options": options }));
    while !done("query-jobs", json!({})).to_string().contains("concluded") {
        std::thread::yield_now();
    }
    done("job-dismiss", json!({ "id": "job" }));
    daemon.quit().expect("it ends");
}

#[test]
fn a_header_may_lie_in_another_node_as_qemu_has_it() {
    if !peer::is_there() {
        return;
    }
    let place = Place::new("detached");
    let top = |header: &str, payload: &str| {
        json!({ "driver": "luks", "node-name": "top", "key-secret": "s",
            "file": file(&place.path(payload)), "header": file(&place.path(header)) })
    };
    let both = |header: &str, payload: &str| {
        let (header, payload) = (place.text(header), place.text(payload));
        format!("driver=luks,key-secret=s,file.filename={payload},header.filename={header}")
    };
    let written = |header: &str, payload: &str, byte: u8| {
        let nodes = nodes();
        nodes.done("blockdev-add", &top(header, payload));
        nodes.done("cont", &json!({}));
        nodes.use_top(&[(0, vec![byte; 64 << 10])])
    };
    // Ours.
    make(&place, &[("header", "h"), ("file", "p")], json!({})).expect("it can be made");
    assert_eq!(fs::metadata(place.path("p")).expect("it is there").len(), 4 << 20);
    assert_eq!(written("h", "p", 3).len(), 4 << 20);
    read_by_qemu(&both("h", "p"), 3, 64 << 10);
    // Theirs.
    make_by_qemu(&place, "theirs-h", "theirs-p");
    assert_eq!(written("theirs-h", "theirs-p", 4).len(), 1 << 20);
    read_by_qemu(&both("theirs-h", "theirs-p"), 4, 64 << 10);
    // Version 2, where `cryptsetup` can say something of the header.
    let options = json!({ "x-version": 2, "x-pbkdf-memory": 64 });
    make(&place, &[("header", "h2"), ("file", "p2")], options).expect("it can be made");
    assert_eq!(written("h2", "p2", 5).len(), 4 << 20);
    if cryptsetup_is_there() {
        let (header, payload, key) = (place.text("h2"), place.text("p2"), place.text(FIRST));
        let open = ["open", "--test-passphrase", "--key-file", &key, "--header", &header, &payload];
        assert!(place.does(&open));
    }
}

/// More than any buffer on the way, each way.
#[test]
fn a_hundred_mebibytes_are_the_same_for_qemu_img_both_ways() {
    if !peer::is_there() {
        return;
    }
    const LEN: usize = 100 << 20;
    let place = Place::new("hundred");
    let data = noise(LEN);
    fs::write(place.path("plain"), &data).expect("it is writable");
    let (plain, object) = (place.text("plain"), format!("secret,id=s,data={FIRST}"));
    make(&place, &[("file", "ours")], json!({ "size": LEN })).expect("it can be made");
    let nodes = opened(&place.path("ours"), "s").expect("it is the passphrase");
    let writes: Vec<(u64, Vec<u8>)> =
        (0_u64..).zip(data.chunks(8 << 20)).map(|(n, part)| (n * (8 << 20), part.into())).collect();
    assert!(nodes.use_top(&writes) == data, "what was written came back otherwise");
    let image = |name| format!("driver=luks,key-secret=s,file.filename={}", place.text(name));
    let raw = format!("driver=raw,file.filename={plain}");
    let compare = ["compare", "--object", &object, "--image-opts", &image("ours"), &raw];
    peer::call("qemu-img", &compare);
    let theirs = place.text("theirs-image");
    let options = "key-secret=s,iter-time=10";
    let convert = ["convert", "-f", "raw", "-O", "luks", "--object", &object, "-o", options];
    peer::call("qemu-img", &[&convert[..], &[&plain, &theirs]].concat());
    let read = opened(&place.path("theirs-image"), "s").expect("it is the passphrase").use_top(&[]);
    assert!(read == data, "what they wrote is read otherwise");
    let _ = fs::remove_dir_all(&place.0);
}
