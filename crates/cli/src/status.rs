//! What runs, is it ready, and if not, why?

use std::io::Write as _;
use std::process::ExitCode;

use crate::args::{DataDir, Output};
use crate::state::{Layout, Status};

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    data_dir: DataDir,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

/// Prints the status; exit code 1 when something is not ready.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = Layout::new(&args.data_dir.data_dir).running_status()?;
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&status)? + "\n",
        Output::Table => table(&status),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if status.ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Objects, then pods, then problems.
pub(crate) fn table(status: &Status) -> String {
    let objects = status.objects.iter().map(|object| {
        let state = if object.ready {
            "Ready".to_owned()
        } else {
            object.phase.clone()
        };
        vec![
            object.name.clone(),
            object.kind.clone(),
            state,
            object.message.clone(),
        ]
    });
    let pods = status.pods.iter().map(|pod| {
        let state = if pod.ready {
            "Ready".to_owned()
        } else {
            pod.phase.clone()
        };
        let pid = pod
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        vec![
            pod.name.clone(),
            pod.ip.clone(),
            format!("pid {pid}"),
            state,
            format!("restarts {}", pod.restarts),
        ]
    });
    let mut text = columns(objects);
    text.push('\n');
    text.push_str(&columns(pods));
    for problem in &status.problems {
        text.push_str("! ");
        text.push_str(problem);
        text.push('\n');
    }
    text
}

/// Rows with every column as wide as its widest cell.
pub(crate) fn columns(rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "bb".to_owned()],
            vec!["ccc".to_owned(), "d".to_owned()],
        ];
        assert_eq!(columns(rows.into_iter()), "a    bb\nccc  d\n");
    }
}
