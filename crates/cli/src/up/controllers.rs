//! How does the operator run beside the other parts of `tidemark up`, and how does it end?
//!
//! Its end is always waited for. A runtime that goes away first cancels reconciles under their controllers, and those take the end of a
//! reconcile that they did not ask for as a bug: they panic.

use std::time::Duration;

use operator::OperatorError;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// Reconciles under way are let finish for this long. The brokers are gone by then, so what they are asked fails at once.
const PATIENCE: Duration = Duration::from_secs(3);

type Outcome = Result<Result<(), OperatorError>, JoinError>;

/// The operator's task.
#[derive(Debug)]
pub(super) struct Controllers {
    /// `None` once its end was seen.
    task: Option<JoinHandle<Result<(), OperatorError>>>,
    stop: CancellationToken,
}

impl Controllers {
    /// Runs `operator`, which ends when `stop` is cancelled.
    pub(super) fn spawn(
        operator: impl Future<Output = Result<(), OperatorError>> + Send + 'static,
        stop: CancellationToken,
    ) -> Self {
        Self {
            task: Some(tokio::spawn(operator)),
            stop,
        }
    }

    /// Waits until the operator ends by itself; gives why.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let Some(task) = &mut self.task else {
            return std::future::pending().await;
        };
        let ended = task.await;
        self.task = None;
        match told(ended) {
            Ok(()) => anyhow::anyhow!("the operator ended although nobody asked it to"),
            Err(error) => error,
        }
    }

    /// Tells the operator to end and waits for that.
    ///
    /// # Errors
    /// Why it failed or panicked, if nobody was told yet.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop_within(PATIENCE).await
    }

    async fn stop_within(self, patience: Duration) -> anyhow::Result<()> {
        self.stop.cancel();
        let Some(mut task) = self.task else {
            return Ok(());
        };
        let ended = match tokio::time::timeout(patience, &mut task).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!(
                    ?patience,
                    "reconciles are still under way: they are cut off"
                );
                task.abort();
                task.await
            }
        };
        told(ended)
    }
}

/// Cancelled is ended; a panic is an error that says where it comes from.
fn told(ended: Outcome) -> anyhow::Result<()> {
    match ended {
        Ok(result) => Ok(result?),
        Err(error) if error.is_cancelled() => Ok(()),
        Err(error) => anyhow::bail!("the operator panicked: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_reconcile_under_way_is_let_finish() {
        let stop = CancellationToken::new();
        let finished = Arc::new(AtomicBool::new(false));
        let (told, finishes) = (stop.clone(), Arc::clone(&finished));
        let operator = async move {
            told.cancelled().await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            finishes.store(true, Ordering::Relaxed);
            Ok(())
        };
        Controllers::spawn(operator, stop).stop().await.unwrap();
        assert!(finished.load(Ordering::Relaxed), "stop waits for the end");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_cut_off_and_counts_as_ended() {
        let controllers = Controllers::spawn(std::future::pending(), CancellationToken::new());
        let patience = Duration::from_millis(10);
        controllers.stop_within(patience).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_that_says_so() {
        let operator = async {
            assert!(std::env::args().count() == 0, "a reconcile went wrong");
            Ok(())
        };
        let mut controllers = Controllers::spawn(operator, CancellationToken::new());
        let error = controllers.failed().await.to_string();
        assert!(error.contains("the operator panicked"), "{error}");
        assert!(error.contains("a reconcile went wrong"), "{error}");
        controllers.stop().await.unwrap();
    }

    #[tokio::test]
    async fn an_operator_that_ends_by_itself_is_a_failure() {
        let stop = CancellationToken::new();
        let mut controllers = Controllers::spawn(std::future::ready(Ok(())), stop);
        let error = controllers.failed().await.to_string();
        assert!(error.contains("nobody asked"), "{error}");
    }
}
