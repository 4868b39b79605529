//! Each driver through a real layer and backend, in the simulated world.

mod bench;
mod placing;
mod storing;
mod throttling;
