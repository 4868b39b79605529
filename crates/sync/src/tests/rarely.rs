//! Values that are nearly always their default.

use super::recorded;
use crate::Rarely;
use crate::door::Kind;

#[test]
fn default_is_seen_until_the_first_change_and_each_look_leaves_a_footprint() {
    let value = Rarely::<u64>::default();
    let log = recorded(|| {
        assert_eq!(value.read(|value| *value), 0);
        value.write(|value| *value = 7);
        assert_eq!(value.read(|value| *value), 7);
    });
    let kinds: Vec<Kind> = log.accesses.iter().map(|access| access.kind).collect();
    assert_eq!(kinds, [Kind::Read, Kind::Write, Kind::Read]);
    value.write(|value| *value = 0);
    assert_eq!(value.read(|value| *value), 0);
}
