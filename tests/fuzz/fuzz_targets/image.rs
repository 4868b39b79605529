//! Images, each opened, used in every way, checked and repaired; the library tells how to start it. Small images of
//! `qemu-img` (`cluster_size=512`) are good to begin with.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blockyard_fuzz::image::check_image(bytes));
