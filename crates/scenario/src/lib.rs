//! Scripts, actors and observers, over any world.
