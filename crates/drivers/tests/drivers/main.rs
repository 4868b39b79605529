//! Each driver through a real layer and backend, in the simulated world.

mod bench;
mod copying;
mod debugging;
mod deduplicating;
mod encrypting;
mod grouping;
mod logging;
mod overlaying;
mod placing;
mod storing;
mod throttling;
