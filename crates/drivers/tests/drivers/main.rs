//! Each driver through a real layer and backend, in the simulated world.

mod bench;
mod storing;
mod throttling;
