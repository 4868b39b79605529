//! Progress on a terminal, and Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Set once somebody pressed Ctrl-C.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let flag = interrupt.0.clone();
        // Without a handler Ctrl-C ends the process at once, which loses nothing but the summary.
        let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
        interrupt
    }

    /// Whether it was pressed.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
pub(crate) fn quietly<R>(run: impl FnOnce() -> R) -> R {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = run();
    std::panic::set_hook(hook);
    result
}
