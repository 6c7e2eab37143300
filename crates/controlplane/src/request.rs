//! What does one HTTP request ask of the API: which verb, kind, name, subresource and options?

use std::collections::HashMap;

use http::{Method, Uri};

use crate::api_error::ApiError;

/// A path below `/api/v1` or `/apis/GROUP/VERSION`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) plural: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl ResourcePath {
    /// `None` for a path that is not a resource.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let decoded: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .map(percent_decode)
            .collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let mut out = Self {
            group: group.to_owned(),
            version: version.to_owned(),
            ..Self::default()
        };
        let rest = match rest {
            // `namespaces/NAME/status` and `namespaces/NAME/finalize` are about the namespace itself.
            ["namespaces", _, "status" | "finalize"] | ["namespaces"] | ["namespaces", _] => rest,
            ["namespaces", namespace, rest @ ..] => {
                out.namespace = (*namespace).to_owned();
                rest
            }
            rest => rest,
        };
        match rest {
            [plural] => out.plural = (*plural).to_owned(),
            [plural, name] => (out.plural, out.name) = ((*plural).to_owned(), (*name).to_owned()),
            [plural, name, sub] => {
                (out.plural, out.name) = ((*plural).to_owned(), (*name).to_owned());
                out.subresource = (*sub).to_owned();
            }
            _ => return None,
        }
        Some(out)
    }
}

/// The query string.
#[derive(Debug, Default)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    pub(crate) fn parse(uri: &Uri) -> Self {
        let pairs = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (
                        percent_decode(&key.replace('+', " ")),
                        percent_decode(&value.replace('+', " ")),
                    )
                })
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1"))
    }

    /// `dryRun=All`; any other value is refused as the API server does.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "invalid dryRun {other:?}: only \"All\" is supported"
            ))),
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            text.parse::<u64>()
                .map_err(|e| ApiError::bad_request(format!("invalid {key} {text:?}: {e}")))
        };
        self.get(key).map(parse).transpose()
    }
}

/// How a body that names unknown fields is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    /// `Warn` is the API server's default.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        match query.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(ApiError::bad_request(format!(
                "invalid fieldValidation {other:?}: supported values: \"Ignore\", \"Warn\", \"Strict\""
            ))),
        }
    }
}

/// The manager a write is recorded under: the parameter, else the program named by the user agent.
pub(crate) fn field_manager(query: &Query, user_agent: Option<&str>) -> String {
    let agent = user_agent
        .and_then(|agent| agent.split('/').next())
        .filter(|agent| !agent.is_empty());
    query
        .get("fieldManager")
        .or(agent)
        .unwrap_or("unknown")
        .to_owned()
}

/// The verb of a resource request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Replace,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn of(method: &Method, path: &ResourcePath, query: &Query) -> Option<Self> {
        let named = !path.name.is_empty();
        match (method.as_str(), named) {
            ("GET", false) if query.flag("watch") => Some(Self::Watch),
            ("GET", false) => Some(Self::List),
            ("GET", true) => Some(Self::Get),
            ("POST", _) => Some(Self::Create),
            ("PUT", true) => Some(Self::Replace),
            ("PATCH", true) => Some(Self::Patch),
            ("DELETE", true) => Some(Self::Delete),
            ("DELETE", false) => Some(Self::DeleteCollection),
            _ => None,
        }
    }
}

fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = (bytes[index] == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                index += 3;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
