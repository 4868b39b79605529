//! Programs in two versions: right, and with a mistake that people make.

pub mod retrying;
pub mod storing;
pub mod waiting;
