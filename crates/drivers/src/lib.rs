//! Block drivers: raw, null, memory, throttle.
