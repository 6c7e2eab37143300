//! How long is an operation tried again, and with which pauses?

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ClientError;
use crate::options::ClientOptions;

/// Pauses that double, and a deadline.
#[derive(Debug)]
pub(crate) struct Retry {
    started: Instant,
    budget: Duration,
    pause: Duration,
    longest: Duration,
}

impl Retry {
    pub(crate) fn new(options: &ClientOptions, budget: Duration) -> Self {
        Self {
            started: Instant::now(),
            budget,
            pause: options.retry_backoff,
            longest: options.retry_backoff_max,
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// The time is up: `last` is why the last try failed.
    pub(crate) async fn pause(
        &mut self,
        what: impl FnOnce() -> String,
        last: ClientError,
    ) -> Result<(), ClientError> {
        let left = self.budget.saturating_sub(self.started.elapsed());
        if left < self.pause {
            return Err(ClientError::Deadline {
                what: what(),
                after: self.budget,
                last: Some(Box::new(last)),
            });
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.longest);
        Ok(())
    }
}

/// Runs `attempt` until it succeeds, fails for good, or the time is up.
pub(crate) async fn until_done<T, F: Future<Output = Result<T, ClientError>>>(
    options: &ClientOptions,
    what: impl Fn() -> String,
    mut attempt: impl FnMut() -> F,
) -> Result<T, ClientError> {
    let mut retry = Retry::new(options, options.api_timeout);
    loop {
        match attempt().await {
            Err(error) if error.is_retriable() => retry.pause(&what, error).await?,
            result => return result,
        }
    }
}
