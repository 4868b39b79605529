//! Conversions between raw files and images.

use std::fs::File;
use std::time::Instant;

use blockyard_qcow2::CreateOptions;

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::machine::{Folder, text};
use crate::common::qemu;
use crate::copy;
use crate::images::{self, Content};

fn qemu(content: Content, to_image: bool) -> Result<f64, Absent> {
    let folder = Folder::own();
    let (from, formats) = match to_image {
        true => (content.raw(), ["raw", "qcow2"]),
        false => (content.image(), ["qcow2", "raw"]),
    };
    let (from, to) = (text(&from), text(&folder.path("to")));
    qemu::passed_s("qemu-img", &["convert", "-f", formats[0], "-O", formats[1], &from, &to])
}

fn ours(content: Content, to_image: bool) -> Result<f64, Absent> {
    let folder = Folder::own();
    let from = if to_image { content.raw() } else { content.image() };
    let to = folder.path("to");
    let began = Instant::now();
    if to_image {
        images::make(&to, &CreateOptions::new(content.len()));
        copy::convert("raw", &from, "qcow2", &to);
    } else {
        let file = File::create(&to).expect("the folder is writable");
        file.set_len(content.len()).expect("the folder is writable");
        copy::convert("qcow2", &from, "raw", &to);
    }
    Ok(began.elapsed().as_secs_f64())
}

macro_rules! rows {
    ($($name:literal, $what:literal, $content:expr, $to_image:literal;)*) => {
        &[$(Row {
            name: $name,
            what: $what,
            unit: Unit::Seconds,
            target: Target::PeerAtMost(1.0),
            qemu: || qemu($content, $to_image),
            ours: || ours($content, $to_image),
        },)*]
    };
}

pub const ROWS: &[Row] = rows! {
    "convert-full", "convert raw to qcow2, 256 MiB of data", Content::Full, true;
    "convert-sparse", "    1 GiB, of which 64 MiB are data", Content::Sparse, true;
    "convert-zeroes", "    256 MiB of zeroes that are written", Content::Zeroes, true;
    "convert-back-full", "convert qcow2 to raw, 256 MiB of data", Content::Full, false;
    "convert-back-sparse", "    1 GiB, of which 64 MiB are data", Content::Sparse, false;
    "convert-back-zeroes", "    256 MiB that read as zeroes", Content::Zeroes, false;
};
