//! Encrypted images, ours and those of `qemu-img`: each reads what the other wrote.
//!
//! Where `qemu-img` or `qemu-io` is absent a test says on standard error that it was skipped.
#![allow(clippy::disallowed_methods)] // the process id keeps runs apart; nothing here is explored

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use blockyard_block::{BlockLayer, NoObserver, Write};
use blockyard_crypto::{CipherSpec, Hash, Header, Iterations};
use blockyard_host::{Host, HostFile};
use blockyard_qmp::{Files, Mode, Monitor, NoWatcher, Opening, parse_keyval};
use blockyard_runtime::Storage;
use blockyard_units::{ByteRange, Design};

const LEN: u64 = 256 << 10;
const PASSPHRASE: &str = "correct horse";

/// `qemu-img`'s options of a cipher.
const CIPHERS: &[&str] = &[
    "",
    "cipher-alg=aes-128",
    "cipher-alg=aes-192,hash-alg=sha512",
    "ivgen-alg=plain,hash-alg=sha1",
    "ivgen-hash-alg=sha512,hash-alg=sha384",
    "cipher-mode=cbc,hash-alg=ripemd160",
    "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha224",
    "cipher-mode=cbc,ivgen-alg=essiv",
    "ivgen-alg=essiv,ivgen-hash-alg=sha256",
];

struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let name = format!("blockyard-{}-luks-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the directory for temporary files is writable");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    let absent = matches!(&found, Err(error) if error.kind() == ErrorKind::NotFound);
    if absent {
        eprintln!("skipped: {program} is not installed");
    }
    !absent
}

fn secret() -> String {
    format!("secret,id=s,data={PASSPHRASE}")
}

/// Runs a tool of QEMU's in the directory; whether it did what it was told, and what it said.
fn run(directory: &Path, program: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(directory).output().expect("it is installed");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn done(directory: &Path, program: &str, arguments: &[&str]) {
    let (done, said) = run(directory, program, arguments);
    assert!(done, "{program} {arguments:?}: {said}");
}

/// Bytes that differ from sector to sector, with zeroes among them.
fn contents(seed: u64) -> Vec<u8> {
    let byte =
        |index: u64| if index / 4096 % 5 == 3 { 0 } else { (index * 7 + index / 512 * seed) as u8 };
    (0..LEN).map(byte).collect()
}

struct Paths(PathBuf);

impl Files for Paths {
    fn open(&self, filename: &str, opening: Opening) -> Result<Arc<dyn Storage>, String> {
        let file = HostFile::open(self.0.join(filename), opening.read_only);
        Ok(Arc::new(file.map_err(|error| error.to_string())?))
    }
}

/// What our own driver makes of the image `a.luks`: reads it whole, and writes what is given.
fn through_us(directory: &Path, passphrase: &str, write: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let host = Host::new(Host::DEFAULT_WORKERS).map_err(|error| error.to_string())?;
    let runtime = host.runtime();
    let layer = BlockLayer::new(runtime, Design::default(), Arc::new(NoObserver));
    let monitor = Monitor::new(layer, Arc::new(Paths(directory.into())), Arc::new(NoWatcher));
    let options = |text: String| {
        let value = parse_keyval(&text, None).expect("the test's options are fine");
        value.into_dict().expect("dotted keys are members")
    };
    host.block_on(async {
        let object = options(format!("qom-type=secret,id=s,data={passphrase}"));
        let added = monitor.execute("object-add", object, Mode::Strings).await;
        added.map_err(|error| error.desc)?;
        let node = "driver=luks,node-name=top,key-secret=s,file.driver=file,file.filename=a.luks";
        let added = monitor.execute("blockdev-add", options(node.into()), Mode::Strings).await;
        added.map_err(|error| error.desc)?;
        let disk =
            monitor.attach_device("disk0", "top", false).await.map_err(|error| error.desc)?;
        let len = disk.len().map_err(|error| error.to_string())?.0;
        if let Some(bytes) = write {
            let written = disk.write(Write::data(0, bytes.to_vec().into())).await;
            written.map_err(|error| error.to_string())?;
            disk.flush().await.map_err(|error| error.to_string())?;
        }
        let read = disk.read(ByteRange::new(0, len)).await;
        Ok(read.map_err(|error| error.to_string())?.to_vec())
    })
}

fn image_options() -> &'static str {
    "driver=luks,key-secret=s,file.driver=file,file.filename=a.luks"
}

#[test]
fn what_qemu_img_encrypted_is_read_and_what_is_written_it_reads() {
    if !has("qemu-img") {
        return;
    }
    for (index, cipher) in CIPHERS.iter().enumerate() {
        let directory = Directory::new(&format!("theirs-{index}"));
        let (theirs, ours) = (contents(3), contents(5));
        fs::write(directory.path("plain"), &theirs).expect("it is writable");
        let options = format!("key-secret=s,iter-time=10,{cipher}");
        let options = options.trim_end_matches(',');
        let convert = ["convert", "-f", "raw", "-O", "luks", "--object", &secret()];
        let convert = [&convert[..], &["-o", options, "plain", "a.luks"]].concat();
        done(&directory.0, "qemu-img", &convert);
        let read = through_us(&directory.0, PASSPHRASE, None);
        assert!(read.as_deref() == Ok(&theirs), "{cipher}: {:?}", read.err());
        let written = through_us(&directory.0, PASSPHRASE, Some(&ours));
        assert!(written.as_deref() == Ok(&ours), "{cipher}: {:?}", written.err());
        fs::write(directory.path("plain"), &ours).expect("it is writable");
        let compare = ["compare", "--object", &secret(), "--image-opts", image_options()];
        let plain = "driver=raw,file.driver=file,file.filename=plain";
        done(&directory.0, "qemu-img", &[&compare[..], &[plain]].concat());
        let refused = through_us(&directory.0, "another", None);
        assert_eq!(refused, Err("the passphrase opens none of the key slots".into()), "{cipher}");
    }
}

