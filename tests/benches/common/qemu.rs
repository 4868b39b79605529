//! The peer: `qemu-img bench` for requests, a `qemu-storage-daemon` for commands.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use super::figure::Absent;
use super::machine::{children_s, forget_peak, peak_of_kib, processor_of_s, resident_kib};

/// What requests took.
pub struct Took {
    pub processor_s: f64,
    /// Time as it passes.
    pub passed_s: f64,
}

/// `count` requests, less what it takes to make one.
pub fn bench(options: &[&str], image: &str, count: u64) -> Result<Took, Absent> {
    let one = run_bench(options, image, 1)?;
    let all = run_bench(options, image, count)?;
    Ok(Took { processor_s: all.processor_s - one.processor_s, passed_s: all.passed_s })
}

/// Time as it passes while `tool` does what `arguments` say, less what it takes to start.
pub fn passed_s(tool: &str, arguments: &[&str]) -> Result<f64, Absent> {
    let run = |arguments: &[&str]| {
        let began = Instant::now();
        let output = Command::new(tool).args(arguments).output();
        let output = output.map_err(|error| missing(tool, &error))?;
        let complained = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(began.elapsed().as_secs_f64()),
            false => Err(Absent(format!("{tool}: {}", complained.trim()))),
        }
    };
    Ok(run(arguments)? - run(&["--version"])?)
}

fn run_bench(options: &[&str], image: &str, count: u64) -> Result<Took, Absent> {
    let began_s = children_s();
    let mut command = Command::new("qemu-img");
    command.arg("bench").args(options).args(["-c", &count.to_string(), image]);
    let output = command.output().map_err(|error| missing("qemu-img", &error))?;
    let told = String::from_utf8_lossy(&output.stdout);
    let passed = told.lines().find_map(|line| {
        line.strip_prefix("Run completed in ")?.strip_suffix(" seconds.")?.parse().ok()
    });
    let complained = String::from_utf8_lossy(&output.stderr);
    let passed_s =
        passed.ok_or_else(|| Absent(format!("qemu-img bench: {}", complained.trim())))?;
    Ok(Took { processor_s: children_s() - began_s, passed_s })
}

fn missing(tool: &str, error: &std::io::Error) -> Absent {
    let why = if error.kind() == ErrorKind::NotFound { "not installed" } else { "does not run" };
    Absent(format!("{tool}: {why}"))
}

/// A `qemu-storage-daemon` that does as it is told.
pub struct Daemon {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Daemon {
    pub fn start() -> Result<Self, Absent> {
        let mut command = Command::new("qemu-storage-daemon");
        command.args(["--chardev", "stdio,id=qmp", "--monitor", "chardev=qmp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| missing("qemu-storage-daemon", &error))?;
        let to = child.stdin.take().expect("it is piped");
        let from = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut daemon = Self { child, to, from };
        daemon.execute("qmp_capabilities", ["{}".into()]);
        Ok(daemon)
    }

    /// Executes commands, each the text of its arguments, one after the other.
    pub fn execute(&mut self, command: &str, arguments: impl IntoIterator<Item = String>) {
        for arguments in arguments {
            let line = format!("{{\"execute\": \"{command}\", \"arguments\": {arguments}}}\n");
            self.to.write_all(line.as_bytes()).expect("it listens");
            loop {
                let mut answer = String::new();
                let read = self.from.read_line(&mut answer).expect("it answers");
                assert!(read > 0, "the daemon is gone after {line}");
                assert!(!answer.contains("\"error\""), "{line}: {answer}");
                if answer.contains("\"return\"") {
                    break;
                }
            }
        }
    }

    /// Waits for an event of this name that has not come before the last answer; it tells of no error.
    pub fn wait(&mut self, event: &str) {
        let mut line = String::new();
        while !line.contains(event) {
            line.clear();
            let read = self.from.read_line(&mut line).expect("it tells");
            assert!(read > 0, "the daemon is gone before {event}");
        }
        assert!(!line.contains("\"error\""), "{line}");
    }

    /// Its processor time so far.
    pub fn processor_s(&self) -> f64 {
        processor_of_s(self.child.id())
    }

    /// From here on counts what is the largest that it was.
    pub fn forget_peak(&self) {
        forget_peak(self.child.id());
    }

    /// The largest that it was.
    pub fn peak_kib(&self) -> f64 {
        peak_of_kib(self.child.id())
    }

    pub fn resident_kib(&self) -> f64 {
        resident_kib(self.child.id())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
