//! A mirror of 1 GiB from its command until it is in sync: idle, and beside a guest that writes to the source.

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
struct Mirrored {
    /// The target's format.
    target: &'static str,
    direct: bool,
    /// Beside a guest, and how its writes are followed.
    beside: Option<&'static str>,
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

impl Mirrored {
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

    fn mirror(self) -> String {
        let mirror = r#""job-id": "m", "device": "src", "target": "dst", "sync": "full""#;
        let mode = self.beside.unwrap_or("background");
        format!(r#"{{{mirror}, "copy-mode": "{mode}"}}"#)
    }

    fn ours(self) -> Took {
        let folder = Folder::own();
        let layer = Layer::new();
        layer.execute("blockdev-add", self.opens(&self.make_target(&folder)));
        let told = layer.monitor.events().subscribe(vec!["BLOCK_JOB_READY".into()]);
        let guest = self.beside.map(|_| Guest::ours(&layer, "src", DISK));
        let (began, began_s) = (Instant::now(), processor_s());
        layer.execute("blockdev-mirror", [self.mirror()]);
        layer.host.block_on(told.wait(vec![("BLOCK_JOB_READY".into(), Dict::new())]));
        let (passed_s, processor_s) = (began.elapsed().as_secs_f64(), processor_s() - began_s);
        Took { passed_s, processor_s, guest: guest.map(Guest::stop) }
    }

    fn qemu(self) -> Result<Took, Absent> {
        let folder = Folder::own();
        let mut daemon = Daemon::start()?;
        daemon.execute("blockdev-add", self.opens(&self.make_target(&folder)));
        let guest = self.beside.map(|_| Guest::of_qemu(&mut daemon, "src", DISK));
        let (began, began_s) = (Instant::now(), daemon.processor_s());
        daemon.execute("blockdev-mirror", [self.mirror()]);
        daemon.wait("BLOCK_JOB_READY");
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
    ($($name:literal, $figures:expr, $target:literal, $direct:literal, $beside:expr;)*) => {
        &[$({
            const HOW: Mirrored =
                Mirrored { target: $target, direct: $direct, beside: $beside };
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

const BACKGROUND: Option<&str> = Some("background");
const ACTIVE: Option<&str> = Some("write-blocking");

pub const GROUPS: &[Group] = groups! {
    "mirror-raw", &[rate("mirror of 1 GiB, page cache: raw to raw", 1.3), CPU],
        "raw", false, None;
    "mirror-qcow2", &[rate("    raw to qcow2", 1.3), CPU], "qcow2", false, None;
    "mirror-direct-raw", &[rate("mirror of 1 GiB, O_DIRECT: raw to raw", 1.0), HALF_CPU],
        "raw", true, None;
    "mirror-direct-qcow2", &[rate("    raw to qcow2", 1.0), HALF_CPU], "qcow2", true, None;
    "guest-raw", &beside("mirror beside a guest, page cache: raw to raw"),
        "raw", false, BACKGROUND;
    "guest-active-raw", &beside("    active"), "raw", false, ACTIVE;
    "guest-qcow2", &beside("    raw to qcow2"), "qcow2", false, BACKGROUND;
    "guest-active-qcow2", &beside("    active"), "qcow2", false, ACTIVE;
    "guest-direct-raw", &beside("mirror beside a guest, O_DIRECT: raw to raw"),
        "raw", true, BACKGROUND;
    "guest-direct-active-raw", &beside("    active"), "raw", true, ACTIVE;
    "guest-direct-qcow2", &beside("    raw to qcow2"), "qcow2", true, BACKGROUND;
    "guest-direct-active-qcow2", &beside("    active"), "qcow2", true, ACTIVE;
};
