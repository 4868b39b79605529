//! Keys derived in pieces.

use alloc::boxed::Box;
use alloc::vec;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use crate::Hash;

/// Over when it is asked for the second time.
struct Pause(bool);

impl Future for Pause {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if core::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// What makes a key of a passphrase, a salt and a number of rounds.
type Derive = fn(&[u8], &[u8], u32, &mut [u8]);

fn all() -> [(Hash, Derive); 6] {
    [
        (Hash::Ripemd160, pbkdf2::pbkdf2_hmac::<ripemd::Ripemd160>),
        (Hash::Sha1, pbkdf2::pbkdf2_hmac::<sha1::Sha1>),
        (Hash::Sha224, pbkdf2::pbkdf2_hmac::<sha2::Sha224>),
        (Hash::Sha256, pbkdf2::pbkdf2_hmac::<sha2::Sha256>),
        (Hash::Sha384, pbkdf2::pbkdf2_hmac::<sha2::Sha384>),
        (Hash::Sha512, pbkdf2::pbkdf2_hmac::<sha2::Sha512>),
    ]
}

#[test]
fn a_key_is_what_another_implementation_derives() {
    for (hash, other) in all() {
        for (rounds, len) in [(1, 1), (2, 64), (7, 20), (1000, 65), (20_000, 32)] {
            let long = [7; 200];
            for password in [&b""[..], b"correct horse", &long] {
                let mut expected = vec![0; len];
                other(password, b"salt", rounds, &mut expected);
                let found = hash.derive(password, b"salt", rounds, len);
                assert_eq!(*found, expected, "{hash:?}, {rounds} rounds, {len} bytes");
            }
        }
    }
}

#[test]
fn others_go_on_between_the_pieces() {
    let pause = || -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(Pause(false)) };
    let mut derived = pin!(Hash::Sha256.derive_in_pieces(b"x", b"salt", 100_000, 32, pause));
    let mut pauses = 0;
    while derived.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        pauses += 1;
    }
    assert_eq!(pauses, 6, "one in 16384 rounds");
}
