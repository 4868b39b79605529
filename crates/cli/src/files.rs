//! Real files: the image files of a scenario, and the world that is made of them and the host.
//!
//! Invariant `nothing-half-made`: if the images cannot be made, those that were are taken away again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockyard_host::{CreateMode, Host, HostErrorKind, HostFile, Locking};
use blockyard_models::{Violation, data};
use blockyard_qmp::{Aio, Files, Opening};
use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_scenario::{Contents, DiskSpec, GuestWrite, Moment, Script, World};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange};
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;
use crate::progress::Interrupt;

/// How much of an image is in memory at once.
const CHUNK: u64 = 4 << 20;
/// Longer images are not compared while the run goes on.
const COMPARED_MAX: u64 = 64 << 20;

/// What was made for a run.
pub(crate) struct Made {
    /// Every image is there and filled, but for those that commands make.
    pub whole: bool,
    files: Vec<PathBuf>,
    /// Directories that were not there; inner ones first.
    dirs: Vec<PathBuf>,
}

impl Made {
    /// Takes it away again, as far as that is possible: whoever calls this has an error of his own to tell.
    pub fn remove(&self) {
        self.files.iter().for_each(|path| drop(fs::remove_file(path)));
        self.dirs.iter().for_each(|path| drop(fs::remove_dir(path)));
    }
}

/// The image files, by the names of the scenario's disks.
#[derive(Clone)]
pub(crate) struct Images(Arc<BTreeMap<String, PathBuf>>);

impl Images {
    /// Where they will be.
    ///
    /// # Errors
    /// If a disk's name cannot be a file's.
    pub fn of(script: &Script, dir: &Path) -> Result<Self, Failure> {
        let fine = |name: &str| {
            name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !name.is_empty()
        };
        let path = |name: &String| {
            if !fine(name) {
                return Err(Failure::usage(format!("disk '{name}': no name for an image file")));
            }
            Ok((name.clone(), dir.join(format!("{name}.img"))))
        };
        Ok(Self(Arc::new(script.disks.keys().map(path).collect::<Result<_, _>>()?)))
    }

    /// Makes and fills them, and their directory. If it is interrupted, they are left as far as they came.
    ///
    /// # Errors
    /// The first file that cannot be made; nothing is left then.
    pub fn make(
        &self,
        script: &Script,
        dir: &Path,
        host: &Host,
        interrupt: &Interrupt,
    ) -> Result<Made, Failure> {
        if let Some(path) = self.0.values().find(|path| path.symlink_metadata().is_ok()) {
            return Err(exists(path));
        }
        let missing =
            dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        let mut made = Made {
            whole: false,
            files: Vec::new(),
            dirs: missing.map(Path::to_path_buf).collect(),
        };
        fs::create_dir_all(dir).map_err(|error| {
            Failure::file(dir, format!("cannot be made a directory: {}", words(&error)))
        })?;
        match self.make_each(script, host, interrupt, &mut made.files) {
            Ok(whole) => Ok(Made { whole, ..made }),
            Err(failure) => {
                made.remove();
                Err(failure)
            }
        }
    }

    fn make_each(
        &self,
        script: &Script,
        host: &Host,
        interrupt: &Interrupt,
        made: &mut Vec<PathBuf>,
    ) -> Result<bool, Failure> {
        let filled = |disk: &&DiskSpec| !disk.is_blank();
        let bar = bar(script.disks.values().filter(filled).map(|disk| disk.size).sum());
        for (name, disk) in &script.disks {
            let path = &self.0[name];
            if !disk.is_there() {
                made.push(path.clone());
                continue;
            }
            let file = HostFile::create(path, disk.size, CreateMode::New);
            let file = file.map_err(|error| match error.kind() {
                HostErrorKind::Exists => exists(path),
                _ => Failure::usage(error.to_string()),
            })?;
            made.push(path.clone());
            if !disk.is_blank() && !fill(host, &file, disk, &bar, interrupt)? {
                return Ok(false);
            }
        }
        bar.finish_and_clear();
        Ok(true)
    }

