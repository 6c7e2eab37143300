//! What becomes of a panic in a reconcile?
//!
//! It is one object's failure: told in the log, counted, and tried again later and later. Let through, it would end the controller and with
//! it the care for every other object.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

/// A reconcile panicked. This is a bug of the operator.
#[derive(Debug, thiserror::Error)]
#[error("failed to reconcile: the operator panicked, which is a bug in it: {message}")]
pub(crate) struct Panicked {
    message: String,
}

/// Runs `reconcile`, and gives its panic as an error. A reconcile keeps nothing between its runs, so nothing is left half done that the next
/// one would build on.
pub(crate) async fn caught<T, E: From<Panicked>>(
    reconcile: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    AssertUnwindSafe(reconcile)
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| {
            Err(E::from(Panicked {
                message: text_of(panic.as_ref()),
            }))
        })
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fails(how: usize) -> Result<usize, Panicked> {
        tokio::task::yield_now().await;
        assert_ne!(how, 1, "of all things");
        let values = [5];
        Ok(values[how])
    }

    #[tokio::test]
    async fn a_panic_is_the_failure_of_one_reconcile_and_names_its_cause() {
        assert_eq!(caught(fails(0)).await.unwrap(), 5);
        let error = caught(fails(1)).await.unwrap_err().to_string();
        assert!(error.contains("of all things"), "{error}");
        let error = caught(fails(2)).await.unwrap_err().to_string();
        assert!(error.contains("out of bounds"), "{error}");
    }
}
