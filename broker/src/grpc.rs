//! How are all gRPC services of a process served on its one port?

use std::future::Future;
use std::io;
use std::time::Duration;

use rpc::limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// HTTP/2 pings to idle clients, so that the connections of vanished ones end.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long requests in flight may take at the end; streams never end by themselves and are cut.
const DRAIN: Duration = Duration::from_millis(300);

/// The port could not be served.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The address is taken or not ours.
    #[error("failed to listen for other brokers on {host}:{port}")]
    Bind {
        /// The address to bind.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("failed to serve other brokers")]
    Serve(#[source] tonic::transport::Error),
}

/// Binds the port of the gRPC services.
///
/// # Errors
/// When the address is taken or not one of this machine.
pub async fn bind(host: &str, port: u16) -> Result<TcpListener, GrpcError> {
    TcpListener::bind((host, port))
        .await
        .map_err(|source| GrpcError::Bind {
            host: host.to_owned(),
            port,
            source,
        })
}

/// Serves `routes` on `listener` until `stop`, then lets requests in flight finish for a moment.
///
/// # Errors
/// When the server ends by itself.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), GrpcError> {
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(Duration::from_secs(30)));
    let serving = Server::builder()
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::select! {
        result = serving => result.map_err(GrpcError::Serve),
        () = after(stop.cancelled(), DRAIN) => Ok(()),
    }
}

async fn after(event: impl Future<Output = ()>, pause: Duration) {
    event.await;
    tokio::time::sleep(pause).await;
}
