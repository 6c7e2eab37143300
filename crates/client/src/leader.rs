//! How is a partition's leader asked, wherever it is now?

use std::future::Future;

use types::{ErrorCode, TopicPartition};
use wire::Request;

use crate::client::{Client, missing};
use crate::connection::Connection;
use crate::error::ClientError;
use crate::retry;

/// Runs `attempt` on a connection to the leader, looking for the leader again after every failure that may pass.
pub(crate) async fn at_leader<T, F: Future<Output = Result<T, ClientError>>>(
    client: &Client,
    partition: &TopicPartition,
    what: impl Fn() -> String,
    attempt: impl Fn(Connection) -> F,
) -> Result<T, ClientError> {
    let once = || async {
        let metadata = client.topic_metadata(&partition.topic).await?;
        let Some((leader, _)) = metadata.leader(&partition.topic, partition.partition) else {
            let exists = metadata
                .partition(&partition.topic, partition.partition)
                .is_some();
            let code = if exists {
                ErrorCode::LeaderNotAvailable
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            return Err(ClientError::Broker {
                what: what(),
                code,
                message: None,
            });
        };
        attempt(client.broker(leader).await?).await
    };
    retry::until_done(client.options(), &what, || async {
        let result = once().await;
        if result.as_ref().is_err_and(ClientError::is_retriable) {
            client
                .refresh_topics(&[partition.topic.to_string()])
                .await?;
        }
        result
    })
    .await
}

/// Sends a request to the leader; `result` finds the error code and the value in the answer.
pub(crate) async fn ask_leader<R: Request, T>(
    client: &Client,
    partition: &TopicPartition,
    what: impl Fn() -> String,
    request: &R,
    at_most: i16,
    result: impl Fn(R::Response) -> Option<(i16, T)>,
) -> Result<T, ClientError> {
    let (what, result) = (&what, &result);
    at_leader(client, partition, what, |connection| async move {
        let answer = connection
            .send_at(request, connection.version_of::<R>(at_most)?)
            .await?;
        let incomplete = || missing(&connection, R::KEY, &partition.to_string());
        let (code, value) = result(answer).ok_or_else(incomplete)?;
        ClientError::check(code, None, what).map(|()| value)
    })
    .await
}
