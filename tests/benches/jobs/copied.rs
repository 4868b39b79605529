//! A mirror of 1 GiB from its command until it is in sync, and a backup until it is pending: idle, and beside a guest
//! that writes to the source.

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
use crate::common::machine::{Folder, processor_s, shared};
use crate::common::qemu::Daemon;
use crate::guest::{Guest, Suffered};
use crate::images::make;

const DISK: u64 = 1 << 30;
const MIB: f64 = (1 << 20) as f64;

#[derive(Clone, Copy)]
struct Copied {
    how: How,
    /// The target's format.
    target: &'static str,
    direct: bool,
    /// A guest writes.
    beside: bool,
}

#[derive(Clone, Copy)]
enum How {
    Mirror,
    ActiveMirror,
    Backup,
}

struct Took {
    passed_s: f64,
    processor_s: f64,
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

impl Copied {
    /// The commands that open both sides, over a target that is there.
    fn opens(self, target: &Path) -> Vec<String> {
        let cache = format!(r#""cache": {{"direct": {}}}, "aio": "io_uring""#, self.direct);
        let file = |node: &str, path: &Path| {
            let (driver, path) = (r#""driver": "file""#, path.display());
            format!(r#"{{{driver}, "node-name": "{node}", "filename": "{path}", {cache}}}"#)
        };
        let mut opens = vec![file("src", &source()), file("file", target)];
        let format = self.target;
        opens.push(format!(r#"{{"driver": "{format}", "node-name": "dst", "file": "file"}}"#));
        opens
    }

    /// What the page cache is to take has been memory of this machine before: one that runs on another may have given
    /// it back, and waits for each page that it gets anew.
    fn make_target(self, folder: &Folder) -> PathBuf {
        let path = folder.path("target");
        if !self.direct {
            let mut file = File::create(&path).expect("the folder is writable");
            let data = vec![0x5A; 1 << 20];
            for _ in 0..DISK / data.len() as u64 {
                file.write_all(&data).expect("there is room");
            }
        }
        if self.target == "qcow2" {
            make(&path, &CreateOptions::new(DISK));
        } else {
            let file = File::create(&path).expect("the folder is writable");
            file.set_len(DISK).expect("there is room");
        }
        path
    }

    /// The command, its arguments, and the event that says that all is copied.
    fn command(self) -> (&'static str, String, &'static str) {
        let job = r#""job-id": "m", "device": "src", "target": "dst", "sync": "full""#;
        let (command, rest, event) = match self.how {
            How::Mirror => ("blockdev-mirror", r#""copy-mode": "background""#, "BLOCK_JOB_READY"),
            How::ActiveMirror => {
                ("blockdev-mirror", r#""copy-mode": "write-blocking""#, "BLOCK_JOB_READY")
            }
            How::Backup => ("blockdev-backup", r#""auto-finalize": false"#, "BLOCK_JOB_PENDING"),
        };
        (command, format!("{{{job}, {rest}}}"), event)
    }

    fn ours(self) -> Took {
        let folder = Folder::own();
        let layer = Layer::new();
        layer.execute("blockdev-add", self.opens(&self.make_target(&folder)));
        let (command, arguments, event) = self.command();
        let told = layer.monitor.events().subscribe(vec![event.into()]);
        let guest = self.beside.then(|| Guest::ours(&layer, "src", DISK));
        let (began, began_s) = (Instant::now(), processor_s());
        layer.execute(command, [arguments]);
        layer.host.block_on(told.wait(vec![(event.into(), Dict::new())]));
        let (passed_s, processor_s) = (began.elapsed().as_secs_f64(), processor_s() - began_s);
        Took { passed_s, processor_s, guest: guest.map(Guest::stop) }
    }

    fn qemu(self) -> Result<Took, Absent> {
        let folder = Folder::own();
        let mut daemon = Daemon::start()?;
        daemon.execute("blockdev-add", self.opens(&self.make_target(&folder)));
        let (command, arguments, event) = self.command();
        let guest = self.beside.then(|| Guest::of_qemu(&mut daemon, "src", DISK));
        let (began, began_s) = (Instant::now(), daemon.processor_s());
        daemon.execute(command, [arguments]);
        daemon.wait(event);
        let (passed_s, processor_s) =
            (began.elapsed().as_secs_f64(), daemon.processor_s() - began_s);
        Ok(Took { passed_s, processor_s, guest: guest.map(Guest::stop) })
    }
}

impl Took {
    /// In the order of the tables below.
    fn figures(self) -> Vec<f64> {
        let mut figures = vec![DISK as f64 / MIB / self.passed_s, self.processor_s];
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
    ($($name:literal, $figures:expr, $how:ident, $target:literal, $direct:literal, $beside:literal;)*) => {
        &[$({
            const HOW: Copied =
                Copied { how: How::$how, target: $target, direct: $direct, beside: $beside };
            Group {
                name: $name,
                figures: $figures,
                qemu: || HOW.qemu().map(Took::figures),
                ours: || Ok(HOW.ours().figures()),
            }
        },)*]
    };
}

const fn beside(what: &'static str) -> [Figure; 6] {
    let [half, most, all, rates] = BESIDE;
    [figure(what, Unit::MibPerSecond, Target::None), CPU, half, most, all, rates]
}

/// The guest is to have what it had without the job, and the job to be no slower for it.
const fn backup_beside(what: &'static str) -> [Figure; 6] {
    let [half, most, all, rates] = BESIDE;
    [rate(what, 1.0), CPU, half, most, all, rates]
}

pub const GROUPS: &[Group] = groups! {
    "mirror-raw", &[rate("mirror of 1 GiB, page cache: raw to raw", 1.3), CPU],
        Mirror, "raw", false, false;
    "mirror-qcow2", &[rate("    raw to qcow2", 1.3), CPU], Mirror, "qcow2", false, false;
    "mirror-direct-raw", &[rate("mirror of 1 GiB, O_DIRECT: raw to raw", 1.0), HALF_CPU],
        Mirror, "raw", true, false;
    "mirror-direct-qcow2", &[rate("    raw to qcow2", 1.0), HALF_CPU], Mirror, "qcow2", true, false;
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
    "backup-raw", &[rate("backup of 1 GiB, page cache: raw to raw", 1.5), HALF_CPU],
        Backup, "raw", false, false;
    "backup-qcow2", &[rate("    raw to qcow2", 1.5), HALF_CPU], Backup, "qcow2", false, false;
    "backup-direct-raw", &[rate("backup of 1 GiB, O_DIRECT: raw to raw", 1.0), HALF_CPU],
        Backup, "raw", true, false;
    "backup-direct-qcow2", &[rate("    raw to qcow2", 1.0), HALF_CPU], Backup, "qcow2", true, false;
    "guest-backup-raw", &backup_beside("backup beside a guest, page cache: raw to raw"),
        Backup, "raw", false, true;
    "guest-backup-qcow2", &backup_beside("    raw to qcow2"), Backup, "qcow2", false, true;
    "guest-backup-direct-raw", &backup_beside("backup beside a guest, O_DIRECT: raw to raw"),
        Backup, "raw", true, true;
    "guest-backup-direct-qcow2", &backup_beside("    raw to qcow2"), Backup, "qcow2", true, true;
};
