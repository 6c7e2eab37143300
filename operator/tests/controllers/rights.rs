//! What do the controllers ask of the API, and may they? A layer around the client's service.
//!
//! Every request is matched with the ClusterRole that `tidemark operator manifests` prints. One that the role does not grant is answered
//! with 403, as an API server would, and remembered; so is a request that is no request to a Kubernetes API at all.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::client::Body;
use serde_json::json;

use crate::kafka::Kafka;

/// Group, resource with subresource, verb: what RBAC speaks of.
pub(crate) type Right = (String, String, String);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The role, and what was asked so far.
#[derive(Debug)]
pub(crate) struct Rights {
    granted: BTreeSet<Right>,
    used: Mutex<BTreeSet<Right>>,
    violations: Mutex<BTreeSet<String>>,
    requests: AtomicU64,
    /// Answered 403 although the role grants it: an admission plug-in that says no.
    refused: Mutex<Option<(Right, String)>>,
    kafka: Arc<Kafka>,
}

impl Rights {
    pub(crate) fn new(kafka: Arc<Kafka>) -> Self {
        Self {
            granted: granted(&cluster_role()),
            used: Mutex::default(),
            violations: Mutex::default(),
            requests: AtomicU64::new(0),
            refused: Mutex::default(),
            kafka,
        }
    }

    pub(crate) fn granted(&self) -> &BTreeSet<Right> {
        &self.granted
    }

    pub(crate) fn used(&self) -> BTreeSet<Right> {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many requests were made.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What must never happen and did.
    pub(crate) fn violations(&self) -> Vec<String> {
        let violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        violations.iter().cloned().collect()
    }

    /// From now on, requests of this right are answered 403 with `message`; `None` ends that.
    pub(crate) fn refuse(&self, refused: Option<(&str, &str, &str, &str)>) {
        let owned = refused.map(|(group, resource, verb, message)| {
            (
                (group.to_owned(), resource.to_owned(), verb.to_owned()),
                message.to_owned(),
            )
        });
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = owned;
    }

    fn violate(&self, text: String) {
        self.violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(text);
    }

    /// Why the request is answered 403, if it is.
    fn check(&self, asked: Option<&Asked>, line: &str) -> Option<String> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(asked) = asked else {
            self.violate(format!("{line} is no request of the Kubernetes API"));
            return Some("not a Kubernetes request".to_owned());
        };
        if !self.use_up(&asked.right, line) {
            return Some(format!("the operator cannot {:?}", asked.right));
        }
        if asked.right.1 == "pods"
            && asked.right.2 == "delete"
            && let Some(why) = self.kafka.why_not_restart(&asked.namespace, &asked.name)
        {
            self.violate(why);
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = refused.as_ref().filter(|(right, _)| *right == asked.right);
        refused.map(|(_, message)| message.clone())
    }

    /// Marks a right as used; says whether it is granted.
    fn use_up(&self, right: &Right, line: &str) -> bool {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(right.clone());
        let granted = self.granted.contains(right);
        if !granted {
            self.violate(format!(
                "{line} needs {right:?}, which the role does not grant"
            ));
        }
        granted
    }
}

/// The ClusterRole among the printed manifests.
pub(crate) fn cluster_role() -> ClusterRole {
    use serde::Deserialize as _;
    let yaml = operator_core::manifests::manifests("tidemark", "tidemark:dev").expect("manifests");
    serde_yaml::Deserializer::from_str(&yaml)
        .map(|document| serde_json::Value::deserialize(document).expect("YAML"))
        .find(|object| object["kind"] == "ClusterRole")
        .map(|object| serde_json::from_value(object).expect("a ClusterRole"))
        .expect("the manifests hold a ClusterRole")
}

fn granted(role: &ClusterRole) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    for rule in role.rules.iter().flatten() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    granted.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    granted
}

/// One request in RBAC's words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    right: Right,
    namespace: String,
    name: String,
}

/// Reads method, path and query as an API server does.
fn asked(method: &Method, path: &str, query: &str) -> Option<Asked> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _version, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        _ => ("", rest),
    };
    let (resource, name, sub) = match rest {
        [resource] => (*resource, "", None),
        [resource, name] => (*resource, *name, None),
        [resource, name, sub] => (*resource, *name, Some(*sub)),
        _ => return None,
    };
    let watch = query
        .split('&')
        .any(|pair| pair == "watch=true" || pair == "watch=1");
    let verb = match (method.as_str(), name.is_empty()) {
        ("GET", true) if watch => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        _ => return None,
    };
    let resource = sub.map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
    Some(Asked {
        right: (group.to_owned(), resource, verb.to_owned()),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// A service with the rights around it.
#[derive(Debug, Clone)]
pub(crate) struct Gate<S> {
    inner: S,
    rights: Arc<Rights>,
}

/// Puts a [`Gate`] around a service.
#[derive(Debug, Clone)]
pub(crate) struct GateLayer(pub(crate) Arc<Rights>);

impl<S> tower::Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            rights: Arc::clone(&self.0),
        }
    }
}

impl<S, B> tower::Service<Request<Body>> for Gate<S>
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, uri) = (request.method(), request.uri());
        let line = format!("{method} {uri}");
        let asked = asked(method, uri.path(), uri.query().unwrap_or_default());
        let patch = *method == Method::PATCH;
        if let Some(message) = self.rights.check(asked.as_ref(), &line) {
            return async move { forbidden(&message) }.boxed();
        }
        let answer = self.inner.call(request);
        let rights = Arc::clone(&self.rights);
        async move {
            let response = answer.await.map_err(Into::<BoxError>::into)?;
            // An apply that makes the object needs the right to create as well.
            if let Some(mut asked) =
                asked.filter(|_| patch && response.status() == StatusCode::CREATED)
            {
                asked.right.2 = "create".to_owned();
                rights.use_up(&asked.right, &line);
            }
            Ok::<_, BoxError>(
                response.map(|body| body.map_err(Into::<BoxError>::into).boxed_unsync()),
            )
        }
        .boxed()
    }
}

fn forbidden(message: &str) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "Forbidden", "code": 403, "message": message,
    });
    let body = Full::new(Bytes::from(status.to_string()))
        .map_err(|never: Infallible| -> BoxError { match never {} })
        .boxed_unsync();
    Ok(Response::builder()
        .status(StatusCode::FORBIDDEN)
        .header("content-type", "application/json")
        .body(body)?)
}

#[test]
fn requests_are_read_as_an_api_server_reads_them() {
    let check = |method: Method, path: &str, query: &str, expected: (&str, &str, &str)| {
        let asked = asked(&method, path, query).expect(path);
        let (group, resource, verb) = &asked.right;
        assert_eq!((group.as_str(), resource.as_str(), verb.as_str()), expected);
    };
    let sets = "/apis/apps/v1/namespaces/a/statefulsets";
    check(
        Method::GET,
        sets,
        "watch=true&labelSelector=x",
        ("apps", "statefulsets", "watch"),
    );
    check(Method::GET, "/api/v1/pods", "", ("", "pods", "list"));
    check(
        Method::DELETE,
        "/api/v1/namespaces/a/pods/p",
        "",
        ("", "pods", "delete"),
    );
    let status = "/apis/tidemark.dev/v1alpha1/namespaces/a/kafkatopics/t/status";
    check(
        Method::PATCH,
        status,
        "",
        ("tidemark.dev", "kafkatopics/status", "patch"),
    );
    assert_eq!(asked(&Method::GET, "/healthz", ""), None);
}
