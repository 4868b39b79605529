//! Copying one disk to another that reads as zeroes: what is zeroes there is left out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blockyard_block::{Backend, Write};
use blockyard_runtime::IoBuffer;
use blockyard_units::ByteRange;

use crate::common::layer::Layer;
use crate::common::machine::text;

/// Bytes that a task takes at once.
const PIECE: u64 = 2 << 20;
/// Bytes that are left out if they are zeroes: less would be written back with its cluster.
const UNIT: usize = 64 << 10;
const TASKS: usize = 8;

static ZEROES: [u8; UNIT] = [0; UNIT];

/// From a file of one format to one of another, which is there already. Nothing is flushed.
pub fn convert(from_format: &str, from: &Path, to_format: &str, to: &Path) {
    let layer = Layer::new();
    let node = |name, format, path, more| {
        let file = format!("file.driver=file,file.filename={},{more}", text(path));
        format!("driver={format},node-name={name},{file}")
    };
    layer.execute(
        "blockdev-add",
        [
            node("from", from_format, from, "read-only=on"),
            node("to", to_format, to, "file.cache.no-flush=on"),
        ],
    );
    let (from, to) = (layer.reader("from"), layer.backend("to"));
    let runtime = layer.host.runtime();
    let next = Arc::new(AtomicU64::new(0));
    layer.host.block_on(async {
        let task = |_| runtime.spawn("copy", pieces(from.clone(), to.clone(), next.clone()));
        let tasks: Vec<_> = (0..TASKS).map(task).collect();
        for task in tasks {
            task.join().await;
        }
        layer.monitor.close_all().await.expect("it closes");
    });
}

async fn pieces(from: Backend, to: Backend, next: Arc<AtomicU64>) {
    let len = from.len().expect("it has a length").0;
    loop {
        let start = next.fetch_add(PIECE, Ordering::Relaxed);
        if start >= len {
            return;
        }
        let end = len.min(start + PIECE);
        let mut at = start;
        while at < end {
            let range = ByteRange::between(at, end);
            let found = from.block_status(range).await.expect("nothing fails here").extent;
            let range = ByteRange::new(at, found.len.0);
            if !found.zero && found.allocated {
                let bytes = from.read(range).await.expect("nothing fails here");
                write(&to, at, bytes).await;
            }
            at = range.end();
        }
    }
}

/// Writes all of `bytes` but what is zeroes.
async fn write(to: &Backend, offset: u64, bytes: IoBuffer) {
    let is_zero = |unit: &[u8]| unit == &ZEROES[..unit.len()];
    let mut at = 0;
    for run in bytes.chunks(UNIT).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let len: usize = run.iter().map(|unit| unit.len()).sum();
        if !is_zero(run[0]) {
            let write = Write::data(offset + at as u64, bytes.slice(at..at + len));
            to.write(write).await.expect("nothing fails here");
        }
        at += len;
    }
}
