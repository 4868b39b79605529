//! Which package may depend on which, and what every manifest takes from the workspace.
//!
//! Invariant `arrows-point-down`: a row names everything below its package, so what a package may
//! use, its users may use too. Development dependencies are free: a test may use the models and the
//! simulator anywhere.

use toml::{Table, Value};

const UNITS: &str = "blockyard-units";
const SYNC: &str = "blockyard-sync";
const COROUTINE: &str = "blockyard-coroutine";
const RUNTIME: &str = "blockyard-runtime";
const GRAPH: &str = "blockyard-graph";
const BITMAP: &str = "blockyard-bitmap";
const BLOCK: &str = "blockyard-block";
const CRYPTO: &str = "blockyard-crypto";
const DRIVERS: &str = "blockyard-drivers";
const QCOW2: &str = "blockyard-qcow2";
const JOBS: &str = "blockyard-jobs";
const QMP: &str = "blockyard-qmp";
const SCENARIO: &str = "blockyard-scenario";
const HOST: &str = "blockyard-host";
const SIM: &str = "blockyard-sim";
const PEER: &str = "blockyard-peer";
const MODELS: &str = "blockyard-models";
const LOOM: &str = "blockyard-loom-";

/// Each package, and the packages it may depend on.
pub const ARROWS: &[(&str, &[&str])] = &[
    (UNITS, &[]),
    (SYNC, &[UNITS]),
    (RUNTIME, &[UNITS, SYNC]),
    (GRAPH, &[UNITS]),
    (BITMAP, &[UNITS, SYNC]),
    (BLOCK, &[UNITS, SYNC, RUNTIME, GRAPH, BITMAP]),
    (CRYPTO, &[UNITS]),
    (DRIVERS, &[UNITS, SYNC, RUNTIME, GRAPH, BITMAP, BLOCK, CRYPTO]),
    (QCOW2, &[UNITS, SYNC, RUNTIME, GRAPH, BITMAP, BLOCK, CRYPTO]),
    (JOBS, &[UNITS, SYNC, RUNTIME, GRAPH, BITMAP, BLOCK]),
    (QMP, &[UNITS, SYNC, RUNTIME, GRAPH, BITMAP, BLOCK, CRYPTO, DRIVERS, QCOW2, JOBS]),
    (MODELS, &[UNITS]),
    (
        SCENARIO,
        &[UNITS, SYNC, RUNTIME, GRAPH, BITMAP, BLOCK, CRYPTO, DRIVERS, QCOW2, JOBS, QMP, MODELS],
    ),
    (COROUTINE, &[]),
    (SIM, &[UNITS, SYNC, RUNTIME, COROUTINE]),
    (HOST, &[UNITS, SYNC, RUNTIME]),
    (PEER, &[]),
    ("blockyard", EVERY_ROOM),
    ("blockyard-tests", EVERY_ROOM),
    ("blockyard-fuzz", WITH_COMMAND),
];

/// What the packages that join worlds may use.
const EVERY_ROOM: &[&str] = &[
    UNITS, SYNC, RUNTIME, COROUTINE, GRAPH, BITMAP, BLOCK, CRYPTO, DRIVERS, QCOW2, JOBS, QMP,
    SCENARIO, SIM, HOST, PEER, MODELS,
];

/// And the command's own library, which makes a scenario a program.
const WITH_COMMAND: &[&str] = &[
    "blockyard",
    UNITS,
    SYNC,
    RUNTIME,
    COROUTINE,
    GRAPH,
    BITMAP,
    BLOCK,
    CRYPTO,
    DRIVERS,
    QCOW2,
    JOBS,
    QCOW2,
    QMP,
    SCENARIO,
    SIM,
    HOST,
    PEER,
    MODELS,
];

/// Packages that the workspace calls by another name: the name there, and the package.
pub struct Aliases(Vec<(String, String)>);

impl Aliases {
    pub fn read(workspace_manifest: &str) -> Self {
        let table = parse("Cargo.toml", workspace_manifest);
        let workspace = table.get("workspace").and_then(|part| part.get("dependencies"));
        Self(renamed(workspace).collect())
    }

    fn package(&self, key: String) -> String {
        let found = self.0.iter().find(|(alias, _)| *alias == key);
        found.map_or(key, |(_, package)| package.clone())
    }
}

