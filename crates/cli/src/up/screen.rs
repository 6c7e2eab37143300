//! How is the state shown: a live table on a terminal, one line a change elsewhere, JSON for programs?

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use super::report::{changes, line, ready_line};
use crate::args::Output;
use crate::state::Status;

/// Where and how `up` prints.
pub(crate) struct Screen {
    output: Output,
    live: bool,
    started: Instant,
    data_dir: PathBuf,
    last: Status,
    /// Lines of the table that is on the terminal now.
    drawn: usize,
    was_ready: bool,
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
            drawn: 0,
            was_ready: false,
        }
    }

    /// Shows what changed since the last call.
    pub(crate) fn show(&mut self, status: &Status, detached: bool) -> std::io::Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut out = std::io::stdout().lock();
        if self.output == Output::Json {
            serde_json::to_writer(&mut out, status)?;
            writeln!(out)?;
        } else if self.live {
            let table = self.table(status, seconds);
            if self.drawn > 0 {
                write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
            }
            self.drawn = table.lines().count();
            out.write_all(table.as_bytes())?;
        } else {
            for text in changes(&self.last, status, seconds) {
                writeln!(out, "{text}")?;
            }
            if status.ready && !self.was_ready {
                writeln!(out, "{}", ready_line(seconds, &self.data_dir, detached))?;
            }
        }
        self.was_ready = status.ready;
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

    fn table(&self, status: &Status, seconds: f64) -> String {
        let mut text = String::new();
        for object in &status.objects {
            let colour = if object.ready {
                ""
            } else if seconds > 10.0 {
                "\x1b[31m"
            } else {
                "\x1b[33m"
            };
            text.push_str(&format!("{colour}{}\x1b[0m\n", line(object, seconds)));
        }
        for problem in &status.problems {
            text.push_str(&format!("\x1b[31m! {problem}\x1b[0m\n"));
        }
        if status.ready {
            text.push_str(&ready_line(seconds, &self.data_dir, false));
            text.push('\n');
        }
        text
    }
}
