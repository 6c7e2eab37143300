//! Which requests to the API server are made again at once?
//!
//! A reconcile is some twenty requests; if each lost answer ended it, a server that fails one request in ten would let none through. So
//! what passes by itself (429, 500 to 504, a lost connection, a conflict of a server-side apply, which carries no version of its own) is
//! tried a few times here. A request that makes a new object is repeated only when the server says that it did not look at it. A deletion
//! is not repeated: by the time of the next try the pod may be another one's last replica in sync, so the reconcile decides anew.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use kube::Client;
use kube::client::Body;

use crate::context::jitter;

/// Waits between tries: together about a second, after which the reconcile's own back-off is the better wait.
const WAITS: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
];
/// The longest wait that a server can ask for.
const LONGEST: Duration = Duration::from_secs(5);
const APPLY: &str = "application/apply-patch+yaml";

/// A client that tries again.
pub(crate) fn client(inner: Client) -> Client {
    let namespace = inner.default_namespace().to_owned();
    Client::new(Retrying { inner }, namespace)
}

struct Retrying {
    inner: Client,
}

impl tower::Service<Request<Body>> for Retrying {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        // The inner client waits for its own readiness with each request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        send(self.inner.clone(), request).boxed()
    }
}

async fn send(client: Client, mut request: Request<Body>) -> Result<Response<Body>, kube::Error> {
    let tries = if *request.method() == Method::DELETE {
        &[]
    } else {
        &WAITS[..]
    };
    for wait in tries.iter().copied() {
        let Some(again) = copy(&request) else {
            break;
        };
        let answer = client.send(request).await;
        let Some(wait) = wait_before_retry(&again, &answer, wait) else {
            return answer;
        };
        tracing::debug!(method = %again.method(), uri = %again.uri(), ?wait, "trying a request again");
        tokio::time::sleep(jitter(again.uri().path(), wait)).await;
        request = again;
    }
    client.send(request).await
}

/// A request with the same body; one whose body is a stream cannot be repeated.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

/// How long to wait before the next try, if there shall be one.
fn wait_before_retry(
    request: &Request<Body>,
    answer: &Result<Response<Body>, kube::Error>,
    wait: Duration,
) -> Option<Duration> {
    let creates = *request.method() == Method::POST;
    let response = match answer {
        Ok(response) => response,
        Err(kube::Error::Service(_) | kube::Error::HyperError(_)) if !creates => return Some(wait),
        Err(_) => return None,
    };
    let applies = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == APPLY);
    let again = match response.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => true,
        StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => !creates,
        StatusCode::CONFLICT => applies,
        _ => false,
    };
    let asked = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .map_or(wait, |seconds| Duration::from_secs(seconds).min(LONGEST));
    again.then(|| asked.max(wait))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// The final status, and how many tries were left over, when a server answers with these in turn.
    async fn check(method: Method, content: &str, answers: &[u16]) -> (u16, usize) {
        let left = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let server = {
            let left = Arc::clone(&left);
            tower::service_fn(move |_: Request<Body>| {
                let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                let status = left.pop_front().expect("no more tries than that");
                async move { Response::builder().status(status).body(Body::empty()) }
            })
        };
        let client = client(Client::new(server, "default"));
        let request = Request::builder()
            .method(method)
            .uri("/api/v1/pods")
            .header(header::CONTENT_TYPE, content)
            .body(Body::from(b"{}".to_vec()))
            .expect("a request");
        let answer = client.send(request).await.expect("an answer");
        let left = left.lock().unwrap_or_else(PoisonError::into_inner).len();
        (answer.status().as_u16(), left)
    }

    #[tokio::test]
    async fn what_passes_by_itself_is_tried_again_and_nothing_else() {
        let merge = "application/merge-patch+json";
        assert_eq!(check(Method::GET, "", &[500, 503, 200, 1]).await, (200, 1));
        assert_eq!(check(Method::PATCH, APPLY, &[409, 200, 1]).await, (200, 1));
        assert_eq!(check(Method::PATCH, merge, &[409, 1]).await, (409, 1));
        assert_eq!(check(Method::GET, "", &[404, 1]).await, (404, 1));
        assert_eq!(check(Method::POST, "", &[500, 1]).await, (500, 1));
        assert_eq!(check(Method::POST, "", &[503, 201, 1]).await, (201, 1));
        assert_eq!(
            check(Method::GET, "", &[500, 500, 500, 500, 1]).await,
            (500, 1)
        );
        assert_eq!(check(Method::DELETE, "", &[503, 1]).await, (503, 1));
    }
}
