//! How fast sectors are encrypted: `cargo bench -p blockyard-crypto --bench sectors`. Beside it the crate `xts-mode` on
//! the same bytes, and what to ask OpenSSL for: `openssl speed -evp aes-256-xts -bytes 512`.
#![allow(clippy::disallowed_types, reason = "a bench measures time")]

use std::time::Instant;

use aes::cipher::KeyInit;
use blockyard_crypto::{CipherSpec, SECTOR, SectorCipher};
use xts_mode::{Xts128, get_tweak_default};

const LEN: usize = 1 << 20;
const ROUNDS: usize = 8;

fn row(what: &str, mut run: impl FnMut(&mut [u8])) {
    let mut data = vec![7; LEN];
    run(&mut data);
    let best = (0..100).map(|_| {
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| run(&mut data));
        start.elapsed()
    });
    let best = best.min().expect("there are some");
    println!("{what:<40} {:>8.0} MiB/s", ROUNDS as f64 / best.as_secs_f64());
}

fn main() {
    for (mode, key_len) in [("xts-plain64", 64), ("xts-plain64", 32), ("cbc-essiv:sha256", 32)] {
        let spec = CipherSpec::from_words("aes", mode, key_len).expect("the words are known");
        let cipher = SectorCipher::new(&spec, &[3; 64][..key_len]);
        let what = |verb| format!("{verb} {mode}, key of {key_len} bytes");
        row(&what("encrypt"), |data| cipher.encrypt(0, data));
        row(&what("decrypt"), |data| cipher.decrypt(0, data));
    }
    let one = |key: u8| aes::Aes256::new_from_slice(&[key; 32]).expect("the key has its length");
    let theirs = Xts128::new(one(1), one(2));
    row("encrypt, crate xts-mode, 64 bytes", |data| {
        theirs.encrypt_area(data, SECTOR, 0, get_tweak_default);
    });
}
