//! Which kinds does this control plane serve, and what is special about each?

mod core_kinds;
mod custom;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::schema::Schema;
use crate::schema::parse::SchemaError;

pub(crate) use core_kinds::ServedAs;

/// Index of a kind in the registry; keys of objects carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KindId(pub(crate) u16);

/// Paths of a CRD's scale subresource, as JSON pointers.
#[derive(Debug, Clone)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    pub(crate) selector: Option<String>,
}

/// One served kind.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) id: KindId,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    /// Whether `/status` exists; then the main resource ignores status and `/status` ignores the rest.
    pub(crate) status: bool,
    pub(crate) scale: Option<ScalePaths>,
    /// Made from a CRD: strictness, pruning and list items differ a little from built-in kinds.
    pub(crate) custom: bool,
    /// Whether `metadata.generation` counts changes of what is not status and metadata.
    pub(crate) generation: bool,
    /// Field selectors served besides `metadata.name` and `metadata.namespace`, as dotted paths.
    pub(crate) selectable: Vec<String>,
    schema: OnceLock<Arc<Schema>>,
    core_schema: Option<fn() -> schemars::Schema>,
}

impl Kind {
    /// `group/version`, or `v1` for the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `group/version, Kind=kind`, as typed conversion errors print it.
    pub(crate) fn gvk(&self) -> String {
        format!("{}, Kind={}", self.api_version(), self.kind)
    }

    /// The structural schema; those of core kinds are built at first use, because a pod template is large.
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| match self.core_schema {
            Some(generate) => core_kinds::structural(generate),
            None => Arc::new(Schema::default()),
        })
    }
}

/// The served kinds.
#[derive(Debug)]
pub(crate) struct Registry {
    kinds: Vec<Kind>,
    by_path: HashMap<(String, String, String), (KindId, ServedAs)>,
}

impl Registry {
    /// The core kinds plus those of `crds`.
    pub(crate) fn new(crds: &[CustomResourceDefinition]) -> Result<Self, SchemaError> {
        let mut registry = Self {
            kinds: Vec::new(),
            by_path: HashMap::new(),
        };
        for kind in core_kinds::all() {
            registry.add(kind);
        }
        registry.add_events_alias();
        for crd in crds {
            for kind in custom::kinds_of(crd)? {
                registry.add(kind);
            }
        }
        Ok(registry)
    }

    fn add(&mut self, mut kind: Kind) {
        kind.id =
            KindId(u16::try_from(self.kinds.len()).expect("a registry holds dozens of kinds"));
        let path = (
            kind.group.clone(),
            kind.version.clone(),
            kind.plural.clone(),
        );
        self.by_path.insert(path, (kind.id, ServedAs::Itself));
        self.kinds.push(kind);
    }

    /// `events.k8s.io/v1` serves the very objects of core `v1` events, in its own shape.
    fn add_events_alias(&mut self) {
        if let Some((id, _)) = self
            .by_path
            .get(&(String::new(), "v1".into(), "events".into()))
            .copied()
        {
            let path = (
                "events.k8s.io".to_owned(),
                "v1".to_owned(),
                "events".to_owned(),
            );
            self.by_path.insert(path, (id, ServedAs::NewEvents));
        }
    }

    pub(crate) fn at_path(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<(&Kind, ServedAs)> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.by_path
            .get(&key)
            .map(|(id, served)| (self.get(*id), *served))
    }

    pub(crate) fn get(&self, id: KindId) -> &Kind {
        &self.kinds[usize::from(id.0)]
    }

    /// The kind an owner reference or a stored object names; group and kind decide, not the version.
    pub(crate) fn by_kind(&self, group: &str, kind: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|k| k.group == group && k.kind == kind)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter()
    }
}

/// `apps` of `apps/v1`, empty for `v1`.
pub(crate) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