    /// The file of a disk.
    pub fn path(&self, disk: &str) -> Option<&Path> {
        self.0.get(disk).map(PathBuf::as_path)
    }

    /// The name of a disk's file, without its directory.
    pub fn file_name(&self, disk: &str) -> String {
        format!("{disk}.img")
    }

    /// Every file that is there.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.values().map(PathBuf::as_path).filter(|path| path.exists())
    }

    /// The first offset in the first `len` bytes at which two disks' files differ.
    pub fn first_difference(&self, a: &str, b: &str, len: u64) -> io::Result<Option<u64>> {
        let (mut a, mut b) = (self.open(a)?, self.open(b)?);
        let (mut from_a, mut from_b) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        let mut at = 0;
        while at < len {
            let piece = CHUNK.min(len - at) as usize;
            a.read_exact(&mut from_a[..piece])?;
            b.read_exact(&mut from_b[..piece])?;
            if from_a[..piece] != from_b[..piece] {
                let differs = from_a.iter().zip(&from_b).position(|(a, b)| a != b);
                return Ok(differs.map(|index| at + index as u64));
            }
            at += piece as u64;
        }
        Ok(None)
    }

    /// Whether a disk's file holds what `write` wrote.
    pub fn holds(&self, disk: &str, write: &GuestWrite) -> io::Result<bool> {
        let range = write.range;
        let mut file = self.open(disk)?;
        file.seek(SeekFrom::Start(range.start()))?;
        let mut found = vec![0; range.len().as_usize()];
        file.read_exact(&mut found)?;
        Ok(found == pattern(write.tag, range))
    }

    fn open(&self, disk: &str) -> io::Result<File> {
        self.path(disk).map_or_else(|| Err(io::ErrorKind::NotFound.into()), File::open)
    }

    fn read_both(&self, a: &str, b: &str, len: ByteLen) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let read = |disk| {
            let mut bytes = Vec::with_capacity(len.as_usize());
            self.open(disk)?.take(len.0).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(bytes)
        };
        Ok((read(a)?, if a == b { Vec::new() } else { read(b)? }))
    }
}

fn exists(path: &Path) -> Failure {
    Failure::file(path, "there is such a file already; remove it, or choose another --dir")
}

fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn pattern(tag: u64, range: ByteRange) -> Vec<u8> {
    let mut bytes = vec![0; range.len().as_usize()];
    data::fill_pattern(tag, range, &mut bytes);
    bytes
}

fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("filling the images: {bytes}/{total_bytes} {bar:30}");
    // The template is ours; a wrong one would show in the first run.
    ProgressBar::new(bytes).with_style(style.expect("template-is-right"))
}

/// Fills a new image as its disk says; false if it was interrupted.
fn fill(
    host: &Host,
    file: &HostFile,
    disk: &DiskSpec,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<bool, Failure> {
    let mut at = 0;
    while at < disk.size {
        if interrupt.is_set() {
            bar.finish_and_clear();
            return Ok(false);
        }
        let range = ByteRange::new(at, CHUNK.min(disk.size - at));
        let bytes = IoBuffer::from(disk.bytes(range));
        host.block_on(file.write(at, bytes, false))
            .map_err(|error| Failure::file(Path::new(file.name()), error))?;
        at = range.end();
        bar.inc(range.len().0);
    }
    Ok(true)
}

/// A moment as the world saw it.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// On the world's clock.
    pub at_ns: u64,
    /// The load's writes until then.
    pub load_writes: u64,
}

/// What a run on files has come to.
#[derive(Clone, Default)]
pub(crate) struct Log {
    /// The first property broken, and how.
    pub violation: Option<(String, String)>,
    /// The first time that each moment was reached.
    pub moments: BTreeMap<Moment, Seen>,
    /// Guest writes that the load has completed.
    pub load_writes: u64,
}

