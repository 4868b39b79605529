//! What is asked of the machine: the time that this process used, and the most memory that it had.

use rustix::time::{ClockId, clock_gettime};

use crate::figure::Figure;

/// Of a rate: measured so many times, for so long each.
const TIMES: usize = 5;
const SECONDS: f64 = 0.2;

/// Processor time of this process so far, in the system too.
pub fn seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// How many of what `work` counts are done in a second: the median of some goes.
pub fn rate(mut work: impl FnMut() -> u64) -> f64 {
    let mut rates = [0.0; TIMES].map(|_| {
        let (began, mut count) = (seconds(), 0);
        loop {
            count += work();
            let elapsed = seconds() - began;
            if elapsed >= SECONDS {
                return count as f64 / elapsed;
            }
        }
    });
    rates.sort_by(f64::total_cmp);
    rates[TIMES / 2]
}

/// Peak resident size of this process; 0 where the system does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or_default()
}

/// Tells the parent a figure, and ends this process.
pub fn finish(figure: Figure) -> ! {
    print!("{}", Figure { peak_kib: peak_kib(), ..figure });
    std::process::exit(0);
}
