//! Which features are finalized without anybody asking?

use super::*;

#[test]
fn the_first_tick_finalizes_what_this_build_can_and_the_next_ones_nothing() {
    let mut cluster = Cluster::new(0);
    let levels: Vec<(String, i16)> = (cluster.committed.features())
        .map(|(name, level)| (name.to_owned(), level))
        .collect();
    for wanted in [
        (METADATA_FEATURE, METADATA_LEVEL),
        (TRANSACTION_FEATURE, TRANSACTION_LEVEL),
        (GROUP_FEATURE, GROUP_LEVEL),
    ] {
        assert!(
            levels.contains(&(wanted.0.to_owned(), wanted.1)),
            "{wanted:?}"
        );
    }
    let offset = cluster.committed.offset();
    cluster.tick(1);
    assert_eq!(cluster.committed.offset(), offset);
}
