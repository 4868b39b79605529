//! How long a simulated disk takes in timed runs, as scenarios say it:
//! `"latency": { "read": "100us", "bandwidth": "64M" }`.

use blockyard_qmp::Size;
use serde::Deserialize;

/// What a scenario says; a world has its own idea of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLatency {
    /// Access time of a read.
    pub read_ns: Option<u64>,
    /// Of a write.
    pub write_ns: Option<u64>,
    /// Of a flush.
    pub flush_ns: Option<u64>,
    /// The most that is added to an access time by chance.
    pub jitter_ns: Option<u64>,
    /// Bytes in a second; at least one.
    pub bandwidth: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LatencyOptions {
    read: Option<String>,
    write: Option<String>,
    flush: Option<String>,
    jitter: Option<String>,
    bandwidth: Option<Size>,
}

impl LatencyOptions {
    /// What they say.
    pub fn latency(self) -> Result<DiskLatency, String> {
        let ns = |key: &str, text: Option<String>| {
            let ns = text.as_deref().map(nanoseconds).transpose();
            ns.map_err(|error| format!("{key}: {error}"))
        };
        let bandwidth = self.bandwidth.map(|bandwidth| bandwidth.0);
        if bandwidth == Some(0) {
            return Err("bandwidth: at least one byte in a second is needed".into());
        }
        Ok(DiskLatency {
            read_ns: ns("read", self.read)?,
            write_ns: ns("write", self.write)?,
            flush_ns: ns("flush", self.flush)?,
            jitter_ns: ns("jitter", self.jitter)?,
            bandwidth,
        })
    }
}

const UNITS: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// A number and its unit.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, word) = text.split_at(digits);
    let unit = UNITS.iter().find(|(unit, _)| *unit == word);
    let ns = unit.zip(number.parse::<u64>().ok());
    // More than an hour is a slip.
    let ns = ns.and_then(|((_, unit), number)| number.checked_mul(*unit));
    ns.filter(|ns| *ns <= 3_600 * UNITS[3].1).ok_or_else(|| {
        format!("'{text}': a whole number of ns, us, ms or s, up to an hour, is needed")
    })
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn times_have_units() {
        for (text, ns) in
            [("0ns", 0), ("100us", 100_000), ("7ms", 7_000_000), ("3600s", 3_600_000_000_000)]
        {
            assert_eq!(nanoseconds(text), Ok(ns), "{text}");
        }
        for text in [
            "",
            "7",
            "ms",
            "1.5ms",
            "-1s",
            "1 s",
            "3601s",
            "99999999999999999999ns",
            "18446744073709551615s",
        ] {
            assert!(nanoseconds(text).is_err(), "{text}");
        }
    }
}
