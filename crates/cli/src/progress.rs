//! Progress on a terminal, and the signals that end it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use blockyard_sync::door::world::catch_panic;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The number of the last signal that came, or 0.
static SIGNAL: AtomicUsize = AtomicUsize::new(0);

/// Set once somebody pressed Ctrl-C, or asked the process to terminate.
#[derive(Clone, Copy)]
pub(crate) struct Interrupt(());

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Self {
        for signal in [SIGINT, SIGTERM] {
            // Without a handler it ends the process at once, which loses nothing but the summary.
            let _ =
                signal_hook::flag::register_usize(signal, &SIGNAL, signal.unsigned_abs() as usize);
        }
        Self(())
    }

    /// Whether one came.
    pub fn is_set(&self) -> bool {
        SIGNAL.load(Ordering::Relaxed) != 0
    }

    /// The exit status of a process that was interrupted, as shells have it: 128 and the signal's number.
    pub fn status() -> u8 {
        128 | SIGNAL.load(Ordering::Relaxed) as u8
    }
}

/// A line on a terminal; nothing elsewhere.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    /// `of`: how many there will be, if that is known.
    pub fn new(what: &str, of: Option<u64>) -> Self {
        let bar = of.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let counter = if of.is_some() { "{pos}/{len}" } else { "{pos}" };
        let template = format!("{{spinner}} {what}: {counter} {{msg}} [{{elapsed}}]");
        // The template is ours; a wrong one would show in the first run.
        bar.set_style(ProgressStyle::with_template(&template).expect("template-is-right"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, began: Instant::now() }
    }

    /// Shows how far it is, at times; for who asks at each execution.
    pub fn show(&self, executions: u64) {
        if executions.is_multiple_of(64) {
            self.show_now(executions, executions);
        }
    }

    /// Shows how far it is; so many of the executions were run since the beginning.
    pub fn show_now(&self, executions: u64, of_them: u64) {
        self.bar.set_position(executions);
        let rate = of_them as f64 / self.seconds().max(0.001);
        self.bar.set_message(format!("executions, {rate:.0}/s"));
    }

    /// Since the beginning.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Runs something whose panics are findings, reported with their tape: their messages need not come twice.
///
/// # Panics
/// Where `run` does itself, and says so: then it is a mistake of ours.
pub(crate) fn quietly<R>(run: impl FnOnce() -> R) -> R {
    let hook = std::panic::take_hook();
    let last = Arc::new(Mutex::new(String::new()));
    let heard = last.clone();
    std::panic::set_hook(Box::new(move |panic| {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
    let result = catch_panic(run);
    std::panic::set_hook(hook);
    result.unwrap_or_else(|message| {
        let last = last.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have had one since, which is a finding.
        panic!("{}", if last.contains(&message) { &*last } else { &message })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_outside_the_simulated_world_says_so_loudly() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            heard.lock().expect("nobody-panics-with-it").push(panic.to_string());
        }));
        let ended = catch_panic(|| quietly(|| -> () { panic!("a judge's own mistake") }));
        std::panic::set_hook(hook);
        let said = said.lock().expect("nobody-panics-with-it");
        let loud = said.iter().any(|text| text.contains("a judge's own mistake"));
        assert!(ended.is_err() && loud, "{said:?}");
    }
}
