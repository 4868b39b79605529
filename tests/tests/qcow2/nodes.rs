//! Images as nodes over real files, by the commands that anybody can give.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockyard_block::{BlockLayer, NoObserver, Write};
use blockyard_host::{CreateMode, Host, HostFile};
use blockyard_qmp::{Files, Mode, Monitor, NoWatcher, Opening, Value, parse_json};
use blockyard_runtime::Storage;
use blockyard_units::{ByteRange, Design};
use serde_json::{Value as Json, json};

use super::check::folder;
use super::peer;

struct Paths;

impl Files for Paths {
    fn open(&self, filename: &str, opening: Opening) -> Result<Arc<dyn Storage>, String> {
        let file = HostFile::open(Path::new(filename), opening.read_only);
        Ok(Arc::new(file.map_err(|error| error.to_string())?))
    }

    fn create(&self, filename: &str) -> Result<Arc<dyn Storage>, String> {
        let file = HostFile::create(Path::new(filename), 0, CreateMode::Replace);
        Ok(Arc::new(file.map_err(|error| error.to_string())?))
    }
}

/// A monitor of its own.
pub struct Nodes {
    host: Host,
    pub monitor: Monitor,
}

impl Nodes {
    pub fn new() -> Self {
        Self::with(Design::default())
    }

    /// The same, under a design.
    pub fn with(design: Design) -> Self {
        let host = Host::new(Host::DEFAULT_WORKERS).expect("there are threads");
        let layer = BlockLayer::new(host.runtime(), design, Arc::new(NoObserver));
        let monitor = Monitor::new(layer, Arc::new(Paths), Arc::new(NoWatcher));
        Self { host, monitor }
    }

    /// Executes a command.
    pub fn execute(&self, command: &str, arguments: &Json) -> Result<Value, String> {
        let arguments = parse_json(&arguments.to_string()).expect("it is JSON");
        let arguments = arguments.into_dict().expect("arguments are members");
        let done = self.monitor.execute(command, arguments, Mode::Strict);
        self.host.block_on(done).map_err(|error| error.desc)
    }

    /// The same, which must succeed.
    pub fn done(&self, command: &str, arguments: &Json) {
        let done = self.execute(command, arguments);
        assert!(done.is_ok(), "{command} {arguments}: {:?}", done.err());
    }

    /// Has the guest of the node `top` write this; then everything is closed, which must succeed.
    pub fn try_write(&self, offset: u64, bytes: Vec<u8>) -> Result<(), String> {
        self.host.block_on(async {
            let disk = self.monitor.attach_device("disk", "top", false).await;
            let disk = disk.map_err(|error| error.desc).expect("it is attached");
            let done = disk.write(Write::data(offset, bytes.into())).await;
            self.monitor.close_all().await.expect("it closes");
            done.map_err(|error| error.to_string())
        })
    }

    /// What comes of waiting.
    pub fn waited<T>(&self, task: impl Future<Output = T>) -> T {
        self.host.block_on(task)
    }

    /// A new device over the node `top` writes, and stays.
    pub fn write_top(&self, device: &str, offset: u64, bytes: Vec<u8>) {
        self.host.block_on(async {
            let disk = self.monitor.attach_device(device, "top", false).await;
            let disk = disk.map_err(|error| error.desc).expect("it is attached");
            disk.write(Write::data(offset, bytes.into())).await.expect("it writes");
        });
    }

    /// Closes everything.
    pub fn close(self) {
        self.host.block_on(self.monitor.close_all()).expect("it closes");
    }

    /// What the guest reads of the node `top`, after it has written `writes`; then everything is closed.
    pub fn use_top(self, writes: &[(u64, Vec<u8>)]) -> Vec<u8> {
        self.host.block_on(async {
            let disk = self.monitor.attach_device("disk", "top", false).await;
            let disk = disk.map_err(|error| error.desc).expect("it is attached");
            for (offset, bytes) in writes {
                let write = Write::data(*offset, bytes.clone().into());
                disk.write(write).await.expect("it writes");
            }
            let len = disk.len().expect("it has a length").0;
            let read = disk.read(ByteRange::new(0, len)).await.expect("it reads");
            self.monitor.close_all().await.expect("it closes");
            read.to_vec()
        })
    }
}

/// A `file` node with this file.
pub fn file(path: &Path) -> Json {
    json!({ "driver": "file", "filename": path })
}

/// What `qemu-img` reads of an image that is opened with these options.
pub fn converted(options: &[&str], raw: &Path) -> Vec<u8> {
    let to = raw.to_string_lossy();
    let arguments = [&["convert"], options, &["-O", "raw", &to]].concat();
    peer::call("qemu-img", &arguments);
    std::fs::read(raw).expect("it was written")
}

/// What is written to each image: parts of clusters, and some that follow each other.
pub fn writes() -> Vec<(u64, Vec<u8>)> {
    [(1000, 700), (60 << 10, 80 << 10), (900 << 10, 1024)]
        .into_iter()
        .map(|(offset, len)| (offset, (0..len).map(|at| (at * 7 + 3) as u8).collect()))
        .collect()
}

/// `bytes` with what is written.
pub fn written(mut bytes: Vec<u8>) -> Vec<u8> {
    for (offset, data) in writes() {
        bytes[offset as usize..][..data.len()].copy_from_slice(&data);
    }
    bytes
}

