//! Which value rules (patterns, bounds, enums, combinators) does a schema node state, and does a value keep them?
//!
//! Messages are those of `kube-openapi/pkg/validation/errors`, because they reach people through `kubectl`.

use regex::Regex;
use serde_json::Value;

use super::Schema;
use crate::api_error::FieldError;

/// The part of a schema node that constrains values and not shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValueRules {
    pub(crate) enumeration: Vec<Value>,
    pub(crate) pattern: Option<(String, Regex)>,
    pub(crate) format: Option<String>,
    pub(crate) minimum: Option<(f64, bool)>,
    pub(crate) maximum: Option<(f64, bool)>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) unique_items: bool,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
}

impl ValueRules {
    /// Appends what `value` breaks; nested combinators included, children not.
    pub(crate) fn check(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        match value {
            Value::String(text) => self.check_string(text, value, path, errors),
            Value::Number(number) => {
                self.check_number(number.as_f64().unwrap_or(0.0), value, path, errors);
            }
            Value::Array(items) => self.check_array(items, value, path, errors),
            Value::Object(map) => self.check_object(map.len(), value, path, errors),
            Value::Null | Value::Bool(_) => {}
        }
        if !self.enumeration.is_empty() && !self.enumeration.contains(value) {
            let supported: Vec<String> = self
                .enumeration
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect();
            errors.push(FieldError::not_supported(path, value, &supported));
        }
        self.check_combinators(value, path, errors);
    }

    fn check_string(&self, text: &str, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let length = text.chars().count() as u64;
        // As in go-openapi, the first of these three that is broken is the one that is told.
        if let Some(max) = self.max_length.filter(|max| length > *max) {
            errors.push(FieldError::too_long(path, max));
        } else if let Some(min) = self.min_length.filter(|min| length < *min) {
            let detail = format!("{path} in body should be at least {min} chars long");
            errors.push(FieldError::invalid(path, value, &detail));
        } else if let Some((source, _)) = self
            .pattern
            .as_ref()
            .filter(|(_, regex)| !regex.is_match(text))
        {
            errors.push(FieldError::invalid(
                path,
                value,
                &format!("{path} in body should match '{source}'"),
            ));
        }
        if let Some(format) = self
            .format
            .as_deref()
            .filter(|format| !keeps_format(format, text))
        {
            let detail = format!("{path} in body must be of type {format}: {text:?}");
            errors.push(FieldError::invalid(path, value, &detail));
        }
    }

    fn check_number(&self, number: f64, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        if let Some((max, exclusive)) = self.maximum
            && (number > max || (exclusive && number >= max))
        {
            let or_equal = if exclusive { "" } else { " or equal to" };
            let detail = format!("{path} in body should be less than{or_equal} {max}");
            errors.push(FieldError::invalid(path, value, &detail));
        }
        if let Some((min, exclusive)) = self.minimum
            && (number < min || (exclusive && number <= min))
        {
            let or_equal = if exclusive { "" } else { " or equal to" };
            let detail = format!("{path} in body should be greater than{or_equal} {min}");
            errors.push(FieldError::invalid(path, value, &detail));
        }
        if let Some(step) = self
            .multiple_of
            .filter(|step| *step != 0.0 && number % step != 0.0)
        {
            errors.push(FieldError::invalid(
                path,
                value,
                &format!("{path} in body should be a multiple of {step}"),
            ));
        }
        let bounds = match self.format.as_deref() {
            Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
            _ => None,
        };
        if let Some((low, high)) = bounds.filter(|(low, high)| number < *low || number > *high) {
            let detail = format!("{path} in body must be between {low} and {high} (format int32)");
            errors.push(FieldError::invalid(path, value, &detail));
        }
    }

    fn check_array(
        &self,
        items: &[Value],
        value: &Value,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let count = items.len() as u64;
        if let Some(max) = self.max_items.filter(|max| count > *max) {
            errors.push(FieldError::too_many(path, items.len(), max));
        }
        if let Some(min) = self.min_items.filter(|min| count < *min) {
            let detail = format!("{path} in body should have at least {min} items");
            errors.push(FieldError::invalid(
                path,
                &Value::from(items.len()),
                &detail,
            ));
        }
        if self.unique_items
            && items
                .iter()
                .enumerate()
                .any(|(i, item)| items[..i].contains(item))
        {
            let detail = format!("{path} in body shouldn't contain duplicates");
            errors.push(FieldError::invalid(path, value, &detail));
        }
    }

    fn check_object(&self, count: usize, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        if let Some(max) = self.max_properties.filter(|max| count as u64 > *max) {
            errors.push(FieldError::too_many(path, count, max));
        }
        if let Some(min) = self.min_properties.filter(|min| (count as u64) < *min) {
            let detail = format!("{path} in body should have at least {min} properties");
            errors.push(FieldError::invalid(path, value, &detail));
        }
    }

    fn check_combinators(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        for branch in &self.all_of {
            branch.validate_into(value, None, path, errors);
        }
        let passes = |branch: &Schema| {
            let mut inner = Vec::new();
            branch.validate_into(value, None, path, &mut inner);
            inner.is_empty()
        };
        let empty = Value::String(String::new());
        if !self.any_of.is_empty() && !self.any_of.iter().any(passes) {
            let detail = format!("{path:?} must validate at least one schema (anyOf)");
            errors.push(FieldError::invalid("", &empty, &detail));
        }
        if !self.one_of.is_empty() {
            let matched = self.one_of.iter().filter(|branch| passes(branch)).count();
            if matched != 1 {
                let found = if matched == 0 {
                    "Found none valid"
                } else {
                    "Found more than one valid"
                };
                let detail =
                    format!("{path:?} must validate one and only one schema (oneOf). {found}");
                errors.push(FieldError::invalid("", &empty, &detail));
            }
        }
        if self.not.as_deref().is_some_and(passes) {
            let detail = format!("{path:?} must not validate the schema (not)");
            errors.push(FieldError::invalid("", &empty, &detail));
        }
    }
}

/// Formats the API server checks; the ones it does not know are accepted, as there.
fn keeps_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    }
}
