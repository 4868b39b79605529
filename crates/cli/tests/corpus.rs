//! The corpus of shrunk failures: each is still there as long as its bug is, and not under the default design.

mod common;

use std::path::{Path, PathBuf};

use blockyard_sim::SeedFile;
use blockyard_units::{Design, decisions};
use common::{blockyard, blockyard_json, folder};

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    let entries = std::fs::read_dir(folder).expect("the corpus is there");
    let paths = entries.map(|entry| entry.expect("the corpus can be listed").path());
    let mut seeds: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "seed")).collect();
    seeds.sort();
    seeds
}

fn read(path: &Path) -> SeedFile {
    let text = std::fs::read_to_string(path).expect("the seed file can be read");
    SeedFile::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_kept_failure_is_still_the_same() {
    let folder = folder("corpus");
    assert!(corpus().len() >= 4, "the corpus is there");
    for path in corpus() {
        let file = read(&path);
        for head in ["what", "found-by", "fixed-by"] {
            assert!(file.head(head).is_ok_and(|said| !said.is_empty()), "{path:?}: {head}");
        }
        let path = path.to_str().expect("the path is text");
        let (status, replayed) = blockyard_json(&folder, &["replay", path]);
        assert_eq!(status, 1, "{path}: {replayed}");
        let property = file.head("property").expect("it has a property");
        assert_eq!(replayed["property"].as_str(), Some(property), "{path}");
        assert_eq!(replayed["same_hash"], true, "{path}: {replayed}");
    }
}

#[test]
fn every_kept_failure_is_the_least_of_its_kind() {
    let folder = folder("corpus-least");
    for path in corpus() {
        let path = path.to_str().expect("the path is text");
        let (status, shrunk) = blockyard_json(&folder, &["shrink", path, "-o", "shrunk.seed"]);
        assert_eq!((status, &shrunk["least"]), (1, &true.into()), "{path}: {shrunk}");
        let [kept, shrunk] = [path.into(), folder.join("shrunk.seed")].map(|path| read(&path).tape);
        assert_eq!(kept, shrunk, "{path}");
    }
}

#[test]
fn no_kept_failure_is_there_under_the_default_design() {
    let folder = folder("corpus-repaired");
    let design = Design::default();
    let words = decisions()
        .iter()
        .map(|decision| {
            format!("{}={}", decision.key, design.get(decision.key).unwrap_or_default())
        })
        .collect::<Vec<_>>()
        .join(" ");
    for path in corpus() {
        let mut file = read(&path);
        for (key, value) in &mut file.heads {
            match key.as_str() {
                "design" => value.clone_from(&words),
                "mutant" => *value = "none".into(),
                _ => (),
            }
        }
        std::fs::write(folder.join("repaired.seed"), file.to_string()).expect("it is writable");
        let ran = blockyard(&folder, &["replay", "repaired.seed"]);
        let diverged = ran.status == 2 && ran.stderr.contains("the replay diverged at step");
        assert!(ran.status == 0 || diverged, "{path:?}: {}{}", ran.stdout, ran.stderr);
    }
}
