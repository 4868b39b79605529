//! 1 GiB that a job copies: a mirror until it is in sync, a commit that is followed until it is ready, and others until
//! they are pending; idle, and beside a guest that writes to what is copied or to what copies come to.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use blockyard_qcow2::CreateOptions;
use blockyard_qmp::Dict;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::common::figure::{Absent, Figure, Group, Target, Unit};
use crate::common::layer::Layer;
use crate::common::machine::{Folder, forget_peak, peak_kib, processor_s, shared};
use crate::common::qemu::Daemon;
use crate::copy::convert;
use crate::guest::{Guest, Suffered};
use crate::images::make;

const DISK: u64 = 1 << 30;
/// The event of a job that prepares something.
const ENDED: &str = "BLOCK_JOB_COMPLETED";
const MIB: f64 = (1 << 20) as f64;

#[derive(Clone, Copy)]
struct Copied {
    how: How,
    /// Of what is copied to; of what a stream copies from, as only images can be streamed into.
    format: &'static str,
    direct: bool,
    /// A guest writes.
    beside: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Mirror,
    ActiveMirror,
    Backup,
    /// Of all, as a bitmap says.
    Incremental,
    Commit,
    /// Of what the guest writes.
    ActiveCommit,
    Stream,
}

/// A command, and its arguments.
type Command = (&'static str, String);

struct Took {
    passed_s: f64,
    processor_s: f64,
    /// Of the whole process, ours with the bench.
    peak_kib: f64,
    guest: Option<Suffered>,
}

/// A file of data, nothing of which can be left out.
fn source() -> PathBuf {
    shared("source.raw", |path| {
        let mut file = File::create(path).expect("the folder is writable");
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut data = vec![0; 1 << 20];
        for _ in 0..DISK / data.len() as u64 {
            random.fill_bytes(&mut data);
            file.write_all(&data).expect("there is room");
        }
    })
}

/// An image with that data.
fn image() -> PathBuf {
    let source = source();
    shared("source.qcow2", |path| {
        make(path, &CreateOptions::new(DISK));
        convert("raw", &source, "qcow2", path);
    })
}

impl Copied {
    /// The commands that open both sides, `src` and `dst`, and prepare them.
    fn prepare(self, folder: &Folder) -> Vec<Command> {
        let cache = format!(r#""cache": {{"direct": {}}}, "aio": "io_uring""#, self.direct);
        let file = |path: &Path| {
            format!(r#"{{"driver": "file", "filename": "{}", {cache}}}"#, path.display())
        };
        let add = |node: &str, driver: &str, path: &Path, backing: &str| {
            let file = file(path);
            let node = format!(r#""driver": "{driver}", "node-name": "{node}", "file": {file}"#);
            ("blockdev-add", format!("{{{node}{backing}}}"))
        };
        let over = |below: &str| format!(r#", "backing": "{below}""#);
        let empty = |name: &str| {
            let path = folder.path(name);
            make(&path, &CreateOptions::new(DISK));
            path
        };
        match self.how {
            How::Mirror | How::ActiveMirror | How::Backup => {
                let target = self.make_target(folder, self.format);
                vec![add("src", "raw", &source(), ""), add("dst", self.format, &target, "")]
            }
            How::Incremental => {
                let path = folder.path("src");
                let made = File::create(&path).and_then(|file| file.set_len(DISK));
                made.expect("the folder is writable");
                let target = self.make_target(folder, self.format);
                let written =
                    r#"{"job-id": "w", "device": "from", "target": "src", "sync": "full"}"#;
                vec![
                    add("from", "raw", &source(), ""),
                    add("src", "raw", &path, ""),
                    add("dst", self.format, &target, ""),
                    ("block-dirty-bitmap-add", r#"{"node": "src", "name": "b"}"#.into()),
                    ("blockdev-backup", written.into()),
                ]
            }
            How::Commit | How::ActiveCommit => {
                let base = self.make_target(folder, self.format);
                let mut all = vec![
                    add("dst", self.format, &base, ""),
                    add("src", "qcow2", &image(), &over("dst")),
                ];
                if self.how == How::Commit {
                    all.push(add("over", "qcow2", &empty("over"), &over("src")));
                }
                all
            }
            How::Stream => {
                let source = if self.format == "raw" { source() } else { image() };
                let target = self.make_target(folder, "qcow2");
                vec![
                    add("src", self.format, &source, ""),
                    add("dst", "qcow2", &target, &over("src")),
                ]
            }
        }
    }

    /// What the page cache is to take has been memory of this machine before: one that runs on another may have given
    /// it back, and waits for each page that it gets anew.
    fn make_target(self, folder: &Folder, format: &str) -> PathBuf {
        let path = folder.path("target");
        if !self.direct {
            let mut file = File::create(&path).expect("the folder is writable");
            let data = vec![0x5A; 1 << 20];
            for _ in 0..DISK / data.len() as u64 {
                file.write_all(&data).expect("there is room");
            }
        }
        if format == "qcow2" {
            make(&path, &CreateOptions::new(DISK));
        } else {
            let file = File::create(&path).expect("the folder is writable");
            file.set_len(DISK).expect("there is room");
        }
        path
    }

    /// The command, and the event that says that all is copied.
    fn command(self) -> (Command, &'static str) {
        let (command, rest) = match self.how {
            How::Mirror => ("blockdev-mirror", r#""sync": "full", "copy-mode": "background""#),
            How::ActiveMirror => {
                ("blockdev-mirror", r#""sync": "full", "copy-mode": "write-blocking""#)
            }
            How::Backup => ("blockdev-backup", r#""sync": "full", "auto-finalize": false"#),
            How::Incremental => (
                "blockdev-backup",
                r#""sync": "incremental", "bitmap": "b", "auto-finalize": false"#,
            ),
            How::Commit => ("block-commit", r#""top-node": "src", "auto-finalize": false"#),
            How::ActiveCommit => ("block-commit", r#""auto-finalize": false"#),
            How::Stream => ("block-stream", r#""auto-finalize": false"#),
        };
        let ends = match command {
            "block-commit" if self.how == How::Commit => r#""device": "over", "base-node": "dst""#,
            "block-commit" => r#""device": "src", "base-node": "dst""#,
            "block-stream" => r#""device": "dst""#,
            _ => r#""device": "src", "target": "dst""#,
        };
        let ready = matches!(self.how, How::Mirror | How::ActiveMirror | How::ActiveCommit);
        let event = if ready { "BLOCK_JOB_READY" } else { "BLOCK_JOB_PENDING" };
        ((command, format!(r#"{{"job-id": "m", {ends}, {rest}}}"#)), event)
    }

    /// Where the guest writes.
    fn written(self) -> &'static str {
        if self.how == How::Stream { "dst" } else { "src" }
    }

    /// Both sides begin with what was prepared on the disk: not every backup flushes what it has written.
    fn settle(self, folder: &Folder) {
        if self.how == How::Incremental {
            let src = File::open(folder.path("src"));
            src.and_then(|file| file.sync_all()).expect("the disk takes it");
        }
    }

    fn ours(self) -> Took {
        let folder = Folder::own();
        let layer = Layer::new();
        for (command, arguments) in self.prepare(&folder) {
            let ended = layer.monitor.events().subscribe(vec![ENDED.into()]);
            layer.execute(command, [arguments]);
            if command == "blockdev-backup" {
                let event = layer.host.block_on(ended.wait(vec![(ENDED.into(), Dict::new())]));
                assert!(event.data.get("error").is_none(), "{event:?}");
            }
        }
        self.settle(&folder);
        let ((command, arguments), event) = self.command();
        let told = layer.monitor.events().subscribe(vec![event.into()]);
        let guest = self.beside.then(|| Guest::ours(&layer, self.written(), DISK));
        forget_peak(std::process::id());
        let (began, began_s) = (Instant::now(), processor_s());
        layer.execute(command, [arguments]);
        layer.host.block_on(told.wait(vec![(event.into(), Dict::new())]));
        let (passed_s, processor_s) = (began.elapsed().as_secs_f64(), processor_s() - began_s);
        Took { passed_s, processor_s, peak_kib: peak_kib(), guest: guest.map(Guest::stop) }
    }

    fn qemu(self) -> Result<Took, Absent> {
        let folder = Folder::own();
        let mut daemon = Daemon::start()?;
        for (command, arguments) in self.prepare(&folder) {
            daemon.execute(command, [arguments]);
            if command == "blockdev-backup" {
                daemon.wait(ENDED);
            }
        }
        self.settle(&folder);
        let ((command, arguments), event) = self.command();
        let guest = self.beside.then(|| Guest::of_qemu(&mut daemon, self.written(), DISK));
        daemon.forget_peak();
        let (began, began_s) = (Instant::now(), daemon.processor_s());
        daemon.execute(command, [arguments]);
        daemon.wait(event);
        let (passed_s, processor_s) =
            (began.elapsed().as_secs_f64(), daemon.processor_s() - began_s);
        let peak_kib = daemon.peak_kib();
        Ok(Took { passed_s, processor_s, peak_kib, guest: guest.map(Guest::stop) })
    }
}

impl Took {
    /// In the order of the tables below.
    fn figures(self) -> Vec<f64> {
        let mut figures = vec![DISK as f64 / MIB / self.passed_s, self.processor_s, self.peak_kib];
        if let Some(guest) = self.guest {
            figures.extend([0.5, 0.99, 1.0].map(|share| guest.quantile(share)));
            figures.push(guest.per_second);
        }
        figures
    }
}

const fn figure(what: &'static str, unit: Unit, target: Target) -> Figure {
    Figure { what, unit, target }
}

const fn rate(what: &'static str, least: f64) -> Figure {
    figure(what, Unit::MibPerSecond, Target::PeerAtLeast(least))
}

const CPU: Figure = figure("    processor time", Unit::Seconds, Target::None);
const HALF_CPU: Figure = Figure { target: Target::PeerAtMost(0.5), ..CPU };
const MEMORY: Figure = figure("    memory", Unit::Kib, Target::None);
const LITTLE: Figure = Figure { target: Target::AtMost(32.0 * 1024.0), ..MEMORY };

/// Of a guest beside it.
const BESIDE: [Figure; 4] = [
    figure(
        "    guest's writes (ours in-process, QEMU's over NBD), half",
        Unit::Milliseconds,
        Target::None,
    ),
    figure("        99 of 100", Unit::Milliseconds, Target::AtMost(0.010)),
    figure("        all", Unit::Milliseconds, Target::None),
    figure("        of 2000/s", Unit::PerSecond, Target::AtLeast(1800.0)),
];

/// How each is done, and the figures that it gives.
macro_rules! groups {
    ($($name:literal, $figures:expr, $how:ident, $format:literal, $direct:literal, $beside:literal;)*) => {
        &[$({
            const HOW: Copied =
                Copied { how: How::$how, format: $format, direct: $direct, beside: $beside };
            Group {
                name: $name,
                figures: $figures,
                qemu: || HOW.qemu().map(Took::figures),
                ours: || Ok(HOW.ours().figures()),
            }
        },)*]
    };
}

const fn beside(what: &'static str) -> [Figure; 7] {
    let [half, most, all, rates] = BESIDE;
    [figure(what, Unit::MibPerSecond, Target::None), CPU, MEMORY, half, most, all, rates]
}

/// The guest is to have what it had without the job, and the job to be no slower for it.
const fn backup_beside(what: &'static str) -> [Figure; 7] {
    let [half, most, all, rates] = BESIDE;
    [rate(what, 1.0), CPU, LITTLE, half, most, all, rates]
}

const fn backup(what: &'static str, least: f64) -> [Figure; 3] {
    [rate(what, least), HALF_CPU, LITTLE]
}

const fn other(what: &'static str, least: f64) -> [Figure; 3] {
    [rate(what, least), CPU, MEMORY]
}

pub const GROUPS: &[Group] = groups! {
    "mirror-raw", &other("mirror of 1 GiB, page cache: raw to raw", 1.3), Mirror, "raw", false, false;
    "mirror-qcow2", &other("    raw to qcow2", 1.3), Mirror, "qcow2", false, false;
    "mirror-direct-raw", &[rate("mirror of 1 GiB, O_DIRECT: raw to raw", 1.0), HALF_CPU, MEMORY],
        Mirror, "raw", true, false;
    "mirror-direct-qcow2", &[rate("    raw to qcow2", 1.0), HALF_CPU, MEMORY],
        Mirror, "qcow2", true, false;
    "guest-raw", &beside("mirror beside a guest, page cache: raw to raw"),
        Mirror, "raw", false, true;
    "guest-active-raw", &beside("    active"), ActiveMirror, "raw", false, true;
    "guest-qcow2", &beside("    raw to qcow2"), Mirror, "qcow2", false, true;
    "guest-active-qcow2", &beside("    active"), ActiveMirror, "qcow2", false, true;
    "guest-direct-raw", &beside("mirror beside a guest, O_DIRECT: raw to raw"),
        Mirror, "raw", true, true;
    "guest-direct-active-raw", &beside("    active"), ActiveMirror, "raw", true, true;
    "guest-direct-qcow2", &beside("    raw to qcow2"), Mirror, "qcow2", true, true;
    "guest-direct-active-qcow2", &beside("    active"), ActiveMirror, "qcow2", true, true;
    "backup-raw", &backup("backup of 1 GiB, page cache: raw to raw", 1.5),
        Backup, "raw", false, false;
    "backup-qcow2", &backup("    raw to qcow2", 1.5), Backup, "qcow2", false, false;
    "backup-direct-raw", &backup("backup of 1 GiB, O_DIRECT: raw to raw", 1.0),
        Backup, "raw", true, false;
    "backup-direct-qcow2", &backup("    raw to qcow2", 1.0), Backup, "qcow2", true, false;
    "incremental-raw", &backup("incremental backup of 1 GiB, page cache: raw to raw", 1.5),
        Incremental, "raw", false, false;
    "incremental-qcow2", &backup("    raw to qcow2", 1.5), Incremental, "qcow2", false, false;
    "incremental-direct-raw", &backup("incremental backup of 1 GiB, O_DIRECT: raw to raw", 1.0),
        Incremental, "raw", true, false;
    "incremental-direct-qcow2", &backup("    raw to qcow2", 1.0), Incremental, "qcow2", true, false;
    "guest-backup-raw", &backup_beside("backup beside a guest, page cache: raw to raw"),
        Backup, "raw", false, true;
    "guest-backup-qcow2", &backup_beside("    raw to qcow2"), Backup, "qcow2", false, true;
    "guest-backup-direct-raw", &backup_beside("backup beside a guest, O_DIRECT: raw to raw"),
        Backup, "raw", true, true;
    "guest-backup-direct-qcow2", &backup_beside("    raw to qcow2"), Backup, "qcow2", true, true;
    "commit-raw", &other("commit of 1 GiB, page cache: qcow2 to raw", 1.5),
        Commit, "raw", false, false;
    "commit-qcow2", &other("    qcow2 to qcow2", 1.5), Commit, "qcow2", false, false;
    "commit-direct-raw", &other("commit of 1 GiB, O_DIRECT: qcow2 to raw", 1.0),
        Commit, "raw", true, false;
    "commit-direct-qcow2", &other("    qcow2 to qcow2", 1.0), Commit, "qcow2", true, false;
    "guest-commit-raw", &beside("active commit beside a guest, page cache: qcow2 to raw"),
        ActiveCommit, "raw", false, true;
    "guest-commit-qcow2", &beside("    qcow2 to qcow2"), ActiveCommit, "qcow2", false, true;
    "guest-commit-direct-raw", &beside("active commit beside a guest, O_DIRECT: qcow2 to raw"),
        ActiveCommit, "raw", true, true;
    "guest-commit-direct-qcow2", &beside("    qcow2 to qcow2"), ActiveCommit, "qcow2", true, true;
    "stream-raw", &other("stream of 1 GiB, page cache: raw to qcow2", 2.0),
        Stream, "raw", false, false;
    "stream-qcow2", &other("    qcow2 to qcow2", 2.0), Stream, "qcow2", false, false;
    "stream-direct-raw", &other("stream of 1 GiB, O_DIRECT: raw to qcow2", 1.0),
        Stream, "raw", true, false;
    "stream-direct-qcow2", &other("    qcow2 to qcow2", 1.0), Stream, "qcow2", true, false;
    "guest-stream-raw", &beside("stream beside a guest, page cache: raw to qcow2"),
        Stream, "raw", false, true;
    "guest-stream-qcow2", &beside("    qcow2 to qcow2"), Stream, "qcow2", false, true;
    "guest-stream-direct-raw", &beside("stream beside a guest, O_DIRECT: raw to qcow2"),
        Stream, "raw", true, true;
    "guest-stream-direct-qcow2", &beside("    qcow2 to qcow2"), Stream, "qcow2", true, true;
};
