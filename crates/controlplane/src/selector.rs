//! Does an object match a label or field selector?

use serde_json::Value;

use crate::api_error::ApiError;
use crate::kinds::Kind;

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// A parsed `labelSelector` and `fieldSelector`; empty matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<LabelRule>,
    /// (dotted path, wanted, must be equal)
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    pub(crate) fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
        kind: &Kind,
    ) -> Result<Self, ApiError> {
        let labels = labels
            .filter(|s| !s.trim().is_empty())
            .map(parse_labels)
            .transpose()?
            .unwrap_or_default();
        let mut parsed = Vec::new();
        for term in fields
            .unwrap_or_default()
            .split(',')
            .filter(|term| !term.trim().is_empty())
        {
            let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) =
                term.split_once("==").or_else(|| term.split_once('='))
            {
                (path, value, true)
            } else {
                let message = format!("invalid selector: {term:?}; can't understand '{term}'");
                return Err(ApiError::bad_request(message));
            };
            let path = path.trim();
            let known = matches!(path, "metadata.name" | "metadata.namespace")
                || kind.selectable.iter().any(|s| s == path);
            if !known {
                return Err(ApiError::bad_request(format!(
                    "field label not supported: {path}"
                )));
            }
            parsed.push((path.to_owned(), value.trim().to_owned(), equal));
        }
        Ok(Self {
            labels,
            fields: parsed,
        })
    }

    /// A `metav1.LabelSelector` value; an empty one matches everything, as in the API.
    pub(crate) fn from_label_selector(selector: &Value) -> Self {
        let mut labels = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            labels.push(LabelRule::In(
                key.clone(),
                vec![value.as_str().unwrap_or_default().to_owned()],
            ));
        }
        for rule in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let key = rule
                .get("key")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let values = rule
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let values = values
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            labels.push(match rule.get("operator").and_then(Value::as_str) {
                Some("In") => LabelRule::In(key, values),
                Some("NotIn") => LabelRule::NotIn(key, values),
                Some("Exists") => LabelRule::Exists(key),
                _ => LabelRule::Absent(key),
            });
        }
        Self {
            labels,
            fields: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| {
            object
                .pointer("/metadata/labels")
                .and_then(|l| l.get(key))
                .and_then(Value::as_str)
        };
        let labels = self.labels.iter().all(|rule| match rule {
            LabelRule::In(key, values) => label(key).is_some_and(|v| values.iter().any(|x| x == v)),
            LabelRule::NotIn(key, values) => {
                label(key).is_none_or(|v| values.iter().all(|x| x != v))
            }
            LabelRule::Exists(key) => label(key).is_some(),
            LabelRule::Absent(key) => label(key).is_none(),
        });
        labels
            && self
                .fields
                .iter()
                .all(|(path, wanted, equal)| (text_at(object, path) == *wanted) == *equal)
    }
}

/// The value at a dotted path as selectors compare it: absent is the empty string.
fn text_at(object: &Value, path: &str) -> String {
    let found = path
        .split('.')
        .try_fold(object, |value, name| value.get(name));
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn parse_labels(text: &str) -> Result<Vec<LabelRule>, ApiError> {
    split_terms(text).into_iter().map(parse_label).collect()
}

/// Splits at commas outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_label(term: &str) -> Result<LabelRule, ApiError> {
    let term = term.trim();
    let bad = || ApiError::bad_request(format!("unable to parse requirement: {term:?}"));
    if let Some(key) = term.strip_prefix('!') {
        return Ok(LabelRule::Absent(key.trim().to_owned()));
    }
    if let Some(open) = term.find('(') {
        let values = term[open + 1..].strip_suffix(')').ok_or_else(bad)?;
        let values = values.split(',').map(|v| v.trim().to_owned()).collect();
        let head: Vec<&str> = term[..open].split_whitespace().collect();
        return match head.as_slice() {
            [key, "in"] => Ok(LabelRule::In((*key).to_owned(), values)),
            [key, "notin"] => Ok(LabelRule::NotIn((*key).to_owned(), values)),
            _ => Err(bad()),
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(LabelRule::NotIn(
            key.trim().to_owned(),
            vec![value.trim().to_owned()],
        ));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(LabelRule::In(
            key.trim().to_owned(),
            vec![value.trim().to_owned()],
        ));
    }
    if let Some(second) = term.split_whitespace().nth(1) {
        return Err(ApiError::bad_request(format!(
            "unable to parse requirement: found '{second}', expected: in, notin, =, ==, !=, gt, lt"
        )));
    }
    if term.is_empty() {
        return Err(bad());
    }
    Ok(LabelRule::Exists(term.to_owned()))
}
