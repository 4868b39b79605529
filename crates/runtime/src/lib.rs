//! The abstract executor: spawn, now, sleep; owned I/O buffers.
