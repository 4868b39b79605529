//! Cached requests to an allocated image, ours beside the crates `imago` and `qcow2-rs`, at the same places of equal
//! images. They are compiled only with the feature `crates`:
//! `cargo bench -p blockyard-tests --features crates --bench qcow2 -- imago qcow2-rs`.
//!
//! Differs: both run on tokio-uring; qcow2-rs uses its ring, imago makes the system's calls itself. Ours goes through
//! nodes, drained sections and bitmaps, theirs is the format alone.

use crate::common::figure::{Row, Target, Unit};
use crate::common::way::Way;
use crate::requests::{allocated, measured};

#[cfg(not(feature = "crates"))]
mod theirs {
    use crate::common::figure::Absent;
    use crate::common::qemu::Took;
    use crate::common::way::Way;

    fn absent() -> Result<Took, Absent> {
        Err(Absent("built without the feature crates".into()))
    }

    pub fn imago(_: Way, _: &str) -> Result<Took, Absent> {
        absent()
    }

    pub fn qcow2_rs(_: Way, _: &str) -> Result<Took, Absent> {
        absent()
    }
}

#[cfg(feature = "crates")]
mod theirs {
    use std::path::Path;
    use std::rc::Rc;
    use std::time::Instant;

    use imago::file::File;
    use imago::qcow2::Qcow2;
    use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
    use qcow2_rs::dev::Qcow2DevParams;
    use qcow2_rs::helpers::Qcow2IoBuf;
    use qcow2_rs::utils::qcow2_setup_dev_uring;

    use crate::common::figure::Absent;
    use crate::common::layer::Load;
    use crate::common::machine::processor_s;
    use crate::common::qemu::Took;
    use crate::common::way::Way;

    /// What the image is full of.
    const BYTE: u8 = 0x5A;

    /// As many guests as there are requests at a time.
    async fn all<F: Future<Output = ()> + 'static>(load: Load, guest: &impl Fn(Load, u64) -> F) {
        let guests: Vec<_> =
            (0..load.depth).map(|first| tokio_uring::spawn(guest(load, first))).collect();
        for guest in guests {
            guest.await.expect("nothing fails here");
        }
    }

    /// What those of `way` take, once some went before.
    async fn timed<F: Future<Output = ()> + 'static>(
        way: Way,
        guest: impl Fn(Load, u64) -> F,
    ) -> Took {
        all(Load { count: way.warm, ..way.load }, &guest).await;
        let (began, began_s) = (Instant::now(), processor_s());
        all(way.load, &guest).await;
        let passed_s = began.elapsed().as_secs_f64();
        Took { processor_s: processor_s() - began_s, passed_s }
    }

    pub fn imago(way: Way, path: &str) -> Result<Took, Absent> {
        tokio_uring::start(async {
            let image = Qcow2::<File>::builder_path(path).write(true);
            let image = image.open(PermissiveImplicitOpenGate::default()).await;
            let image = Rc::new(FormatAccess::new(image.expect("it is sound")));
            let guest = |load: Load, first| {
                let image = image.clone();
                async move {
                    let mut data = vec![if load.write { BYTE } else { 0 }; load.size as usize];
                    for offset in load.places(first) {
                        let done = match load.write {
                            true => image.write(&data, offset).await,
                            false => image.read(&mut data, offset).await,
                        };
                        done.expect("nothing fails here");
                        assert_eq!(data[0], BYTE, "it reads what is there");
                    }
                }
            };
            let took = timed(way, guest).await;
            image.flush().await.expect("nothing fails here");
            Ok(took)
        })
    }

    pub fn qcow2_rs(way: Way, path: &str) -> Result<Took, Absent> {
        tokio_uring::start(async {
            // Sectors of 512 bytes, caches as it has them, writable, through the page cache.
            let params = Qcow2DevParams::new(9, None, None, false, false);
            let image = qcow2_setup_dev_uring(Path::new(path), &params).await;
            let image = Rc::new(image.expect("it is sound"));
            let guest = |load: Load, first| {
                let image = image.clone();
                async move {
                    let mut data = Qcow2IoBuf::<u8>::new(load.size as usize);
                    data.fill(if load.write { BYTE } else { 0 });
                    for offset in load.places(first) {
                        let done = match load.write {
                            true => image.write_at(&data, offset).await,
                            false => image.read_at(&mut data, offset).await.map(drop),
                        };
                        done.expect("nothing fails here");
                        assert_eq!(data[0], BYTE, "it reads what is there");
                    }
                }
            };
            let took = timed(way, guest).await;
            image.flush_meta().await.expect("nothing fails here");
            Ok(took)
        })
    }
}

macro_rules! rows {
    ($($name:literal, $what:literal, $side:path, $depth:literal, $write:literal;)*) => {
        &[$(Row {
            name: $name,
            what: $what,
            unit: Unit::PerSecond,
            target: Target::PeerAtLeast(1.0),
            qemu: || measured(allocated(false, $depth, $write), $side),
            ours: || measured(allocated(false, $depth, $write), Way::ours),
        },)*]
    };
}

pub const ROWS: &[Row] = rows! {
    "imago-read-1", "4 KiB cached read, depth 1: the peer is imago",
        theirs::imago, 1, false;
    "imago-read-32", "    depth 32", theirs::imago, 32, false;
    "imago-write-1", "4 KiB cached write, depth 1: the peer is imago",
        theirs::imago, 1, true;
    "imago-write-32", "    depth 32", theirs::imago, 32, true;
    "qcow2-rs-read-1", "4 KiB cached read, depth 1: the peer is qcow2-rs",
        theirs::qcow2_rs, 1, false;
    "qcow2-rs-read-32", "    depth 32", theirs::qcow2_rs, 32, false;
    "qcow2-rs-write-1", "4 KiB cached write, depth 1: the peer is qcow2-rs",
        theirs::qcow2_rs, 1, true;
    "qcow2-rs-write-32", "    depth 32", theirs::qcow2_rs, 32, true;
};
