//! What does the HTTP port say: is the process alive, is it ready, what are its metrics?

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the port answers from.
pub(crate) trait Status: Send + Sync + 'static {
    /// Why the broker is not ready; `None` when it is: unfenced and caught up with the metadata.
    fn not_ready(&self) -> Option<String>;
    /// The metrics page; `None` before there is anything to show.
    fn metrics(&self) -> Option<String>;
}

/// Serves the port until `stop`.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(
    listener: TcpListener,
    status: Arc<dyn Status>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ready = status.clone();
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || readiness(ready.clone())))
        .route("/metrics", get(move || metrics(status.clone())));
    axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn readiness(status: Arc<dyn Status>) -> Response {
    match status.not_ready() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(status: Arc<dyn Status>) -> Response {
    match status.metrics() {
        Some(page) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, page).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}
