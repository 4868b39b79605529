//! What is asked of the machine: time, memory, and where files may be put.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of this process so far, in the system too: all threads.
pub fn processor_s() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// The same of the children that have ended.
pub fn children_s() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the system counts its children");
    [used.user_time(), used.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}

/// The same of another process that is still there.
pub fn processor_of_s(process: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| {
        let told = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        told.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(of_thread).sum::<f64>() / 1e9
}

/// Resident size of a process.
pub fn resident_kib(process: u32) -> f64 {
    status_kib(process, "VmRSS:")
}

/// From here on counts what is the largest that a process was.
pub fn forget_peak(process: u32) {
    fs::write(format!("/proc/{process}/clear_refs"), "5").expect("it is a process of ours");
}

/// The largest that this process was.
pub fn peak_kib() -> f64 {
    peak_of_kib(std::process::id())
}

/// The largest that another process was that is still there.
pub fn peak_of_kib(process: u32) -> f64 {
    status_kib(process, "VmHWM:")
}

/// The largest that any child was that has ended.
pub fn children_peak_kib() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the system counts its children");
    used.max_rss() as f64
}

fn status_kib(process: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("the system tells how large processes are")
}

/// What `work` takes: processor time of this process, and time as it passes.
pub fn timed(work: impl FnOnce()) -> (f64, f64) {
    let (began, began_s) = (Instant::now(), processor_s());
    work();
    (processor_s() - began_s, began.elapsed().as_secs_f64())
}

/// A folder that goes with its owner.
pub struct Folder(PathBuf);

impl Folder {
    /// Of this process alone.
    pub fn own() -> Self {
        Self::of("own", std::process::id())
    }

    /// Of the whole bench, whose process this is: what it has made each side finds.
    pub fn of_bench() -> Self {
        Self::of("bench", std::process::id())
    }

    fn of(what: &str, process: u32) -> Self {
        let path = std::env::temp_dir().join(format!("blockyard-{what}-{process}"));
        fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The file of this name that the whole bench has in common; the first that wants it makes it.
pub fn shared(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let bench = format!("blockyard-bench-{}", std::os::unix::process::parent_id());
    let path = std::env::temp_dir().join(bench).join(name);
    if !path.exists() {
        let half = path.with_extension("half");
        make(&half);
        File::open(&half).and_then(|file| file.sync_all()).expect("the disk takes it");
        fs::rename(&half, &path).expect("the folder is writable");
    }
    path
}

/// As an option's value: commas would end it.
pub fn text(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
