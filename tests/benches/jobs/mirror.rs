//! A mirror of 1 GiB that nobody writes to, from its command until it is in sync.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use blockyard_qcow2::CreateOptions;
use blockyard_qmp::Dict;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::common::figure::{Absent, Measure, Row, Target, Unit};
use crate::common::layer::Layer;
use crate::common::machine::{Folder, processor_s, shared};
use crate::common::qemu::Daemon;
use crate::images::make;

const DISK: u64 = 1 << 30;
const MIB: f64 = (1 << 20) as f64;

#[derive(Clone, Copy)]
struct Mirrored {
    target: &'static str,
    direct: bool,
}

struct Took {
    passed_s: f64,
    processor_s: f64,
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

    fn make_target(self, folder: &Folder) -> PathBuf {
        let path = folder.path("target");
        if self.target == "qcow2" {
            make(&path, &CreateOptions::new(DISK));
        } else {
            let file = File::create(&path).expect("the folder is writable");
            file.set_len(DISK).expect("there is room");
        }
        path
    }

    fn ours(self) -> Took {
        let folder = Folder::own();
        let layer = Layer::new();
        layer.execute("blockdev-add", self.opens(&self.make_target(&folder)));
        let told = layer.monitor.events().subscribe(vec!["BLOCK_JOB_READY".into()]);
        let (began, began_s) = (Instant::now(), processor_s());
        layer.execute("blockdev-mirror", [MIRROR.into()]);
        layer.host.block_on(told.wait(vec![("BLOCK_JOB_READY".into(), Dict::new())]));
        Took { passed_s: began.elapsed().as_secs_f64(), processor_s: processor_s() - began_s }
    }

    fn qemu(self) -> Result<Took, Absent> {
        let folder = Folder::own();
        let mut daemon = Daemon::start()?;
        daemon.execute("blockdev-add", self.opens(&self.make_target(&folder)));
        let (began, began_s) = (Instant::now(), daemon.processor_s());
        daemon.execute("blockdev-mirror", [MIRROR.into()]);
        daemon.wait("BLOCK_JOB_READY");
        Ok(Took {
            passed_s: began.elapsed().as_secs_f64(),
            processor_s: daemon.processor_s() - began_s,
        })
    }
}

const MIRROR: &str = r#"{"job-id": "m", "device": "src", "target": "dst", "sync": "full"}"#;

const RAW: Mirrored = Mirrored { target: "raw", direct: false };
const QCOW2: Mirrored = Mirrored { target: "qcow2", direct: false };
const RAW_DIRECT: Mirrored = Mirrored { target: "raw", direct: true };
const QCOW2_DIRECT: Mirrored = Mirrored { target: "qcow2", direct: true };

fn mib_per_s(took: Took) -> f64 {
    DISK as f64 / MIB / took.passed_s
}

const fn rate(
    name: &'static str,
    what: &'static str,
    least: f64,
    qemu: Measure,
    ours: Measure,
) -> Row {
    Row { name, what, unit: Unit::MibPerSecond, target: Target::PeerAtLeast(least), qemu, ours }
}

pub const ROWS: &[Row] = &[
    rate(
        "mirror-raw",
        "mirror of 1 GiB, page cache: raw to raw",
        1.3,
        || RAW.qemu().map(mib_per_s),
        || Ok(mib_per_s(RAW.ours())),
    ),
    rate(
        "mirror-qcow2",
        "    raw to qcow2",
        1.3,
        || QCOW2.qemu().map(mib_per_s),
        || Ok(mib_per_s(QCOW2.ours())),
    ),
    rate(
        "mirror-direct-raw",
        "    O_DIRECT: raw to raw",
        1.0,
        || RAW_DIRECT.qemu().map(mib_per_s),
        || Ok(mib_per_s(RAW_DIRECT.ours())),
    ),
    rate(
        "mirror-direct-qcow2",
        "    O_DIRECT: raw to qcow2",
        1.0,
        || QCOW2_DIRECT.qemu().map(mib_per_s),
        || Ok(mib_per_s(QCOW2_DIRECT.ours())),
    ),
    Row {
        name: "mirror-direct-cpu",
        what: "    O_DIRECT: raw to raw, processor time",
        unit: Unit::Seconds,
        target: Target::PeerAtMost(0.5),
        qemu: || RAW_DIRECT.qemu().map(|took| took.processor_s),
        ours: || Ok(RAW_DIRECT.ours().processor_s),
    },
];
