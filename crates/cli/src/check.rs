//! `blockyard check`.

mod dedup;

use std::fmt::Write;
use std::path::Path;

use blockyard_drivers::dedup::is_metadata;
use blockyard_host::{Host, HostFile};
use blockyard_qcow2::{
    Check, CheckOptions, Header, ImageError, ImageFile, Repair, Severity, Watch, read_header,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::args::{CheckArgs, What};
use crate::failure::Failure;
use crate::progress::Interrupt;
use crate::report::{Output, Status};

/// Checks an image, and repairs it if that is asked for.
pub(crate) fn check(args: &CheckArgs, output: &Output) -> Result<Status, Failure> {
    let path = &args.image;
    if let Some(data) = &args.data {
        return dedup::check((path, data), args.repair, output);
    }
    let repair = args.repair.map(|what| match what {
        What::Leaks => Repair::Leaks,
        What::All => Repair::All,
    });
    // From before the first write on, so that none is cut off.
    let interrupt = Interrupt::listen();
    let file = HostFile::open(path, repair.is_none());
    let file = file.map_err(|error| Failure::usage(error.to_string()))?;
    let host = Host::new(1).map_err(|error| Failure::file(path, error))?;
    if host.block_on(is_metadata(&file)) {
        let said = "it has the metadata of a dedup image: give --data with the file of its data";
        return Err(Failure::usage(format!("{}: {said}", path.display())));
    }
    let bar = ProgressBar::new(100).with_style(style());
    let mut watch = |progress: blockyard_qcow2::Progress| {
        bar.set_length(progress.all.0);
        bar.set_position(progress.done.0);
        !interrupt.is_set()
    };
    let checked = host.block_on(run(&file, repair, &mut watch));
    bar.finish_and_clear();
    match checked {
        Ok(checked) => {
            output.print(|| as_text(path, &checked), || as_json(path, &checked));
            Ok(if checked.is_sound() { Status::Clean } else { Status::Violated })
        }
        Err(ImageError::Interrupted) => {
            let said = if repair.is_some() {
                "interrupted; what was repaired until then stays so, the rest is as it was"
            } else {
                "interrupted"
            };
            output.print(
                || format!("{}: {said}\n", path.display()),
                || Map::from_iter([("interrupted".into(), Value::Bool(true))]),
            );
            Ok(Status::Interrupted)
        }
        Err(error) => Err(Failure::file(path, error)),
    }
}

async fn run(
    file: &HostFile,
    repair: Option<Repair>,
    watch: &mut Watch<'_>,
) -> Result<Check, ImageError> {
    let (file, options) = (ImageFile::Disk(file), CheckOptions::default());
    // What is not even an image is told by the check.
    let named = read_header(file).await.ok().filter(Header::is_external);
    let data = named.and_then(|header| header.data_file()).map(|name| open_data(&name));
    let data = data.transpose()?;
    let data = data.as_ref().map(|data| ImageFile::Disk(data));
    match repair {
        Some(what) => blockyard_qcow2::repair(file, data, what, options, watch).await,
        None => blockyard_qcow2::check(file, data, options, watch).await,
    }
}

/// The external data file, by the name that the image has for it: as QEMU has it, that is not seen from the image's
/// directory.
fn open_data(name: &str) -> Result<HostFile, ImageError> {
    let said = |error| ImageError::Unsupported(format!("its data file '{name}': {error}"));
    HostFile::open(Path::new(name), true).map_err(said)
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("checking: {percent}% {bar:30} [{elapsed}]");
    // The template is ours; a wrong one would show in the first run.
    style.expect("template-is-right")
}

fn as_text(path: &Path, checked: &Check) -> String {
    let mut text = String::new();
    let mut line = |what: String| {
        // A String takes everything.
        let _ = writeln!(text, "{what}");
    };
    checked.findings.iter().for_each(|finding| line(finding.to_string()));
    let all = checked.corruptions + checked.leaks + checked.clear_flags;
    let kept = checked.findings.len() as u64;
    if all > kept {
        line(format!("and {} more", all - kept));
    }
    if checked.corruptions_fixed + checked.leaks_fixed > 0 {
        let (corruptions, leaks) = (checked.corruptions_fixed, checked.leaks_fixed);
        line(format!("repaired: {corruptions} corruptions, {leaks} leaked clusters"));
    }
    line(format!("{}: {}", path.display(), verdict(checked)));
    let percent = |part: u64, of: u64| part as f64 * 100.0 / of.max(1) as f64;
    let Check { total_clusters: total, allocated_clusters: allocated, .. } = *checked;
    line(format!(
        "{allocated}/{total} clusters allocated ({:.2}%), {:.2}% of them fragmented, {:.2}% compressed; image end {}",
        percent(allocated, total),
        percent(checked.fragmented_clusters, allocated),
        percent(checked.compressed_clusters, allocated),
        checked.image_end_offset,
    ));
    text
}

fn verdict(checked: &Check) -> String {
    if checked.is_clean() {
        return "no errors".into();
    }
    let mut words = Vec::new();
    let parts = [
        (checked.corruptions, "corruptions: the data may be wrong, and writing may make it worse"),
        (checked.check_errors, "things that could not be checked"),
        (checked.leaks, "leaked clusters: space is lost, but no data"),
        (checked.clear_flags, "clusters that would be copied before they are written, in vain"),
    ];
    for (count, what) in parts.iter().filter(|(count, _)| *count > 0) {
        words.push(format!("{count} {what}"));
    }
    words.join("; ")
}

fn as_json(path: &Path, checked: &Check) -> Map<String, Value> {
    let finding = |finding: &blockyard_qcow2::Finding| {
        let severity: Severity = finding.severity;
        json!({ "severity": severity.word(), "structure": finding.structure,
                "offset": finding.offset, "found": finding.found,
                "expected": finding.expected.to_string() })
    };
    let numbers = [
        ("check-errors", checked.check_errors),
        ("corruptions", checked.corruptions),
        ("leaks", checked.leaks),
        ("clear-flags", checked.clear_flags),
        ("corruptions-fixed", checked.corruptions_fixed),
        ("leaks-fixed", checked.leaks_fixed),
        ("image-end-offset", checked.image_end_offset),
        ("total-clusters", checked.total_clusters),
        ("allocated-clusters", checked.allocated_clusters),
        ("fragmented-clusters", checked.fragmented_clusters),
        ("compressed-clusters", checked.compressed_clusters),
    ];
    let mut members: Map<String, Value> =
        numbers.iter().map(|(key, number)| (key.to_string(), json!(number))).collect();
    members.insert("filename".into(), json!(path.display().to_string()));
    members.insert("format".into(), json!("qcow2"));
    members.insert("findings".into(), Value::from_iter(checked.findings.iter().map(finding)));
    members
}
