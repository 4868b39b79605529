//! `blockyard run`.

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::report::{Output, Status};

pub(crate) fn play(_args: &RunArgs, _output: &Output) -> Result<Status, Failure> {
    Err(Failure::usage("not yet"))
}
