//! What is measured, and what it should be.

/// Why a side says nothing.
#[derive(Debug)]
pub struct Absent(pub String);

pub type Measure = fn() -> Result<f64, Absent>;

/// A line of the table.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub unit: Unit,
    pub target: Target,
    pub qemu: Measure,
    pub ours: Measure,
}

/// Lines of the table that are measured together: several figures of one go.
pub struct Group {
    pub name: &'static str,
    /// In the order in which they are measured.
    pub figures: &'static [Figure],
    pub qemu: MeasureAll,
    pub ours: MeasureAll,
}

/// One of them.
#[derive(Clone, Copy)]
pub struct Figure {
    pub what: &'static str,
    pub unit: Unit,
    pub target: Target,
}

pub type MeasureAll = fn() -> Result<Vec<f64>, Absent>;

/// What a value counts.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Of processor time.
    Microseconds,
    /// Of time, and the row says of which.
    Seconds,
    /// The same, shown in milliseconds.
    Milliseconds,
    /// Of time as it passes.
    PerSecond,
    /// The same, of bytes.
    MibPerSecond,
    Kib,
}

/// What ours should be.
#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Of the peer's, at most.
    PeerAtMost(f64),
    /// Of the peer's, at least.
    PeerAtLeast(f64),
    /// None: it is shown beside others.
    None,
}

impl Unit {
    pub fn format(self, value: f64) -> String {
        match self {
            Self::Microseconds => format!("{value:.3} µs"),
            Self::Seconds => format!("{value:.3} s"),
            Self::Milliseconds => format!("{:.2} ms", value * 1e3),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::MibPerSecond => format!("{value:.0} MiB/s"),
            Self::Kib => format!("{value:.1} KiB"),
        }
    }
}

impl Target {
    /// Nothing, where there is no peer to compare with.
    pub fn is_met(self, ours: f64, peer: Option<f64>) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(ours <= most),
            Self::AtLeast(least) => Some(ours >= least),
            Self::PeerAtMost(part) => peer.map(|peer| ours <= peer * part),
            Self::PeerAtLeast(part) => peer.map(|peer| ours >= peer * part),
            Self::None => None,
        }
    }

    pub fn shown(self, unit: Unit) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {}", unit.format(most)),
            Self::AtLeast(least) => format!("≥ {}", unit.format(least)),
            Self::PeerAtMost(1.0) => String::from("≤ peer"),
            Self::PeerAtMost(part) => format!("≤ {part} peer"),
            Self::PeerAtLeast(1.0) => String::from("≥ peer"),
            Self::PeerAtLeast(part) => format!("≥ {part} peer"),
            Self::None => String::new(),
        }
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
