//! Which API failures does a client meet, for tests? One seam: a layer in front of the API.
//!
//! Each call's fate depends only on the seed, the call's method and path, and how many times that path was called, so
//! that a seed fails the same calls however tasks interleave.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _};

use crate::api_error::ApiError;
use crate::service::{ApiService, ResponseBody, refuse};

/// Probabilities (0.0 to 1.0) of each fault, per call.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// Decides which calls fail.
    pub seed: u64,
    /// 409 Conflict on a write, without doing it.
    pub conflict: f64,
    /// 429 Too Many Requests with `Retry-After: 1`.
    pub too_many_requests: f64,
    /// 500 before the call is done.
    pub internal_before: f64,
    /// 500 after the call was done: the client cannot know.
    pub internal_after: f64,
    /// The connection breaks before the call is done.
    pub connection_loss: f64,
    /// The call waits up to `slow_for` first.
    pub slow: f64,
    /// The longest wait of a slow call.
    pub slow_for: Duration,
    /// A watch ends after a few events.
    pub watch_dropped: f64,
    /// A watch is answered 410 Gone.
    pub watch_gone: f64,
}

impl FaultPlan {
    /// Every fault now and then: about one call in five is touched.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            conflict: 0.05,
            too_many_requests: 0.02,
            internal_before: 0.04,
            internal_after: 0.03,
            connection_loss: 0.02,
            slow: 0.05,
            slow_for: Duration::from_millis(20),
            watch_dropped: 0.2,
            watch_gone: 0.1,
        }
    }
}

/// The API with faults in front of it.
#[derive(Debug, Clone)]
pub struct FaultyService {
    inner: ApiService,
    plan: Arc<FaultPlan>,
    calls: Arc<Mutex<HashMap<(Method, String), u64>>>,
}

impl FaultyService {
    pub(crate) fn new(inner: ApiService, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan: Arc::new(plan),
            calls: Arc::default(),
        }
    }

    fn dice(&self, request: &Request<Body>) -> rand::rngs::SmallRng {
        let path = request.uri().path().to_owned();
        let mut calls = self.calls.lock();
        let count = calls
            .entry((request.method().clone(), path.clone()))
            .or_default();
        *count += 1;
        let text = format!("{} {path} {count} {}", request.method(), self.plan.seed);
        rand::rngs::SmallRng::seed_from_u64(fnv(text.as_bytes()))
    }
}

/// FNV-1a: spreads call names over seeds; nothing depends on its quality.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl tower::Service<Request<Body>> for FaultyService {
    type Response = Response<ResponseBody>;
    type Error = tower::BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut dice = self.dice(&request);
        let (mut inner, plan) = (self.inner.clone(), Arc::clone(&self.plan));
        Box::pin(async move {
            if dice.random_bool(plan.slow) {
                tokio::time::sleep(plan.slow_for.mul_f64(dice.random_range(0.0..1.0))).await;
            }
            if let Some(failure) = before(&plan, &mut dice, &request) {
                return failure;
            }
            let watch = request
                .uri()
                .query()
                .is_some_and(|q| q.contains("watch=true"));
            if watch && dice.random_bool(plan.watch_gone) {
                return refuse(&ApiError::expired("too old resource version: injected"));
            }
            let response = inner.call(request).await?;
            if watch {
                let cut = dice
                    .random_bool(plan.watch_dropped)
                    .then(|| dice.random_range(0..8));
                return Ok(cut_after(response, cut));
            }
            if dice.random_bool(plan.internal_after) {
                return refuse(&ApiError::internal("injected after the call was done"));
            }
            Ok(response)
        })
    }
}

type Failure = Result<Response<ResponseBody>, tower::BoxError>;

fn before(
    plan: &FaultPlan,
    dice: &mut rand::rngs::SmallRng,
    request: &Request<Body>,
) -> Option<Failure> {
    let write = !matches!(*request.method(), Method::GET);
    if dice.random_bool(plan.connection_loss) {
        let error = std::io::Error::new(
            std::io::ErrorKind::ConnectionReset,
            "injected connection loss",
        );
        return Some(Err(error.into()));
    }
    if dice.random_bool(plan.too_many_requests) {
        return Some(refuse(&ApiError::too_many_requests(
            "injected: too many requests, please try again later",
            1,
        )));
    }
    if dice.random_bool(plan.internal_before) {
        return Some(refuse(&ApiError::internal(
            "injected before the call was done",
        )));
    }
    if write && dice.random_bool(plan.conflict) {
        return Some(refuse(&ApiError::modified("", "objects", "injected")));
    }
    None
}

/// Ends a watch after `cut` events, in the middle of nothing: a clean end the client must resume from.
fn cut_after(response: Response<ResponseBody>, cut: Option<usize>) -> Response<ResponseBody> {
    let Some(cut) = cut else { return response };
    response.map(|body| {
        let frames = body
            .into_data_stream()
            .take(cut)
            .map(|data| data.map(Frame::data));
        StreamBody::new(frames.boxed()).boxed_unsync()
    })
}
