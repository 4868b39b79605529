//! What is measured, and what it should be.

use std::fmt::{self, Display};
use std::str::FromStr;

/// A line of the table.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub target: Target,
    /// loom, shuttle, ours: what measures it, where it can be said at all.
    pub sides: [Option<fn() -> Figure>; 3],
}

/// What ours should be.
#[derive(Clone, Copy)]
pub enum Target {
    /// Executions.
    Exactly(u64),
    /// Executions.
    AtMost(u64),
    /// A second.
    AtLeast(u64),
    /// Milliseconds of processor time, at most.
    InMs(u64),
    /// Of a hundred, at least.
    Of100(u64),
    /// As fast, at least.
    Times(f64),
    /// MiB of peak resident size, which stands for the figure.
    Within(u64),
}

impl Target {
    pub fn is_met(self, ours: &Figure) -> bool {
        let Figure { value, more, blocked, peak_kib, .. } = *ours;
        match self {
            Self::Exactly(count) => value == count as f64 && !more && blocked == 0,
            Self::AtMost(most) | Self::InMs(most) => value <= most as f64 && !more,
            Self::AtLeast(least) | Self::Of100(least) => value >= least as f64,
            Self::Times(least) => value >= least,
            Self::Within(mib) => peak_kib > 0 && peak_kib <= mib * 1024,
        }
    }

    /// A value of the kind that the target is.
    pub fn format(self, value: f64) -> String {
        match self {
            Self::Exactly(_) | Self::AtMost(_) | Self::Of100(_) => grouped(value),
            Self::Times(_) => format!("{value:.2}"),
            Self::AtLeast(_) => format!("{}/s", grouped(value)),
            Self::InMs(_) => format!("{value:.1} ms"),
            Self::Within(_) => format!("{value:.1} MiB"),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exactly(count) => write!(f, "{}", grouped(count as f64)),
            Self::AtMost(most) => write!(f, "≤ {}", grouped(most as f64)),
            Self::AtLeast(least) => write!(f, "≥ {}/s", grouped(least as f64)),
            Self::Of100(least) => write!(f, "≥ {least}"),
            Self::Times(least) => write!(f, "≥ {least}"),
            Self::InMs(most) => write!(f, "≤ {most} ms"),
            Self::Within(mib) => write!(f, "≤ {mib} MiB"),
        }
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What one side of a row is.
#[derive(Default)]
pub struct Figure {
    pub value: f64,
    /// It was ended there.
    pub more: bool,
    /// Executions that were given up, among those counted.
    pub blocked: u64,
    /// The whole process's.
    pub peak_kib: u64,
    /// Of a mean: what it is made of.
    pub parts: Vec<(String, f64)>,
}

impl Figure {
    /// A number of executions; `more`: it was ended there.
    pub fn executions(count: u64, more: bool) -> Self {
        Self { value: count as f64, more, ..Self::default() }
    }

    /// The geometric mean of rates, each named.
    pub fn mean(parts: impl IntoIterator<Item = (String, f64)>) -> Self {
        let parts: Vec<_> = parts.into_iter().collect();
        let logarithms: f64 = parts.iter().map(|(_, rate)| rate.ln()).sum();
        let value = (logarithms / parts.len() as f64).exp();
        Self { value, parts, ..Self::default() }
    }

    pub fn part(&self, name: &str) -> Option<f64> {
        self.parts.iter().find(|(part, _)| part == name).map(|(_, value)| *value)
    }

    pub fn shown(&self, kind: Target) -> String {
        let value = match kind {
            Target::Within(_) => self.peak_kib as f64 / 1024.0,
            _ => self.value,
        };
        let more = if self.more && !matches!(kind, Target::Within(_)) { ">" } else { "" };
        let blocked = match self.blocked {
            0 => String::new(),
            count => format!(" ({count} blocked)"),
        };
        format!("{more}{}{blocked}", kind.format(value))
    }
}

/// As one process tells another.
impl Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, more, blocked, peak_kib, parts } = self;
        writeln!(f, "{value} {more} {blocked} {peak_kib}")?;
        parts.iter().try_for_each(|(name, value)| writeln!(f, "{value} {name}"))
    }
}

impl FromStr for Figure {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        fn read<T: FromStr>(word: Option<&str>) -> Result<T, ()> {
            word.and_then(|word| word.parse().ok()).ok_or(())
        }
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (value, more) = (read(words.next())?, read(words.next())?);
        let (blocked, peak_kib) = (read(words.next())?, read(words.next())?);
        let part = |line: &str| {
            let (value, name) = line.split_once(' ').ok_or(())?;
            Ok((name.to_owned(), read(Some(value))?))
        };
        Ok(Self {
            value,
            more,
            blocked,
            peak_kib,
            parts: lines.map(part).collect::<Result<_, _>>()?,
        })
    }
}
