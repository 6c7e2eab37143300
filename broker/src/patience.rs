//! How long does a test wait for what must come?

use std::time::Duration;

/// Longer than anything that tests wait for takes on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(20);

/// What `coming` ends with; when it does not end, the test fails and says `what` it waited for.
pub(crate) async fn until<T>(what: &str, coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, coming)
        .await
        .unwrap_or_else(|_| panic!("not within {} s: {what}", LIMIT.as_secs()))
}

/// Waits until `condition` holds, letting other tasks run between looks.
pub(crate) async fn until_true(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    until(what, holds).await;
}
