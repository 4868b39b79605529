//! Requests to an image, and how it is used meanwhile: the same on both sides.

use super::figure::Absent;
use super::layer::{Layer, Load};
use super::machine::timed;
use super::qemu::{self, Took};

#[derive(Clone, Copy)]
pub struct Way {
    pub format: &'static str,
    pub direct: bool,
    pub ring: bool,
    /// How many requests go before those that are measured, on our side: on QEMU's the process is new as well.
    pub warm: u64,
    pub load: Load,
}

impl Way {
    fn aio(self) -> &'static str {
        if self.ring { "io_uring" } else { "threads" }
    }

    pub fn ours(self, filename: &str) -> Result<Took, Absent> {
        let direct = if self.direct { "on" } else { "off" };
        let file =
            format!("driver=file,filename={filename},cache.direct={direct},aio={}", self.aio());
        let layer = Layer::new();
        layer.execute("blockdev-add", [format!("node-name=file,{file}")]);
        let disk = format!("driver={},node-name=disk,file=file", self.format);
        layer.execute("blockdev-add", [disk]);
        let backend = layer.backend("disk");
        layer.requests(&backend, Load { count: self.warm, ..self.load });
        let (processor_s, passed_s) = timed(|| layer.requests(&backend, self.load));
        Ok(Took { processor_s, passed_s })
    }

    pub fn qemu(self, filename: &str) -> Result<Took, Absent> {
        let cache = if self.direct { "none" } else { "writeback" };
        let Load { count, depth, size, step, write, .. } = self.load;
        let (depth, size, step) = (depth.to_string(), size.to_string(), step.to_string());
        let format = ["-f", self.format, "-t", cache, "-i", self.aio()];
        let places = ["-d", &depth, "-s", &size, "-S", &step];
        let write = if write { &["-w"] as &[&str] } else { &[] };
        qemu::bench(&[&format[..], &places, write].concat(), filename, count)
    }

    pub fn per_request_us(self, took: Took) -> f64 {
        took.processor_s * 1e6 / self.load.count as f64
    }

    pub fn per_second(self, took: Took) -> f64 {
        self.load.count as f64 / took.passed_s
    }
}
