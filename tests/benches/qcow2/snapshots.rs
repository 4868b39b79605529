//! Internal snapshots of an image with 64 GiB allocated.

use std::path::PathBuf;
use std::time::Instant;

use blockyard_host::HostFile;
use blockyard_qcow2::{Files, NewSnapshot};

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::machine::{Folder, text};
use crate::common::qemu;
use crate::images::{self, host, large, with_snapshots};

#[derive(Clone, Copy)]
enum Verb {
    Create,
    Apply,
    Delete,
}

impl Verb {
    fn image(self) -> PathBuf {
        match self {
            Self::Create => large(64 << 10),
            Self::Apply | Self::Delete => with_snapshots(1),
        }
    }
}

fn qemu(verb: Verb) -> Result<f64, Absent> {
    let folder = Folder::own();
    let path = images::own_copy(&folder, &verb.image());
    let (option, name) = match verb {
        Verb::Create => ("-c", "new"),
        Verb::Apply => ("-a", "s0"),
        Verb::Delete => ("-d", "s0"),
    };
    qemu::passed_s("qemu-img", &["snapshot", option, name, &text(&path)])
}

fn ours(verb: Verb) -> f64 {
    let folder = Folder::own();
    let path = images::own_copy(&folder, &verb.image());
    let began = Instant::now();
    host().block_on(async {
        let file = HostFile::open(&path, false).expect("it is there");
        let (image, files) = (images::open(&file).await, Files::of_disk(&file));
        let done = match verb {
            Verb::Create => {
                let new = NewSnapshot { name: "new".into(), ..NewSnapshot::default() };
                image.create_snapshot(&files, new).await.map(drop)
            }
            Verb::Apply => image.apply_snapshot(&files, "s0").await,
            Verb::Delete => image.delete_snapshot(&files, "s0").await,
        };
        done.expect("it can be done");
        image.close(&files).await.expect("it closes");
    });
    let passed = began.elapsed().as_secs_f64();
    crate::check::ours(&path);
    passed
}

const fn row(
    name: &'static str,
    what: &'static str,
    part: f64,
    qemu: crate::common::figure::Measure,
    ours: crate::common::figure::Measure,
) -> Row {
    Row { name, what, unit: Unit::Seconds, target: Target::PeerAtMost(part), qemu, ours }
}

pub const ROWS: &[Row] = &[
    row(
        "snapshot-create",
        "snapshot of an image with 64 GiB allocated",
        0.1,
        || qemu(Verb::Create),
        || Ok(ours(Verb::Create)),
    ),
    row("snapshot-apply", "    applied", 1.0, || qemu(Verb::Apply), || Ok(ours(Verb::Apply))),
    row("snapshot-delete", "    deleted", 0.1, || qemu(Verb::Delete), || Ok(ours(Verb::Delete))),
];
