//! `blockyard check` of a dedup image: its metadata, with the data beside them.

use std::fmt::Write;
use std::path::Path;

use blockyard_drivers::dedup::{self, DedupCheck};
use blockyard_host::{Host, HostFile};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::style;
use crate::args::What;
use crate::failure::Failure;
use crate::progress::Interrupt;
use crate::report::{Output, Status};

/// Checks the image, reading all of its data that are referred to, and repairs what can be.
pub(super) fn check(
    (path, data): (&Path, &Path),
    repair: Option<What>,
    output: &Output,
) -> Result<Status, Failure> {
    if let Some(What::Leaks) = repair {
        let said = "a dedup image has no leaks: what nothing refers to is free; --repair all";
        return Err(Failure::usage(said));
    }
    // From before the first write on, so that none is cut off.
    let interrupt = Interrupt::listen();
    let open = |path, read_only| {
        HostFile::open(path, read_only).map_err(|error| Failure::usage(error.to_string()))
    };
    let (file, data) = (open(path, repair.is_none())?, open(data, true)?);
    let host = Host::new(1).map_err(|error| Failure::file(path, error))?;
    let bar = ProgressBar::new(100).with_style(style());
    let mut watch = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        !interrupt.is_set()
    };
    let checked = host.block_on(async {
        match repair {
            Some(_) => dedup::repair(&file, &data, &mut watch).await,
            None => dedup::check(&file, &data, &mut watch).await,
        }
    });
    bar.finish_and_clear();
    let Some(checked) = checked.map_err(|error| Failure::file(path, error))? else {
        output.print(
            || format!("{}: interrupted; nothing was repaired\n", path.display()),
            || Map::from_iter([("interrupted".into(), Value::Bool(true))]),
        );
        return Ok(Status::Interrupted);
    };
    output.print(|| as_text(path, &checked), || as_json(path, &checked));
    Ok(if checked.is_sound() { Status::Clean } else { Status::Violated })
}

fn as_text(path: &Path, checked: &DedupCheck) -> String {
    let mut text = String::new();
    let mut line = |what: String| {
        // A String takes everything.
        let _ = writeln!(text, "{what}");
    };
    checked.findings.iter().for_each(|finding| line(finding.clone()));
    let (all, kept) = (checked.corruptions + checked.stray, checked.findings.len() as u64);
    if all > kept {
        line(format!("and {} more", all - kept));
    }
    if checked.stray_fixed > 0 {
        line(format!("repaired: zeroes in {} places of the metadata", checked.stray_fixed));
    }
    let verdict = match (checked.corruptions, checked.stray - checked.stray_fixed) {
        (0, 0) => "no errors".into(),
        (0, stray) => format!("{stray} places that ought to be zeroes; --repair all makes them so"),
        (wrong, _) => format!("{wrong} corruptions: nobody knows the right data"),
    };
    line(format!("{}: {verdict}", path.display()));
    let DedupCheck { total_clusters, referring_clusters, data_clusters, free_clusters, .. } =
        checked;
    line(format!(
        "{referring_clusters}/{total_clusters} clusters allocated, in {data_clusters} data clusters; \
         {free_clusters} are free"
    ));
    text
}

fn as_json(path: &Path, checked: &DedupCheck) -> Map<String, Value> {
    let numbers = [
        ("corruptions", checked.corruptions),
        ("not-zero", checked.stray),
        ("not-zero-fixed", checked.stray_fixed),
        ("total-clusters", checked.total_clusters),
        ("allocated-clusters", checked.referring_clusters),
        ("data-clusters", checked.data_clusters),
        ("free-clusters", checked.free_clusters),
    ];
    let mut members: Map<String, Value> =
        numbers.iter().map(|(key, number)| (key.to_string(), json!(number))).collect();
    members.insert("filename".into(), json!(path.display().to_string()));
    members.insert("format".into(), json!("dedup"));
    members.insert("findings".into(), json!(checked.findings));
    members
}
