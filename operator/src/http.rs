//! Where do Prometheus and the kubelet ask how the operator is?

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::OperatorError;
use crate::metrics::Metrics;

/// Whether the controllers run (they wait for the Lease first).
pub(crate) type Active = Arc<AtomicBool>;

/// Serves `/metrics`, `/healthz` and `/readyz` until the returned task is aborted. A waiting stand-by is ready too: it is what it should be.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    active: Active,
) -> Result<tokio::task::JoinHandle<()>, OperatorError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| OperatorError::Listen { address, source })?;
    let text = move || {
        let mut text = metrics.render();
        let leader = u8::from(active.load(Ordering::Relaxed));
        text.push_str("# HELP tidemark_operator_leader Whether this process holds the Lease.\n# TYPE tidemark_operator_leader gauge\n");
        text.push_str(&format!("tidemark_operator_leader {leader}\n"));
        std::future::ready(text)
    };
    let router = Router::new()
        .route("/metrics", get(text))
        .route(
            "/healthz",
            get(|| std::future::ready((StatusCode::OK, "ok\n"))),
        )
        .route(
            "/readyz",
            get(|| std::future::ready((StatusCode::OK, "ok\n"))),
        );
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the server for metrics and probes ended");
        }
    }))
}
