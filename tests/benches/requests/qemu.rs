//! The peer: `qemu-img bench` for requests, a `qemu-storage-daemon` for commands.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::figure::Absent;
use crate::machine::{Scratch, children_s, processor_of_s, resident_kib};

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
    to: UnixStream,
    from: BufReader<UnixStream>,
    _scratch: Scratch,
}

impl Daemon {
    pub fn start() -> Result<Self, Absent> {
        let scratch = Scratch::new();
        let socket = scratch.path("qmp");
        let chardev = format!("socket,id=qmp,path={},server=on,wait=off", socket.display());
        let mut command = Command::new("qemu-storage-daemon");
        command.args(["--chardev", &chardev, "--monitor", "chardev=qmp"]).stdin(Stdio::null());
        let child = command.spawn().map_err(|error| missing("qemu-storage-daemon", &error))?;
        let connect = || UnixStream::connect(&socket).ok();
        let to = (0..1000).find_map(|_| {
            thread::sleep(Duration::from_millis(5));
            connect()
        });
        let to = to.ok_or_else(|| Absent("qemu-storage-daemon: does not listen".into()))?;
        let from = BufReader::new(to.try_clone().expect("a socket can be held twice"));
        let mut daemon = Self { child, to, from, _scratch: scratch };
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

    /// Its processor time so far.
    pub fn processor_s(&self) -> f64 {
        processor_of_s(self.child.id())
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
