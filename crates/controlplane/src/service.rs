//! How do kube's HTTP requests reach the API without a socket?

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use jiff::Timestamp;
use kube::client::Body;

use crate::api::{Answer, Api, Incoming, Reply};
use crate::api_error::{ApiError, PLAIN_TEXT};

/// The in-process API server, as `kube::Client::new` wants it.
#[derive(Debug, Clone)]
pub struct ApiService {
    pub(crate) api: Arc<Api>,
}

/// A response body: one document, or a watch that goes on.
pub type ResponseBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

impl tower::Service<Request<Body>> for ApiService {
    type Response = Response<ResponseBody>;
    type Error = tower::BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = Arc::clone(&self.api);
        Box::pin(async move { answer(&api, request).await })
    }
}

async fn answer(
    api: &Api,
    request: Request<Body>,
) -> Result<Response<ResponseBody>, tower::BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |headers: &HeaderMap, name| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let content_type = text(&parts.headers, header::CONTENT_TYPE).unwrap_or_default();
    let accept = text(&parts.headers, header::ACCEPT).unwrap_or_default();
    let user_agent = text(&parts.headers, header::USER_AGENT);
    let incoming = Incoming {
        method: &parts.method,
        uri: &parts.uri,
        content_type: &content_type,
        accept: &accept,
        user_agent: user_agent.as_deref(),
        body: &body,
    };
    let answer = match api.handle(&incoming, Timestamp::now()) {
        Ok(Answer::Document(reply)) => match reply.ticket {
            Some(ticket) => api
                .store
                .durable(ticket)
                .await
                .map(|()| Answer::Document(reply)),
            None => Ok(Answer::Document(reply)),
        },
        other => other,
    };
    match answer {
        Ok(Answer::Document(reply)) => document(reply),
        Ok(Answer::Watch(watch)) => {
            let lines = futures::stream::unfold(watch, |mut watch| async move {
                watch
                    .next()
                    .await
                    .map(|line| (Ok(Frame::data(line)), watch))
            });
            let body = StreamBody::new(lines.boxed()).boxed_unsync();
            Ok(json_response(StatusCode::OK).body(body)?)
        }
        Err(error) => refuse(&error),
    }
}

fn document(reply: Reply) -> Result<Response<ResponseBody>, tower::BoxError> {
    let mut builder = json_response(StatusCode::from_u16(reply.code)?);
    for warning in reply.warnings {
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        builder = builder.header(header::WARNING, format!("299 - \"{escaped}\""));
    }
    Ok(builder.body(Full::new(Bytes::from(reply.body.to_string())).boxed_unsync())?)
}

/// A Status response for an error.
pub(crate) fn refuse(error: &ApiError) -> Result<Response<ResponseBody>, tower::BoxError> {
    if error.reason == PLAIN_TEXT {
        let text = Full::new(Bytes::from(format!("{}\n", error.message))).boxed_unsync();
        let builder = Response::builder().status(StatusCode::from_u16(error.code)?);
        return Ok(builder
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(text)?);
    }
    let mut builder = json_response(StatusCode::from_u16(error.code)?);
    if let Some(seconds) = error.details.get("retryAfterSeconds") {
        builder = builder.header(header::RETRY_AFTER, seconds.to_string());
    }
    Ok(builder.body(Full::new(Bytes::from(error.status().to_string())).boxed_unsync())?)
}

fn json_response(status: StatusCode) -> http::response::Builder {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
}
