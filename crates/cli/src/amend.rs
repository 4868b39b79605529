//! `blockyard amend`.

use std::path::Path;

use blockyard_host::{Host, HostFile};
use blockyard_qcow2::{AmendOptions, Caches, Files, ImageError, ImageFile, read_header};
use blockyard_qmp::{Dict, Mode, Size, Value, merge, parse_keyval, visit};
use blockyard_units::Design;
use serde::Deserialize;
use serde_json::{Map, json};

use crate::args::AmendArgs;
use crate::failure::Failure;
use crate::report::{Output, Status};

/// As `qemu-img amend` has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    compat: Option<Compat>,
    size: Option<Size>,
    lazy_refcounts: Option<bool>,
    refcount_bits: Option<u32>,
    backing_file: Option<String>,
    backing_fmt: Option<String>,
    data_file: Option<String>,
    data_file_raw: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
enum Compat {
    #[serde(rename = "0.10", alias = "v2")]
    V2,
    #[serde(rename = "1.1", alias = "v3")]
    V3,
}

/// Changes what an image is like.
pub(crate) fn amend(args: &AmendArgs, output: &Output) -> Result<Status, Failure> {
    let options = parse(&args.options)?;
    let path = &args.image;
    let file = open(path)?;
    let host = Host::new(1).map_err(|error| Failure::file(path, error))?;
    let failed = |error: ImageError| Failure::file(path, error);
    let header = host.block_on(read_header(ImageFile::Disk(&file))).map_err(failed)?;
    // The data are looked at only if their length changes.
    let data = header.data_file().filter(|_| header.is_external() && options.size.is_some());
    let data = data.map(|name| open(Path::new(&name))).transpose()?;
    let mut files = Files::of_disk(&file);
    if let Some(data) = &data {
        files.data = ImageFile::Disk(data);
    }
    let (caches, design) = (Caches::default(), Design::default());
    host.block_on(blockyard_qcow2::amend(&files, &options, caches, design)).map_err(failed)?;
    output.print(
        || format!("{}: amended\n", path.display()),
        || Map::from_iter([("filename".into(), json!(path.display().to_string()))]),
    );
    Ok(Status::Clean)
}

fn open(path: &Path) -> Result<HostFile, Failure> {
    HostFile::open(path, false).map_err(|error| Failure::usage(error.to_string()))
}

fn parse(given: &[String]) -> Result<AmendOptions, Failure> {
    let said = |error: String| Failure::usage(format!("-o: {error}"));
    let mut all = Dict::new();
    for text in given {
        let parsed = parse_keyval(text, None).map_err(|error| said(error.to_string()))?;
        let parsed = parsed.into_dict().expect("pairs are members");
        all = merge(all, parsed).map_err(|error| said(error.to_string()))?;
    }
    let options: Options =
        visit(&Value::Dict(all), Mode::Strings).map_err(|error| said(error.to_string()))?;
    Ok(AmendOptions {
        version: options.compat.map(|compat| match compat {
            Compat::V2 => 2,
            Compat::V3 => 3,
        }),
        size: options.size.map(|size| size.0),
        lazy_refcounts: options.lazy_refcounts,
        refcount_bits: options.refcount_bits,
        backing_file: options.backing_file,
        backing_fmt: options.backing_fmt,
        data_file: options.data_file,
        data_file_raw: options.data_file_raw,
    })
}
