//! The simulated world: executor, choices, disk bytes, exploration.
