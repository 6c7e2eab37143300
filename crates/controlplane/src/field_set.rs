//! Which fields does a manager own? A set of paths, as `metadata.managedFields[].fieldsV1` writes it.
//!
//! The rules are those of structured-merge-diff: scalars, atomic values and empty objects are members by their own
//! path; items of keyed lists and entries of maps are members besides their contents (`"."`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::schema::{ListKind, Schema};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// `f:name`
    Field(String),
    /// `k:{"name":"x"}`, the keys as compact JSON.
    Key(String),
    /// `v:"x"`, an item of a set.
    Value(String),
}

impl Step {
    fn wire(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(2)?;
        match kind {
            "f:" => Some(Self::Field(rest.to_owned())),
            "k:" => Some(Self::Key(canonical(rest)?)),
            "v:" => Some(Self::Value(canonical(rest)?)),
            _ => None,
        }
    }

    /// As a conflict message prints it: `.name`, `[name="x"]`, `["x"]`.
    fn shown(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Value(value) => format!("[={value}]"),
            Self::Key(keys) => match serde_json::from_str::<Value>(keys) {
                Ok(Value::Object(map)) => {
                    let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    format!("[{}]", pairs.join(","))
                }
                _ => format!("[{keys}]"),
            },
        }
    }
}

/// Key order must not tell two equal keys apart.
fn canonical(text: &str) -> Option<String> {
    match serde_json::from_str::<Value>(text).ok()? {
        Value::Object(map) => serde_json::to_string(&map.iter().collect::<BTreeMap<_, _>>()).ok(),
        other => Some(other.to_string()),
    }
}

/// A set of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FieldSet {
    /// Whether the path that leads here is itself a member.
    pub(crate) member: bool,
    pub(crate) children: BTreeMap<Step, Self>,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Decodes `fieldsV1`; what is not a path step is skipped.
    pub(crate) fn from_wire(value: &Value) -> Self {
        let mut set = Self::default();
        for (key, child) in value.as_object().into_iter().flatten() {
            if key == "." {
                set.member = true;
            } else if let Some(step) = Step::parse(key) {
                let mut inner = Self::from_wire(child);
                // An empty object means "this path itself"; with contents, "." says so.
                inner.member |= inner.children.is_empty();
                set.children.insert(step, inner);
            }
        }
        set
    }

    pub(crate) fn to_wire(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        for (step, child) in &self.children {
            map.insert(step.wire(), child.to_wire());
        }
        Value::Object(map)
    }

    pub(crate) fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().union(child);
        }
    }

    /// Removes every member of `other` from this set; returns whether anything is left.
    pub(crate) fn subtract(&mut self, other: &Self) -> bool {
        self.member &= !other.member;
        for (step, child) in &other.children {
            if let Some(mine) = self.children.get_mut(step)
                && !mine.subtract(child)
            {
                self.children.remove(step);
            }
        }
        !self.is_empty()
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self {
            member: self.member && other.member,
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            if let Some(theirs) = other.children.get(step) {
                let inner = child.intersection(theirs);
                if !inner.is_empty() {
                    both.children.insert(step.clone(), inner);
                }
            }
        }
        both
    }

    /// Takes the whole subtree at a top-level path such as `["metadata", "name"]` out of the set.
    pub(crate) fn remove_path(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let step = Step::Field((*first).to_owned());
        if rest.is_empty() {
            self.children.remove(&step);
        } else if let Some(child) = self.children.get_mut(&step) {
            child.remove_path(rest);
            if child.is_empty() {
                self.children.remove(&step);
            }
        }
    }

    /// Keeps only the subtree at one top-level field.
    pub(crate) fn retain_top(&mut self, keep: impl Fn(&str) -> bool) {
        self.children
            .retain(|step, _| matches!(step, Step::Field(name) if keep(name)));
    }

    /// Every member path, as conflict messages print them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths(&mut String::new(), &mut out);
        out
    }

    fn collect_paths(&self, prefix: &mut String, out: &mut Vec<String>) {
        if self.member {
            out.push(prefix.clone());
        }
        for (step, child) in &self.children {
            let length = prefix.len();
            prefix.push_str(&step.shown());
            child.collect_paths(prefix, out);
            prefix.truncate(length);
        }
    }

    /// The paths an object sets.
    pub(crate) fn of(value: &Value, schema: Option<&Schema>) -> Self {
        let mut set = Self::default();
        set.collect(value, schema);
        set
    }

    fn collect(&mut self, value: &Value, schema: Option<&Schema>) {
        match value {
            Value::Object(map) if !schema.is_some_and(|s| s.atomic_map) => {
                for (name, child) in map {
                    let child_schema = schema.and_then(|s| s.child(name)).map(AsRef::as_ref);
                    let inner = self.children.entry(Step::Field(name.clone())).or_default();
                    inner.collect(child, child_schema);
                    let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                    let map_entry = !schema.is_some_and(|s| s.declares(name));
                    inner.member |= empty || map_entry;
                }
                // A declared field that holds an empty keyed list owns nothing, like structured-merge-diff.
                self.children.retain(|_, inner| !inner.is_empty());
            }
            Value::Array(items) if schema.is_some_and(|s| s.list != ListKind::Atomic) => {
                let schema = schema.expect("the guard saw a schema");
                for item in items {
                    let Some(step) = item_step(item, Some(schema)) else {
                        continue;
                    };
                    let inner = self.children.entry(step).or_default();
                    inner.collect(item, schema.items.as_deref());
                    inner.member = true;
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => {
                self.member = true;
            }
        }
    }
}

/// The step that names a list item, or `None` when it lacks its keys (validation refuses such items). A key that is
/// absent but has a default counts with its default, as `protocol: TCP` of a port.
pub(crate) fn item_step(item: &Value, schema: Option<&Schema>) -> Option<Step> {
    let schema = schema?;
    match &schema.list {
        ListKind::Atomic => None,
        ListKind::Set => Some(Step::Value(item.to_string())),
        ListKind::Map(keys) => {
            let default = |key: &String| schema.items.as_ref()?.child(key)?.default.as_ref();
            let identity: BTreeMap<&String, &Value> = keys
                .iter()
                .filter_map(|key| Some((key, item.get(key).or_else(|| default(key))?)))
                .collect();
            if identity.is_empty() {
                return None;
            }
            serde_json::to_string(&identity).ok().map(Step::Key)
        }
    }
}

pub(crate) fn schema_at<'s>(schema: Option<&'s Schema>, step: &Step) -> Option<&'s Schema> {
    match step {
        Step::Field(name) => schema.and_then(|s| s.child(name)).map(AsRef::as_ref),
        Step::Key(_) | Step::Value(_) => schema.and_then(|s| s.items.as_deref()),
    }
}

/// The value a step leads to.
pub(crate) fn at<'v>(value: &'v Value, step: &Step, schema: Option<&Schema>) -> Option<&'v Value> {
    match step {
        Step::Field(name) => value.get(name),
        Step::Key(_) | Step::Value(_) => value
            .as_array()?
            .iter()
            .find(|item| item_step(item, schema).as_ref() == Some(step)),
    }
}
