//! Which environment and arguments does a container get?
//!
//! Values come from literals, the downward API, ConfigMaps and Secrets; `$(NAME)` refers to variables defined before,
//! `$$(NAME)` is the literal text, and an unknown reference stays as written, as in Kubernetes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret,
};
use kube::ResourceExt as _;

/// Why a container cannot be started yet; the text kubelet shows with `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Missing(pub(crate) String);

/// Where values come from.
pub(crate) trait Sources {
    fn config_map(&self, name: &str) -> Option<std::sync::Arc<ConfigMap>>;
    fn secret(&self, name: &str) -> Option<std::sync::Arc<Secret>>;
}

/// What the downward API can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Downward<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) address: Ipv4Addr,
    pub(crate) node: &'a str,
}

/// The variables of a container, in definition order (later ones win).
pub(crate) fn variables(
    container: &Container,
    downward: Downward<'_>,
    sources: &impl Sources,
) -> Result<Vec<(String, String)>, Missing> {
    let mut out: Vec<(String, String)> = Vec::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        out.extend(
            all_of(from, sources)?
                .into_iter()
                .map(|(name, value)| (format!("{prefix}{name}"), value)),
        );
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(from) => match value_from(from, container, downward, sources)? {
                Some(value) => value,
                // An optional source that is absent leaves the variable undefined.
                None => continue,
            },
            None => expand(variable.value.as_deref().unwrap_or_default(), &out),
        };
        out.push((variable.name.clone(), value));
    }
    Ok(out)
}

fn all_of(
    from: &k8s_openapi::api::core::v1::EnvFromSource,
    sources: &impl Sources,
) -> Result<BTreeMap<String, String>, Missing> {
    if let Some(reference) = &from.config_map_ref {
        return match sources.config_map(&reference.name) {
            Some(map) => Ok(map.data.clone().unwrap_or_default()),
            None if reference.optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(Missing(format!("configmap {:?} not found", reference.name))),
        };
    }
    if let Some(reference) = &from.secret_ref {
        return match sources.secret(&reference.name) {
            Some(secret) => Ok(secret
                .data
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
                .collect()),
            None if reference.optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(Missing(format!("secret {:?} not found", reference.name))),
        };
    }
    Ok(BTreeMap::new())
}

fn value_from(
    from: &EnvVarSource,
    container: &Container,
    downward: Downward<'_>,
    sources: &impl Sources,
) -> Result<Option<String>, Missing> {
    if let Some(field) = &from.field_ref {
        return field_value(field, downward).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return Ok(Some(resource_value(resource, container)));
    }
    if let Some(key) = &from.config_map_key_ref {
        let map = sources.config_map(&key.name);
        let value = map
            .as_ref()
            .and_then(|m| m.data.as_ref()?.get(&key.key).cloned());
        let what = if map.is_some() {
            format!("couldn't find key {} in ConfigMap", key.key)
        } else {
            "configmap not found:".to_owned()
        };
        return present(value, key.optional, &format!("{what} {:?}", key.name));
    }
    if let Some(key) = &from.secret_key_ref {
        let secret = sources.secret(&key.name);
        let bytes = secret
            .as_ref()
            .and_then(|s| s.data.as_ref()?.get(&key.key).map(|v| v.0.clone()));
        let value = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let what = if secret.is_some() {
            format!("couldn't find key {} in Secret", key.key)
        } else {
            "secret not found:".to_owned()
        };
        return present(value, key.optional, &format!("{what} {:?}", key.name));
    }
    Err(Missing(
        "an env valueFrom of a kind the local node does not know".to_owned(),
    ))
}

fn present(
    value: Option<String>,
    optional: Option<bool>,
    what: &str,
) -> Result<Option<String>, Missing> {
    match value {
        None if optional != Some(true) => Err(Missing(what.to_owned())),
        value => Ok(value),
    }
}

/// One downward API field.
pub(crate) fn field_value(
    field: &ObjectFieldSelector,
    downward: Downward<'_>,
) -> Result<String, Missing> {
    let pod = downward.pod;
    let spec = pod.spec.as_ref();
    let path = field.field_path.as_str();
    let keyed = |prefix: &str| {
        path.strip_prefix(prefix)?
            .strip_prefix("['")?
            .strip_suffix("']")
            .map(str::to_owned)
    };
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "metadata.labels" => listing(pod.labels()),
        "metadata.annotations" => listing(pod.annotations()),
        "spec.nodeName" => downward.node.to_owned(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" | "status.hostIPs" => "127.0.0.1".to_owned(),
        "status.podIP" | "status.podIPs" => downward.address.to_string(),
        _ => {
            if let Some(key) = keyed("metadata.labels") {
                pod.labels().get(&key).cloned().unwrap_or_default()
            } else if let Some(key) = keyed("metadata.annotations") {
                pod.annotations().get(&key).cloned().unwrap_or_default()
            } else {
                return Err(Missing(format!("unsupported fieldPath: {path}")));
            }
        }
    })
}

/// Labels or annotations as a downward API file shows them.
fn listing(map: &BTreeMap<String, String>) -> String {
    map.iter()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `limits.memory` and the like in base units, rounded up; a limit that is not set is the machine, of which one core and
/// no particular memory are claimed.
fn resource_value(selector: &ResourceFieldSelector, container: &Container) -> String {
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, name) = selector.resource.split_once('.').unwrap_or(("", ""));
    let map = if kind == "limits" {
        resources.limits
    } else {
        resources.requests
    };
    let amount = map.and_then(|map| map.get(name).and_then(|q| crate::quantity::parse(&q.0)));
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|d| crate::quantity::parse(&d.0))
        .filter(|d| *d > 0.0);
    let default = if name == "cpu" { 1.0 } else { 0.0 };
    format!(
        "{:.0}",
        (amount.unwrap_or(default) / divisor.unwrap_or(1.0)).ceil()
    )
}

/// Replaces `$(NAME)` by values defined so far.
pub(crate) fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(escaped) = rest.strip_prefix("$$") {
            out.push('$');
            rest = escaped;
        } else if let Some((name, after)) = rest.strip_prefix("$(").and_then(|r| r.split_once(')'))
        {
            match variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&rest[..name.len() + 3]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references_expand_to_earlier_variables_and_everything_else_stays() {
        let known = [
            ("A".to_owned(), "1".to_owned()),
            ("A".to_owned(), "2".to_owned()),
        ];
        for (text, want) in [
            ("$(A)", "2"),
            ("x$(A)y$(B)", "x2y$(B)"),
            ("$$(A)", "$(A)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &known), want, "{text}");
        }
    }
}
