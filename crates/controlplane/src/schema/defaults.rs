//! Which fields does the API server fill in before it validates?

use serde_json::{Map, Value};

use super::{Additional, Schema};

impl Schema {
    /// Fills absent (and non-nullable null) fields that have a default, at every depth.
    pub(crate) fn apply_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(map) => self.default_object(map),
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items
                        .iter_mut()
                        .for_each(|item| schema.apply_defaults(item));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn default_object(&self, map: &mut Map<String, Value>) {
        for (name, child) in &self.properties {
            if map.get(name).is_some_and(Value::is_null) && !child.nullable {
                // A null where null is not allowed counts as absent, so that the default applies.
                map.remove(name);
            }
            if !map.contains_key(name)
                && let Some(default) = &child.default
            {
                map.insert(name.clone(), default.clone());
            }
            if let Some(value) = map.get_mut(name) {
                child.apply_defaults(value);
            }
        }
        if let Additional::Values(schema) = &self.additional {
            for (name, value) in map.iter_mut() {
                if !self.properties.contains_key(name) {
                    schema.apply_defaults(value);
                }
            }
        }
    }
}