#[test]
fn external_data_files_that_qemu_made_are_found_by_their_names() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("data-files");
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let (image, data, raw) = (path("image.qcow2"), path("data"), path("expected"));
    let name = image.to_string_lossy().into_owned();
    for (is_raw, more) in [("off", ""), ("on", ""), ("off", ",extended_l2=on")] {
        let options = format!("data_file={},data_file_raw={is_raw}{more}", data.to_string_lossy());
        peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, &name, "1M"]);
        let fill = ["-f", "qcow2", "-d", "unmap", "-c", "write -P 5 0 300k", "-c"];
        let commands = ["write -z 4k 70k", "-c", "discard 128k 64k", "-c", "write -P 6 1000k 24k"];
        peer::call("qemu-io", &[&fill[..], &commands[..], &[&name]].concat());
        for given in [false, true] {
            let expected = written(converted(&["-f", "qcow2", &name], &raw));
            let nodes = Nodes::new();
            let mut node = json!({ "driver": "qcow2", "node-name": "top", "file": file(&image) });
            if given {
                node["data-file"] = file(&data);
            }
            nodes.done("blockdev-add", &node);
            assert!(nodes.use_top(&writes()) == expected, "{options} {given}: what it reads");
            let now = converted(&["-f", "qcow2", &name], &raw);
            assert!(now == expected, "{options} {given}: what QEMU reads");
            let plain = std::fs::read(&data).expect("it is there");
            assert!(is_raw == "off" || plain == expected, "{options} {given}: the data file");
            peer::checks_clean(&image, &options);
        }
    }
    let nodes = Nodes::new();
    std::fs::remove_file(&data).expect("it is there");
    let node = json!({ "driver": "qcow2", "node-name": "top", "file": file(&image) });
    let said = nodes.execute("blockdev-add", &node).expect_err("its data file is gone");
    assert!(said.starts_with("the data file of node 'top': "), "{said}");
    // Options in place of its name: what is in an image has no say over what is opened.
    let mut bytes = std::fs::read(&image).expect("it is there");
    let data = data.to_string_lossy();
    let at = bytes.windows(data.len()).position(|window| window == data.as_bytes());
    let at = at.expect("the image names its data file");
    bytes[at..at + data.len()].fill(b' ');
    let options = br#"json:{"driver":"null-co"}"#;
    bytes[at..at + options.len()].copy_from_slice(options);
    std::fs::write(&image, bytes).expect("it can be written");
    let said = nodes.execute("blockdev-add", &node).expect_err("there is no file of that name");
    assert!(said.starts_with("the data file of node 'top': "), "{said}");
    peer::call("qemu-img", &["create", "-q", "-f", "qcow2", &name, "1M"]);
    let node = json!({ "driver": "qcow2", "node-name": "top", "file": file(&image),
                       "data-file": { "driver": "null-co", "size": 1 << 20 } });
    let said = nodes.execute("blockdev-add", &node).expect_err("it has none");
    assert!(said.contains("data-file: the image has its data in its own file"), "{said}");
}

/// A secret with this id and the test's passphrase.
pub const SECRET: &str = "secret,id=s,data=correct horse";

/// Adds the secret of that id.
pub fn add_secret(nodes: &Nodes, data: &str) {
    nodes.done("object-add", &json!({ "qom-type": "secret", "id": "s", "data": data }));
}

#[test]
fn images_that_qemu_encrypted_are_read_and_written_on() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("encrypted");
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let (image, data, raw) = (path("image.qcow2"), path("data"), path("expected"));
    let name = image.to_string_lossy().into_owned();
    let opened =
        format!("driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename={name}");
    let with_secret = ["--object", SECRET, "--image-opts", &opened];
    let node = json!({ "driver": "qcow2", "node-name": "top", "file": file(&image),
                       "encrypt": { "format": "luks", "key-secret": "s" } });
    let data_file = format!("extended_l2=on,data_file={}", data.to_string_lossy());
    // QEMU takes a second or so to make one.
    for more in ["encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv", &data_file] {
        let options =
            format!("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,{more}");
        let create = ["create", "-q", "-f", "qcow2", "--object", SECRET, "-o", &options];
        peer::call("qemu-img", &[&create[..], &[&name, "1M"]].concat());
        let mut fill = vec!["-c", "write -P 5 0 300k", "-c", "write -z 128k 70k"];
        if more != data_file {
            fill.extend(["-c", "write -c -P 7 512k 64k"]);
        }
        peer::call("qemu-io", &[&fill[..], &with_secret].concat());
        let expected = written(converted(&with_secret, &raw));
        let nodes = Nodes::new();
        add_secret(&nodes, "correct horse");
        nodes.done("blockdev-add", &node);
        assert!(nodes.use_top(&writes()) == expected, "{more}: what it reads");
        assert!(converted(&with_secret, &raw) == expected, "{more}: what QEMU reads");
        peer::opens_clean(&with_secret, more);
    }
    let refused = |passphrase: &str, node: &Json, said: &str| {
        let nodes = Nodes::new();
        add_secret(&nodes, passphrase);
        let error = nodes.execute("blockdev-add", node).expect_err("it does not open");
        assert!(error.contains(said), "not '{said}': {error}");
    };
    refused("battery staple", &node, "the passphrase opens none of the key slots");
    let plain = json!({ "driver": "qcow2", "node-name": "top", "file": file(&image) });
    refused("correct horse", &plain, "the image is encrypted: give 'encrypt' with 'key-secret'");
    peer::call("qemu-img", &["create", "-q", "-f", "qcow2", &name, "1M"]);
    refused("correct horse", &node, "the image is not encrypted");
    let aes = ["create", "-q", "-f", "qcow2", "--object", SECRET, "-o"];
    let options = "encrypt.format=aes,encrypt.key-secret=s";
    peer::call("qemu-img", &[&aes[..], &[options, &name, "1M"]].concat());
    refused("correct horse", &node, "encrypted by the old method AES");
}
