//! Is each anomaly seen in a history that has it, and none in one that has none?

use super::{Anomaly, Kind, check};
use crate::history::{Event, parse};

/// Two producers, three transactions, two consumers that read it all; partition 0 ends at 8, partition 1 at 2.
const CLEAN: &str = r#"
{"type":"send","value":"p0.0-0","partition":0}
{"type":"send","value":"p0.0-1","partition":0}
{"type":"send","value":"p0.0-2","partition":1}
{"type":"ack","value":"p0.0-0","partition":0,"offset":0,"t":0.1}
{"type":"ack","value":"p0.0-1","partition":0,"offset":1,"t":0.2}
{"type":"fail","value":"p0.0-2","definite":false}
{"type":"send","value":"t0.0-0","partition":0,"txn":"t0/0"}
{"type":"send","value":"t0.0-1","partition":1,"txn":"t0/0"}
{"type":"ack","value":"t0.0-0","partition":0,"offset":2,"t":0.3}
{"type":"ack","value":"t0.0-1","partition":1,"offset":0,"t":0.3}
{"type":"end","txn":"t0/0","outcome":"committed"}
{"type":"send","value":"t0.0-2","partition":0,"txn":"t0/1"}
{"type":"ack","value":"t0.0-2","partition":0,"offset":4,"t":0.4}
{"type":"end","txn":"t0/1","outcome":"aborted"}
{"type":"send","value":"t0.0-3","partition":0,"txn":"t0/2"}
{"type":"ack","value":"t0.0-3","partition":0,"offset":6,"t":0.5}
{"type":"end","txn":"t0/2","outcome":"unknown"}
{"type":"session","consumer":"a0","positions":{"0":0,"1":0}}
{"type":"poll","consumer":"a0","records":[[0,0,"p0.0-0"],[0,1,"p0.0-1"],[1,0,"t0.0-1"]]}
{"type":"commit","offsets":{"0":2},"t":1.0}
{"type":"committed","offsets":{"0":2,"1":0},"t":2.0}
{"type":"session","consumer":"a0","positions":{"0":1,"1":1}}
{"type":"poll","consumer":"a0","records":[[0,1,"p0.0-1"],[0,2,"t0.0-0"],[0,6,"t0.0-3"]]}
{"type":"ends","ends":{"0":[8,8],"1":[2,2]}}
{"type":"reached","group":"a0","positions":{"0":8,"1":2}}
{"type":"session","consumer":"final","positions":{"0":0,"1":0}}
{"type":"poll","consumer":"final","records":[[0,0,"p0.0-0"],[0,1,"p0.0-1"],[0,2,"t0.0-0"],[0,6,"t0.0-3"],[1,0,"t0.0-1"]]}
{"type":"reached","group":"final","positions":{"0":8,"1":2}}
"#;

fn history(text: &str) -> Vec<Event> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| parse(line).expect(line)).collect()
}

/// The anomalies when each `from` of the clean history is `to`.
#[track_caller]
fn check_with(changes: &[(&str, &str)]) -> Vec<Anomaly> {
    let mut text = CLEAN.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in the history");
        text = text.replace(from, to);
    }
    check(&history(&text))
}

#[track_caller]
fn assert_finds(changes: &[(&str, &str)], kinds: &[Kind], part: &str) {
    let found = check_with(changes);
    let got: Vec<Kind> = found.iter().map(|anomaly| anomaly.kind).collect();
    assert_eq!(got, kinds, "{found:#?}");
    assert!(found[0].operations.contains(part), "{found:#?}");
}

#[test]
fn a_clean_history_has_no_anomaly() {
    assert_eq!(check_with(&[]), []);
}

