//! How is one request answered? From the path to the verb, one file per verb.

mod create;
mod delete;
mod events_alias;
pub(crate) mod evict;
mod patch;
mod read;
mod scale;
mod update;
pub(crate) mod watch;

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::cel::Evaluator;
use crate::kinds::{Kind, ServedAs};
use crate::request::{FieldValidation, Query, ResourcePath, Verb, field_manager};
use crate::selector::Selector;
use crate::store::{Key, Store, Ticket};

/// The API behind the service: the store and what its rules need.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    pub(crate) evaluator: Evaluator,
}

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) path: &'a ResourcePath,
    pub(crate) query: &'a Query,
    pub(crate) body: &'a [u8],
    pub(crate) content_type: &'a str,
    pub(crate) manager: String,
    pub(crate) now: Timestamp,
}

impl Call<'_> {
    pub(crate) fn key(&self) -> Key {
        Key {
            kind: self.kind.id,
            namespace: self.path.namespace.clone(),
            name: self.path.name.clone(),
        }
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.kind.group, &self.kind.plural, &self.path.name)
    }

    pub(crate) fn validation(&self) -> Result<FieldValidation, ApiError> {
        FieldValidation::parse(self.query)
    }
}

/// An answer that is one JSON document.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) body: Value,
    /// Texts of `Warning` headers.
    pub(crate) warnings: Vec<String>,
    /// Must be durable before the answer is sent.
    pub(crate) ticket: Option<Ticket>,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self {
            code: 200,
            body,
            warnings: Vec::new(),
            ticket: None,
        }
    }
}

/// What to send back.
#[derive(Debug)]
pub(crate) enum Answer {
    Document(Reply),
    Watch(watch::Watch),
}

/// The parts of an HTTP request the API looks at.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a http::Uri,
    pub(crate) content_type: &'a str,
    pub(crate) accept: &'a str,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

impl Api {
    pub(crate) fn handle(
        &self,
        request: &Incoming<'_>,
        now: Timestamp,
    ) -> Result<Answer, ApiError> {
        if request.uri.path() == "/version" {
            return Ok(Answer::Document(Reply::ok(json!({
                "major": "1", "minor": "34", "gitVersion": concat!("v1.34.0+tidemark.", env!("CARGO_PKG_VERSION")),
                "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "", "compiler": "rustc", "platform": std::env::consts::OS,
            }))));
        }
        let path = ResourcePath::parse(request.uri.path()).ok_or_else(ApiError::no_such_path)?;
        let query = Query::parse(request.uri);
        let served = self
            .store
            .registry
            .at_path(&path.group, &path.version, &path.plural);
        let (kind, served) = served.ok_or_else(ApiError::no_such_path)?;
        let verb = Verb::of(request.method, &path, &query).ok_or_else(|| {
            ApiError::method_not_allowed(
                &kind.group,
                &kind.plural,
                &request.method.to_string().to_lowercase(),
            )
        })?;
        let body = match served {
            ServedAs::Itself => std::borrow::Cow::Borrowed(request.body),
            ServedAs::NewEvents => std::borrow::Cow::Owned(events_alias::to_stored(request.body)),
        };
        let call = Call {
            kind,
            path: &path,
            query: &query,
            body: &body,
            content_type: request.content_type,
            manager: field_manager(&query, request.user_agent),
            now,
        };
        let rederived = !kind.custom
            && (path.subresource == "status" || matches!(kind.kind.as_str(), "Event" | "Lease"));
        let metadata_only = request.accept.contains("as=PartialObjectMetadata");
        match self.dispatch(&call, verb)? {
            Answer::Document(mut reply) => {
                if rederived {
                    // What its controller would write again after a power loss need not be waited for.
                    reply.ticket = None;
                }
                if served == ServedAs::NewEvents {
                    events_alias::to_served(&mut reply.body);
                }
                if metadata_only {
                    read::keep_metadata(&mut reply.body);
                }
                Ok(Answer::Document(reply))
            }
            Answer::Watch(mut watch) => {
                watch.served = served;
                watch.metadata_only = metadata_only;
                Ok(Answer::Watch(watch))
            }
        }
    }

    fn dispatch(&self, call: &Call<'_>, verb: Verb) -> Result<Answer, ApiError> {
        let named = !call.path.name.is_empty();
        if call.kind.namespaced && call.path.namespace.is_empty() && (named || verb == Verb::Create)
        {
            return Err(ApiError::method_not_allowed(
                &call.kind.group,
                &call.kind.plural,
                "a request without namespace",
            ));
        }
        if !call.kind.namespaced && !call.path.namespace.is_empty() {
            return Err(ApiError::no_such_path());
        }
        let reply = match (call.path.subresource.as_str(), verb) {
            ("", Verb::Get) => self.get(call)?,
            ("", Verb::List) => self.list(call)?,
            ("", Verb::Watch) => return self.watch(call).map(Answer::Watch),
            ("", Verb::Create) if named => {
                return Err(ApiError::method_not_allowed(
                    &call.kind.group,
                    &call.kind.plural,
                    "create with a name",
                ));
            }
            ("", Verb::Create) => self.create(call)?,
            ("", Verb::Delete) => self.delete(call)?,
            ("", Verb::DeleteCollection) => self.delete_collection(call)?,
            ("", Verb::Replace) => self.replace(call)?,
            ("", Verb::Patch) => self.patch(call)?,
            ("status", Verb::Get) if call.kind.status => self.get(call)?,
            ("status", Verb::Replace) if call.kind.status => self.replace(call)?,
            ("status", Verb::Patch) if call.kind.status => self.patch(call)?,
            ("scale", Verb::Get) if call.kind.scale.is_some() => self.get_scale(call)?,
            ("scale", Verb::Replace | Verb::Patch) if call.kind.scale.is_some() => {
                self.put_scale(call, verb)?
            }
            ("eviction", Verb::Create) if call.kind.kind == "Pod" => self.evict(call)?,
            ("status" | "scale" | "eviction", _) if self.serves_subresource(call) => {
                let action = format!("{verb:?} of {}", call.path.subresource).to_lowercase();
                return Err(ApiError::method_not_allowed(
                    &call.kind.group,
                    &call.kind.plural,
                    &action,
                ));
            }
            _ => return Err(ApiError::no_such_path()),
        };
        Ok(Answer::Document(reply))
    }

    fn serves_subresource(&self, call: &Call<'_>) -> bool {
        match call.path.subresource.as_str() {
            "status" => call.kind.status,
            "scale" => call.kind.scale.is_some(),
            "eviction" => call.kind.kind == "Pod",
            _ => false,
        }
    }

    pub(crate) fn selector(&self, call: &Call<'_>) -> Result<Selector, ApiError> {
        Selector::parse(
            call.query.get("labelSelector"),
            call.query.get("fieldSelector"),
            call.kind,
        )
    }
}
