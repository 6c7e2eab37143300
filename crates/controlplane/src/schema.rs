//! What shape may an object of a kind have? A structural schema, read from a CRD or from the core types.
//!
//! One tree serves defaulting, unknown-field checks, validation and the merge rules of server-side apply.
//! CRDs give it directly; core kinds get theirs from k8s-openapi's JSON schemas, completed by the small
//! tables in [`core_tables`] (list-map keys, atomic structs, defaults), which those schemas do not carry.

pub(crate) mod core_tables;
pub(crate) mod defaults;
pub(crate) mod parse;
pub(crate) mod unknown;
pub(crate) mod validate;
pub(crate) mod value_rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::cel::NodeRules;

/// The JSON type a node demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl JsonType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How server-side apply merges a list (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListKind {
    /// One owner for the whole list.
    #[default]
    Atomic,
    /// Scalars, each its own owner.
    Set,
    /// Objects told apart by these fields.
    Map(Vec<String>),
}

/// What an object may hold besides its named properties.
#[derive(Debug, Clone, Default)]
pub(crate) enum Additional {
    #[default]
    None,
    /// `x-kubernetes-preserve-unknown-fields` or `additionalProperties: true`.
    Any,
    Values(Arc<Schema>),
}

/// One node of a structural schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    pub(crate) json_type: Option<JsonType>,
    pub(crate) int_or_string: bool,
    pub(crate) nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`: unknown fields stay.
    pub(crate) preserve_unknown: bool,
    pub(crate) properties: BTreeMap<String, Arc<Self>>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<Arc<Self>>,
    pub(crate) list: ListKind,
    /// `x-kubernetes-map-type: atomic`: one owner for the whole object.
    pub(crate) atomic_map: bool,
    pub(crate) required: Vec<String>,
    pub(crate) default: Option<Value>,
    /// What the API server's own type holds where nothing is written: `{}` for a struct that is not a pointer.
    pub(crate) zero: Option<Value>,
    pub(crate) rules: value_rules::ValueRules,
    pub(crate) cel: Option<Arc<NodeRules>>,
}

impl Schema {
    /// The schema of a named field of an object node.
    pub(crate) fn child(&self, name: &str) -> Option<&Arc<Self>> {
        self.properties.get(name).or(match &self.additional {
            Additional::Values(schema) => Some(schema),
            Additional::None | Additional::Any => None,
        })
    }

    /// Whether `name` is a declared field (as opposed to a key of a map).
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.properties.contains_key(name)
    }

    /// Whether fields that are not declared may stay.
    pub(crate) fn open(&self) -> bool {
        self.preserve_unknown || matches!(self.additional, Additional::Any)
    }
}

/// `parent.name`, or `parent[key]` for a name that would not read as one path segment.
pub(crate) fn child_path(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// The correlated old item of a list: by key for list-maps, by value for sets, none for atomic lists
/// (the API server does not relate items of atomic lists across an update).
pub(crate) fn correlated<'a>(
    list: &ListKind,
    item: &Value,
    old: Option<&'a Value>,
) -> Option<&'a Value> {
    let old = old?.as_array()?;
    match list {
        ListKind::Atomic => None,
        ListKind::Set => old.iter().find(|o| *o == item),
        ListKind::Map(keys) => old
            .iter()
            .find(|o| keys.iter().all(|k| o.get(k) == item.get(k))),
    }
}