#[test]
fn a_record_without_an_acknowledgement_may_be_there_or_not() {
    let there = [(r#"[1,0,"t0.0-1"]]"#, r#"[1,0,"t0.0-1"],[1,1,"p0.0-2"]]"#)];
    assert_eq!(check_with(&there), []);
}

#[test]
fn an_acknowledged_record_that_is_not_in_the_log_is_lost() {
    let gone = [(r#"[0,1,"p0.0-1"],"#, "")];
    let text = "p0.0-1, acked at 0/1, not in the log";
    assert_finds(&gone, &[Kind::LostWrite], text);
}

#[test]
fn a_committed_record_that_is_not_in_the_log_is_lost() {
    let gone = [(r#"[0,2,"t0.0-0"],"#, "")];
    assert_finds(&gone, &[Kind::LostWrite], "t0.0-0 in t0/0 (Committed)");
}

#[test]
fn one_value_at_two_places_is_a_duplicate() {
    let twice = [(
        r#"[0,6,"t0.0-3"],[1,0"#,
        r#"[0,3,"p0.0-1"],[0,6,"t0.0-3"],[1,0"#,
    )];
    // The other consumer did not see the copy: it left it out.
    let kinds = [Kind::Duplicate, Kind::SkippedPoll];
    assert_finds(&twice, &kinds, "read at [(0, 1), (0, 3)]");
}

#[test]
fn a_later_record_before_an_earlier_one_is_reordered() {
    let swapped = [
        (r#""value":"p0.0-0""#, r#""value":"p0.0-9""#),
        (r#"[0,0,"p0.0-0"]"#, r#"[0,0,"p0.0-9"]"#),
    ];
    assert_finds(
        &swapped,
        &[Kind::Reordered],
        "p0.0-1 at 0/1 lies after p0.0-9 at 0",
    );
}

#[test]
fn a_record_of_an_aborted_transaction_is_not_to_be_read() {
    let read = [(r#"[0,2,"t0.0-0"],"#, r#"[0,2,"t0.0-0"],[0,4,"t0.0-2"],"#)];
    assert_finds(&read, &[Kind::AbortedRead], "t0.0-2 in t0/1 (Aborted)");
}

#[test]
fn half_of_a_transaction_is_torn() {
    let half = [(
        r#"{"type":"end","txn":"t0/2""#,
        "{\"type\":\"send\",\"value\":\"t0.0-4\",\"partition\":1,\"txn\":\"t0/2\"}\n{\"type\":\"end\",\"txn\":\"t0/2\"",
    )];
    let text = r#"t0/2: ["t0.0-3"] are in the log, ["t0.0-4"] are not"#;
    assert_finds(&half, &[Kind::TornTransaction], text);
}

#[test]
fn a_transaction_of_unknown_outcome_may_be_absent_as_a_whole() {
    assert_eq!(check_with(&[(r#",[0,6,"t0.0-3"]"#, "")]), []);
}

#[test]
fn two_values_at_one_place_are_inconsistent() {
    let other = [
        (
            r#""value":"p0.0-2","definite""#,
            r#""value":"x","definite""#,
        ),
        (
            r#"{"type":"poll","consumer":"a0","records":[[0,0,"p0.0-0"]"#,
            r#"{"type":"poll","consumer":"a0","records":[[0,0,"p0.0-3"]"#,
        ),
        (
            r#"{"type":"send","value":"p0.0-1","partition":0}"#,
            "{\"type\":\"send\",\"value\":\"p0.0-1\",\"partition\":0}\n{\"type\":\"send\",\"value\":\"p0.0-3\",\"partition\":0}",
        ),
    ];
    let text = r#"{"p0.0-0", "p0.0-3"} were read at (0, 0)"#;
    assert_finds(&other, &[Kind::InconsistentOffsets], text);
}

#[test]
fn a_record_elsewhere_than_acknowledged_is_inconsistent() {
    let elsewhere = [(
        r#""p0.0-1","partition":0,"offset":1"#,
        r#""p0.0-1","partition":0,"offset":3"#,
    )];
    let text = "p0.0-1, acked at 0/3, in the log at 0/1";
    assert_finds(&elsewhere, &[Kind::InconsistentOffsets], text);
}

#[test]
fn two_records_acknowledged_at_one_place_are_inconsistent() {
    let both = [(
        r#"{"type":"fail","value":"p0.0-2","definite":false}"#,
        r#"{"type":"ack","value":"p0.0-2","partition":1,"offset":0,"t":0.2}"#,
    )];
    let kinds = [Kind::LostWrite, Kind::InconsistentOffsets];
    assert_finds(&both, &kinds, "p0.0-2, acked at 1/0, not in the log");
}

#[test]
fn what_was_never_sent_or_has_failed_is_a_phantom() {
    let invented = [(
        r#"[0,6,"t0.0-3"],[1,0"#,
        r#"[0,6,"t0.0-3"],[0,7,"z-0"],[1,0"#,
    )];
    assert_finds(
        &invented,
        &[Kind::Phantom],
        "z-0, read at (0, 7), was never sent",
    );
    let failed = [
        (
            r#""p0.0-2","definite":false"#,
            r#""p0.0-2","definite":true"#,
        ),
        (r#"[1,0,"t0.0-1"]]"#, r#"[1,0,"t0.0-1"],[1,1,"p0.0-2"]]"#),
    ];
    let kinds = [Kind::Phantom, Kind::Phantom];
    let found = check_with(&failed);
    assert!(!found.is_empty() && found.iter().all(|anomaly| kinds.contains(&anomaly.kind)));
}

#[test]
fn a_poll_that_goes_back_is_seen() {
    let back = [(
        r#"[0,0,"p0.0-0"],[0,1,"p0.0-1"],[1,0"#,
        r#"[0,1,"p0.0-1"],[0,0,"p0.0-0"],[1,0"#,
    )];
    // The first step leaves out the record that comes second.
    let kinds = [Kind::NonMonotonicPoll, Kind::SkippedPoll];
    assert_finds(&back, &kinds, "a0 read p0.0-0 at (0, 0): it had come to 2");
}

#[test]
fn a_poll_that_leaves_out_a_record_is_seen() {
    let skipped = [(
        r#"[0,1,"p0.0-1"],[0,2,"t0.0-0"],[0,6,"t0.0-3"]]}
{"type":"ends""#,
        r#"[0,1,"p0.0-1"],[0,6,"t0.0-3"]]}
{"type":"ends""#,
    )];
    let text = r#"a0 read t0.0-3 at (0, 6): t0.0-0 at (0, 2) was left out"#;
    assert_finds(&skipped, &[Kind::SkippedPoll], text);
}

#[test]
fn a_consumer_or_a_last_stable_offset_short_of_the_end_is_stuck() {
    let short = [(r#""a0","positions":{"0":8"#, r#""a0","positions":{"0":5"#)];
    assert_finds(&short, &[Kind::Stuck], "a0 in partition 0: at 5 of 8");
    let open = [(r#""0":[8,8]"#, r#""0":[6,8]"#)];
    assert_finds(&open, &[Kind::Stuck], "last stable offset 6, end 8");
}

#[test]
fn what_a_stuck_reader_has_not_come_to_is_not_lost() {
    let short = [
        (
            r#""final","positions":{"0":8"#,
            r#""final","positions":{"0":1"#,
        ),
        (
            r#"[0,1,"p0.0-1"],[0,2,"t0.0-0"],[0,6,"t0.0-3"],[1,0"#,
            r#"[1,0"#,
        ),
    ];
    assert_finds(&short, &[Kind::Stuck], "final in partition 0: at 1 of 8");
}

#[test]
fn a_committed_offset_that_goes_back_is_lost() {
    let back = [(
        r#""committed","offsets":{"0":2"#,
        r#""committed","offsets":{"0":1"#,
    )];
    assert_finds(
        &back,
        &[Kind::LostCommit],
        "2 was committed at 1.000 s, 1 found at 2.000 s",
    );
}

#[test]
fn a_commit_that_was_asked_for_before_it_was_made_may_be_missing() {
    let early = [(r#"{"0":2,"1":0},"t":2.0"#, r#"{"0":0,"1":0},"t":0.9"#)];
    assert_eq!(check_with(&early), []);
}

#[test]
fn a_line_that_is_no_event_is_not_guessed_at() {
    assert_eq!(parse(r#"{"type":"send","value":"p0.0-0"}"#), None);
    assert_eq!(parse(r#"{"type":"what"}"#), None);
    assert_eq!(parse("{"), None);
}
