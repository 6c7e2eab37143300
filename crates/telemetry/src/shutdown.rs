//! Who may tell a process to stop? SIGTERM, SIGINT, and the end of a pipe that its parent holds.

use std::fs::File;
use std::io::{self, Read as _};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The process cannot listen for stops.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The signals.
    #[error("failed to listen for signals")]
    Signal(#[source] io::Error),
    /// The parent's pipe.
    #[error("failed to open the parent's pipe, file descriptor {fd}")]
    Parent {
        /// The descriptor.
        fd: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A token that the first SIGTERM or SIGINT cancels, and so does the end of the pipe `parent_fd`, which is how a
/// process learns that its parent died. A second signal ends the process at once, with status 130.
///
/// # Errors
/// When signals or the pipe cannot be listened to. Must be called within a tokio runtime.
pub fn stop_on_signals(parent_fd: Option<i32>) -> Result<CancellationToken, StopError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(StopError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StopError::Signal)?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if stopped.is_cancelled() {
                tracing::warn!(signal = name, "told to stop again: ending at once");
                std::process::exit(130);
            }
            tracing::info!(signal = name, "told to stop");
            stopped.cancel();
        }
    });
    if let Some(fd) = parent_fd {
        watch_parent(fd, stop.clone()).map_err(|source| StopError::Parent { fd, source })?;
    }
    Ok(stop)
}

/// Cancels `stop` when every writing end of the inherited pipe is closed.
fn watch_parent(fd: i32, stop: CancellationToken) -> io::Result<()> {
    // Opened anew by its name, which needs no unsafe ownership of the inherited descriptor.
    let mut pipe = File::open(format!("/proc/self/fd/{fd}"))?;
    thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(move || {
            let mut buffer = [0; 64];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::warn!(%error, "failed to read the parent's pipe");
                        break;
                    }
                }
            }
            tracing::info!("the parent is gone");
            stop.cancel();
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[tokio::test]
    async fn the_end_of_the_parents_pipe_stops() {
        let (reader, writer) = io::pipe().unwrap();
        let stop = stop_on_signals(Some(reader.as_raw_fd())).unwrap();
        assert!(!stop.is_cancelled());
        drop(writer);
        stop.cancelled().await;
    }

    #[tokio::test]
    async fn a_pipe_that_is_not_there_is_an_error() {
        let error = stop_on_signals(Some(987_654)).unwrap_err();
        assert!(error.to_string().contains("987654"), "{error}");
    }
}
