//! Images, each opened, read, checked and repaired; the library tells how to start it. It begins with the seeds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blockyard_fuzz::image::check_image(bytes));