/// A package's manifest.
pub struct Manifest {
    pub path: String,
    /// Packages it is built with, under their own names; optional ones too, those of tests not.
    pub dependencies: Vec<String>,
    table: Table,
}

impl Manifest {
    pub fn read(path: &str, text: &str, aliases: &Aliases) -> Self {
        let table = parse(path, text);
        let targets = table.get("target").and_then(Value::as_table).into_iter().flatten();
        let parts = targets.map(|(_, part)| part.clone()).chain([Value::Table(table.clone())]);
        let mut dependencies: Vec<_> = parts
            .flat_map(|part| {
                let kinds = ["dependencies", "build-dependencies"];
                kinds.map(|kind| renamed(part.get(kind)).collect::<Vec<_>>())
            })
            .flatten()
            .map(|(key, package)| if key == package { aliases.package(key) } else { package })
            .collect();
        dependencies.sort();
        dependencies.dedup();
        Self { path: path.to_owned(), dependencies, table }
    }

    pub fn name(&self) -> &str {
        let package = self.table.get("package").and_then(|package| package.get("name"));
        package.and_then(Value::as_str).unwrap_or("(a package without a name)")
    }

    /// Where the package is, from the root.
    pub fn folder(&self) -> &str {
        self.path.strip_suffix("/Cargo.toml").unwrap_or("")
    }

    fn inherits(&self, part: &str, key: Option<&str>) -> bool {
        let part = self.table.get(part);
        let value = key.map_or(part, |key| part.and_then(|part| part.get(key)));
        value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
    }
}

fn parse(path: &str, text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("{path} is no TOML: {error}"))
}

/// The keys of a dependency table, each with the package it stands for.
fn renamed(dependencies: Option<&Value>) -> impl Iterator<Item = (String, String)> {
    dependencies.and_then(Value::as_table).into_iter().flatten().map(|(key, value)| {
        let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
        (key.clone(), package.to_owned())
    })
}

/// Whether a package is one of ours.
pub fn is_ours(package: &str) -> bool {
    package == "blockyard" || package.starts_with("blockyard-")
}

/// Dependencies on our own packages that the table does not allow. Loom packages have their own
/// rule.
pub fn unlisted(manifest: &Manifest) -> Vec<String> {
    let Manifest { path, dependencies, .. } = manifest;
    let name = manifest.name();
    if name.starts_with(LOOM) {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(package, _)| *package == name) else {
        return vec![format!("{path}: {name} has no row")];
    };
    let of_ours = dependencies.iter().filter(|package| is_ours(package));
    let wrong = of_ours.filter(|package| !allowed.contains(&package.as_str()));
    // That loom packages are used is told by the other rule.
    let wrong = wrong.filter(|package| !package.starts_with(LOOM));
    wrong.map(|package| format!("{path}: {name} may not depend on {package}")).collect()
}

/// Loom packages that use more than loom, our own and what their original uses, and other packages that use them.
/// The original of `blockyard-loom-sync` is `blockyard-sync`.
pub fn loom_offences(manifest: &Manifest, all: &[Manifest]) -> Vec<String> {
    let Manifest { path, dependencies, .. } = manifest;
    let name = manifest.name();
    let twin = name.strip_prefix(LOOM).map(|of| format!("blockyard-{of}"));
    let original = all.iter().find(|other| twin.as_deref() == Some(other.name()));
    let inherited = |package: &String| original.is_some_and(|it| it.dependencies.contains(package));
    let wrong = dependencies.iter().filter(|package| match twin {
        Some(_) => !is_ours(package) && *package != "loom" && !inherited(package),
        None => package.starts_with(LOOM),
    });
    wrong.map(|package| format!("{path}: {name} may not depend on {package}")).collect()
}

/// What the manifest says for itself though the workspace says it for all.
pub fn not_inherited(manifest: &Manifest) -> Vec<String> {
    let wanted = [("lints", None), ("package", Some("edition")), ("package", Some("license"))];
    let missing = wanted.into_iter().filter(|(part, key)| !manifest.inherits(part, *key));
    missing.map(|(part, key)| format!("{}: {}", manifest.path, key.unwrap_or(part))).collect()
}
