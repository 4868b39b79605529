//! Tests of the primitives, polled by hand.
