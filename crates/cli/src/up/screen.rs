//! How is the state shown: a live table on a terminal, one line a change elsewhere, JSON for programs?

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use super::report::{changes, line, ready_line};
use crate::args::Output;
use crate::state::{ObjectStatus, Status};

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";
/// A table's rows are broken here, so that the rows on the terminal can be counted; terminals are at least this wide.
const WIDTH: usize = 79;
/// Continued rows stand in from the first by this much.
const INDENT: usize = 4;
/// What is not ready for this many seconds is shown as an error even when nobody calls it one.
const LATE: f64 = 10.0;

/// Where and how `up` prints.
pub(crate) struct Screen {
    output: Output,
    live: bool,
    started: Instant,
    data_dir: PathBuf,
    last: Status,
    /// When each object became what it is, in seconds since the start.
    since: BTreeMap<String, f64>,
    /// Lines of the table that is on the terminal now.
    drawn: usize,
    was_ready: bool,
    /// When something was last found not to be Ready after all had been, in seconds since the start.
    unready_since: f64,
    /// How long it then took until all was Ready, in seconds.
    took: f64,
}

impl Screen {
    pub(crate) fn new(output: Output, data_dir: PathBuf) -> Self {
        let live = output == Output::Table && std::io::stdout().is_terminal();
        Self {
            output,
            live,
            started: Instant::now(),
            data_dir,
            last: Status::default(),
            since: BTreeMap::new(),
            drawn: 0,
            was_ready: false,
            unready_since: 0.0,
            took: 0.0,
        }
    }

    /// Shows what changed since the last call.
    pub(crate) fn show(&mut self, status: &Status, detached: bool) -> std::io::Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.date(status, seconds);
        let is_newly_ready = self.note_ready(status, seconds);
        let mut out = std::io::stdout().lock();
        if self.output == Output::Json {
            serde_json::to_writer(&mut out, status)?;
            writeln!(out)?;
        } else if self.live {
            let table = self.table(status, seconds, detached);
            if self.drawn > 0 {
                write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
            }
            self.drawn = table.lines().count();
            out.write_all(table.as_bytes())?;
        } else {
            for text in changes(&self.last, status, seconds) {
                writeln!(out, "{text}")?;
            }
            if is_newly_ready {
                writeln!(out, "{}", ready_line(self.took, &self.data_dir, detached))?;
            }
        }
        self.last = status.clone();
        out.flush()
    }

    /// News scroll by above the live table.
    pub(crate) fn news(&mut self, lines: &[String]) -> std::io::Result<()> {
        if self.output == Output::Json || lines.is_empty() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        for text in lines {
            writeln!(out, "{text}")?;
        }
        out.flush()
    }

    /// Whether all is Ready that was not.
    fn note_ready(&mut self, status: &Status, seconds: f64) -> bool {
        let was_ready = std::mem::replace(&mut self.was_ready, status.ready);
        match (was_ready, status.ready) {
            (false, true) => self.took = seconds - self.unready_since,
            (true, false) => self.unready_since = seconds,
            (false, false) | (true, true) => {}
        }
        status.ready && !was_ready
    }

    fn date(&mut self, status: &Status, seconds: f64) {
        let mut since = BTreeMap::new();
        for object in &status.objects {
            let id = id(object);
            let before = self.last.objects.iter().find(|old| *old == object);
            let known = before.and_then(|_| self.since.get(&id)).copied();
            since.insert(id, known.unwrap_or(seconds));
        }
        self.since = since;
    }

    fn table(&self, status: &Status, seconds: f64, detached: bool) -> String {
        let mut text = String::new();
        for object in &status.objects {
            let since = self.since.get(&id(object)).copied().unwrap_or(seconds);
            row(&mut text, colour(object, seconds), &line(object, since));
        }
        for problem in &status.problems {
            row(&mut text, RED, &format!("! {problem}"));
        }
        if status.ready {
            let line = ready_line(self.took, &self.data_dir, detached);
            row(&mut text, "", &line);
        }
        text
    }
}

fn id(object: &ObjectStatus) -> String {
    format!("{}/{}/{}", object.kind, object.namespace, object.name)
}

