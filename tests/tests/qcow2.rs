//! Images that we write, against `qemu-img`; and images that it writes, against us.
//!
//! Where `qemu-img` is absent these tests say so and are skipped; `.ci/run` has it.

mod qcow2 {
    pub mod amend;
    pub mod backing;
    pub mod bitmaps;
    pub mod caches;
    pub mod check;
    pub mod compressing;
    pub mod create;
    pub mod disk;
    pub mod external;
    pub mod filters;
    pub mod hostile;
    pub mod matrix;
    pub mod model;
    pub mod nodes;
    pub mod overlap;
    pub mod peer;
    pub mod preallocate;
    pub mod reopen;
    pub mod slots;
    pub mod snapshots;
    pub mod theirs;
    pub mod volumes;
}