/// An image of ours: its header, key material and `bytes`.
fn make(path: &Path, cipher: &str, bytes: &[u8]) -> Header {
    let option = |key: &str| {
        let found = cipher.split(',').filter_map(|part| part.split_once('='));
        found.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let spec = CipherSpec::from_options(
        option("cipher-alg"),
        option("cipher-mode"),
        option("ivgen-alg"),
        option("ivgen-hash-alg"),
    );
    let hash = Hash::named(option("hash-alg").unwrap_or("sha256")).expect("it is known");
    let few = Iterations { slot: 1000, digest: 1000 };
    let mut drawn = 1_u64;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            drawn = drawn.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            *byte = (drawn >> 56) as u8;
        }
    };
    let spec = spec.expect("it is known");
    let made = Header::create(spec, hash, b"first", few, &mut random).expect("it can be made");
    let second =
        made.update.header.add_slot(None, &made.key, PASSPHRASE.as_bytes(), 1000, &mut random);
    let second = second.expect("there is room");
    let header = second.header.clone();
    let mut image = vec![0; header.payload_offset() as usize];
    for update in [&made.update, &second] {
        let at = update.offset as usize;
        image[at..at + update.material.len()].copy_from_slice(&update.material);
    }
    image[..Header::LEN].copy_from_slice(&header.to_bytes());
    let mut payload = bytes.to_vec();
    header.sector_cipher(&made.key).encrypt(0, &mut payload);
    image.extend_from_slice(&payload);
    fs::write(path, image).expect("it is writable");
    header
}

#[test]
fn qemu_img_opens_what_we_made_by_either_passphrase() {
    if !has("qemu-img") {
        return;
    }
    for (index, cipher) in CIPHERS.iter().enumerate() {
        let directory = Directory::new(&format!("ours-{index}"));
        let bytes = contents(9);
        fs::write(directory.path("plain"), &bytes).expect("it is writable");
        let header = make(&directory.path("a.luks"), cipher, &bytes);
        for passphrase in [PASSPHRASE, "first"] {
            let secret = format!("secret,id=s,data={passphrase}");
            let compare = ["compare", "--object", &secret, "--image-opts", image_options()];
            let plain = "driver=raw,file.driver=file,file.filename=plain";
            done(&directory.0, "qemu-img", &[&compare[..], &[plain]].concat());
        }
        let read = through_us(&directory.0, PASSPHRASE, None);
        assert!(read.as_deref() == Ok(&bytes), "{cipher}: {:?}", read.err());
        let (_, said) = run(&directory.0, "qemu-img", &["info", "a.luks"]);
        for fact in [
            format!("payload offset: {}", header.payload_offset()),
            format!("uuid: {}", header.uuid()),
            format!("hash alg: {}", header.hash().word()),
            format!("key offset: {}", header.key_material(7).start()),
        ] {
            assert!(said.contains(&fact), "{cipher}: {fact}: {said}");
        }
    }
}

#[test]
fn slots_that_qemu_img_adds_and_erases_are_seen() {
    if !has("qemu-img") {
        return;
    }
    let directory = Directory::new("amend");
    make(&directory.path("a.luks"), "", &contents(2));
    let amend = |options: &str| {
        let (old, new) = (secret(), "secret,id=n,data=newer".to_owned());
        let objects = ["amend", "--object", &old, "--object", &new, "--force", "-o", options];
        let image = ["--image-opts", image_options()];
        done(&directory.0, "qemu-img", &[&objects[..], &image].concat());
    };
    amend("state=active,new-secret=n,iter-time=10");
    let newer = through_us(&directory.0, "newer", None);
    assert!(newer.as_deref() == Ok(&contents(2)), "{:?}", newer.err());
    amend("state=inactive,old-secret=n");
    let newer = through_us(&directory.0, "newer", None);
    assert_eq!(newer, Err("the passphrase opens none of the key slots".into()));
    assert!(through_us(&directory.0, "first", None).is_ok());
}

#[test]
fn qemu_io_reads_what_was_written_to_a_part() {
    if !has("qemu-io") {
        return;
    }
    let directory = Directory::new("io");
    make(&directory.path("a.luks"), "", &vec![1; LEN as usize]);
    let part = vec![0x7C; 5000];
    through_us(&directory.0, PASSPHRASE, Some(&part)).expect("the passphrase is right");
    let commands = ["-c", "read -P 0x7c 0 5000", "-c", "read -P 1 5000 30000"];
    let open = ["--object", &secret(), "--image-opts", image_options()];
    let (ran, said) = run(&directory.0, "qemu-io", &[&commands[..], &open].concat());
    assert!(ran && !said.contains("verification failed"), "{said}");
}