/// Red is what somebody must mend, yellow what is on its way.
fn colour(object: &ObjectStatus, seconds: f64) -> &'static str {
    let wrong = ["Invalid", "Conflict", "Degraded"].contains(&object.phase.as_str());
    match (object.ready, wrong || seconds > LATE) {
        (true, _) => "",
        (false, true) => RED,
        (false, false) => YELLOW,
    }
}

/// One row of the table, broken between words.
fn row(text: &mut String, colour: &str, row: &str) {
    let mut lines = vec![String::new()];
    for word in row.split_inclusive(' ') {
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used + word.trim_end().chars().count() > WIDTH && used > INDENT {
            lines.push(" ".repeat(INDENT));
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    for line in lines {
        let line = line.trim_end();
        match colour {
            "" => text.push_str(line),
            colour => text.push_str(&format!("{colour}{line}{PLAIN}")),
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(ready: bool, phase: &str) -> ObjectStatus {
        ObjectStatus {
            kind: "KafkaTopic".into(),
            namespace: "default".into(),
            name: "orders".into(),
            ready,
            phase: phase.into(),
            message: "spec.config: unknown key retention.mss: did you mean retention.ms?".into(),
            bootstrap: None,
        }
    }

    #[test]
    fn a_row_is_red_when_somebody_must_act_and_says_what_would_be_right() {
        let screen = Screen::new(Output::Table, PathBuf::from(".tidemark"));
        let status = |object| Status {
            objects: vec![object],
            problems: vec!["a.yaml:3: spec.x: wrong".into()],
            ..Status::default()
        };
        let table = screen.table(&status(object(false, "Invalid")), 0.2, false);
        let first = table.lines().next().unwrap();
        assert!(first.starts_with(RED) && first.ends_with(PLAIN), "{table}");
        assert!(table.contains("did you mean retention.ms?"), "{table}");
        assert!(table.contains(&format!("{RED}! a.yaml:3")), "{table}");
        for (object, seconds, start) in [
            (object(false, "Progressing"), 0.2, YELLOW),
            (object(false, "Progressing"), 11.0, RED),
            (object(true, "Ready"), 11.0, "orders"),
        ] {
            let table = screen.table(&status(object), seconds, false);
            assert!(table.starts_with(start), "{table:?}");
        }
    }

    #[test]
    fn no_row_is_wider_than_a_terminal() {
        let mut text = String::new();
        row(&mut text, "", &"word ".repeat(40));
        assert!(text.lines().count() == 3, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(text.lines().skip(1).all(|line| line.starts_with("    w")));
    }

    #[test]
    fn an_object_keeps_the_time_at_which_it_became_what_it_is() {
        let mut screen = Screen::new(Output::Table, PathBuf::from(".tidemark"));
        let status = |ready| Status {
            objects: vec![object(ready, "Ready")],
            ..Status::default()
        };
        screen.date(&status(false), 1.0);
        screen.last = status(false);
        screen.date(&status(false), 2.0);
        assert_eq!(screen.since.values().copied().collect::<Vec<_>>(), [1.0]);
        screen.date(&status(true), 3.0);
        assert_eq!(screen.since.values().copied().collect::<Vec<_>>(), [3.0]);
    }

    fn all(ready: bool) -> Status {
        Status {
            ready,
            ..Status::default()
        }
    }

    #[test]
    fn the_time_until_ready_counts_from_what_made_it_unready() {
        let mut screen = Screen::new(Output::Table, PathBuf::new());
        let at = |screen: &Screen, seconds: f64| (screen.took - seconds).abs() < 1e-9;
        screen.note_ready(&all(false), 0.1);
        screen.note_ready(&all(true), 0.5);
        assert!(at(&screen, 0.5), "from the start");
        screen.note_ready(&all(true), 70.0);
        assert!(at(&screen, 0.5), "it stays what it was");
        screen.note_ready(&all(false), 100.0);
        screen.note_ready(&all(true), 100.25);
        assert!(at(&screen, 0.25), "from the edit");
    }
}