impl Log {
    /// Load writes from one moment to another, or to the end.
    pub fn load_writes_between(&self, from: Moment, to: Option<Moment>) -> u64 {
        let Some(from) = self.moments.get(&from) else { return 0 };
        let to = to.and_then(|to| self.moments.get(&to)).map(|seen| seen.load_writes);
        to.unwrap_or(self.load_writes).saturating_sub(from.load_writes)
    }

    /// Seconds from one moment to another.
    pub fn seconds_between(&self, from: Moment, to: Moment) -> Option<f64> {
        let (from, to) = (self.moments.get(&from)?, self.moments.get(&to)?);
        Some(to.at_ns.saturating_sub(from.at_ns) as f64 / 1e9)
    }
}

/// The world: the host's tasks and time, the images for disks.
pub(crate) struct OnFiles {
    runtime: Runtime,
    images: Images,
    hold: bool,
    log: Quiet<Log>,
}

impl OnFiles {
    pub fn new(runtime: Runtime, images: Images, hold: bool) -> Self {
        Self { runtime, images, hold, log: Quiet::default() }
    }

    /// What happened so far.
    pub fn log(&self) -> Log {
        self.log.with(|log| log.clone())
    }
}

impl World for OnFiles {
    fn runtime(&self) -> Runtime {
        self.runtime.clone()
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.images.clone())
    }

    fn report(&self, property: &str, message: String) {
        self.log.with(|log| {
            log.violation.get_or_insert((property.into(), message));
        });
    }

    fn reached(&self, moment: Moment) {
        let at_ns = self.runtime.now_ns();
        self.log.with(|log| {
            let seen = Seen { at_ns, load_writes: log.load_writes };
            log.moments.entry(moment).or_insert(seen);
        });
    }

    fn load_wrote(&self) {
        self.log.with(|log| log.load_writes += 1);
    }

    fn holds_at_pivot(&self) -> bool {
        self.hold
    }

    fn compare(
        &self,
        (a, b): (&str, &str),
        len: ByteLen,
        judge: &dyn Fn(Contents<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if len.0 > COMPARED_MAX {
            return Ok(());
        }
        match self.images.read_both(a, b, len) {
            Ok((first, second)) => {
                judge((first.as_slice(), if a == b { first.as_slice() } else { second.as_slice() }))
            }
            Err(error) => {
                self.report("io", format!("{a}, {b}: cannot be compared: {}", words(&error)));
                Ok(())
            }
        }
    }
}

impl Files for Images {
    fn open(&self, filename: &str, opening: Opening) -> Result<Arc<dyn Storage>, String> {
        let path = self.path(filename).ok_or_else(|| format!("there is no disk '{filename}'"))?;
        let locking = match opening {
            Opening { locking: false, .. } => Locking::Off,
            Opening { force_share: true, .. } => Locking::ForceShare,
            Opening { .. } => Locking::On,
        };
        let aio = opening.aio.map(|aio| match aio {
            Aio::Threads => blockyard_host::Aio::Threads,
            Aio::IoUring => blockyard_host::Aio::IoUring,
        });
        let Opening { direct, no_flush, .. } = opening;
        let opening = blockyard_host::Opening {
            locking,
            direct,
            no_flush,
            aio,
            ..blockyard_host::Opening::new(opening.read_only)
        };
        let file = HostFile::open_with(path, opening);
        Ok(Arc::new(file.map_err(|error| error.to_string())?))
    }

    fn create(&self, filename: &str) -> Result<Arc<dyn Storage>, String> {
        let path = self.path(filename).ok_or_else(|| format!("there is no disk '{filename}'"))?;
        let file = HostFile::create(path, 0, CreateMode::Replace);
        Ok(Arc::new(file.map_err(|error| error.to_string())?))
    }
}
