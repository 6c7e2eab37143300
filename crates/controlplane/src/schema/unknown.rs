//! Which fields of an object does its kind not declare, and what happens to them?

use serde_json::Value;

use super::{Additional, Schema, child_path};

impl Schema {
    /// Removes undeclared fields and returns their paths (`spec.foo`), in document order.
    pub(crate) fn prune(&self, value: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        self.prune_at(value, "", true, &mut unknown);
        unknown
    }

    fn prune_at(&self, value: &mut Value, path: &str, root: bool, unknown: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let declared = |name: &str| {
                    self.declares(name)
                        || (root && matches!(name, "apiVersion" | "kind" | "metadata"))
                };
                if matches!(self.additional, Additional::None) && !self.open() {
                    let strangers: Vec<String> =
                        map.keys().filter(|name| !declared(name)).cloned().collect();
                    for name in strangers {
                        map.remove(&name);
                        unknown.push(child_path(path, &name));
                    }
                }
                for (name, child) in map.iter_mut() {
                    if let Some(schema) = self.child(name) {
                        schema.prune_at(child, &child_path(path, name), false, unknown);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter_mut().enumerate() {
                        schema.prune_at(item, &format!("{path}[{index}]"), false, unknown);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
