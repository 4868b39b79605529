//! What the layer promises, in every order in which its tasks can run.

mod bench;
mod bitmaps;
mod children;
mod draining;
mod flushing;
mod options;
mod publishing;
mod reconfiguring;
mod reshaping;
mod taking;
mod writing;
