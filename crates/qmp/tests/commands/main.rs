//! Commands that change the graph, in a simulated world: what they leave when they are done, and when they fail.

mod backups;
mod bench;
mod bitmaps;
mod busy;
mod failing;
mod grouped;
mod jobs;
mod media;
mod mirrors;
mod openings;
mod reopening;
mod secrets;
mod snapshots;
mod streams;
mod throttles;
mod transactions;
mod witness;
