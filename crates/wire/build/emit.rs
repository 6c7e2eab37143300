//! Which types, defaults and trait implementations does each message become?

use std::fmt::Write as _;

use crate::emit_codec;
use crate::model::{Field, Kind, Message, Range, Struct, Table, Type};

/// The whole of `messages.rs`: one module per message, re-exports, and the `ApiKey` enum.
pub(crate) fn messages(tables: &[Table]) -> String {
    let mut out = String::new();
    for message in tables.iter().flat_map(|t| &t.messages) {
        module(&mut out, message, tables);
    }
    api_keys(&mut out, tables);
    out
}

/// `ProduceRequest` -> `produce_request`
pub(crate) fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The Rust type of a field.
pub(crate) fn rust_type(message: &Message, ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::Number(name) => (*name).to_owned(),
        Type::Uuid => "TopicId".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        // Responses may be assembled from many pieces of the log; requests are one slice of their frame.
        Type::Records if message.kind == Kind::Response => "Records".to_owned(),
        Type::Records => "Bytes".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(item) => format!("Vec<{}>", rust_type(message, item)),
    }
}

/// The Rust expression of a field's default.
pub(crate) fn default_value(field: &Field) -> String {
    let plain = match (&field.ty, field.default.as_deref()) {
        (_, Some("null")) => return "None".to_owned(),
        (Type::String, Some(text)) => format!("String::from({text:?})"),
        (_, Some(value)) => value.to_owned(),
        (Type::Bool, None) => "false".to_owned(),
        (Type::Number("f64"), None) => "0.0".to_owned(),
        (Type::Number(_), None) => "0".to_owned(),
        (_, None) => "Default::default()".to_owned(),
    };
    if field.nullable.is_some() {
        format!("Some({plain})")
    } else {
        plain
    }
}

/// How a range of versions is said in documentation.
fn said(range: Range, within: Range) -> String {
    match (range.lo, range.hi) {
        (lo, hi) if hi >= within.hi => format!("{lo}+"),
        (lo, hi) if lo == hi => format!("{lo}"),
        (lo, hi) => format!("{lo}-{hi}"),
    }
}

fn module(out: &mut String, message: &Message, tables: &[Table]) {
    let name = &message.name;
    let (lo, hi) = (message.versions.lo, message.versions.hi);
    let flexible = message
        .flexible
        .map_or_else(|| "never".to_owned(), |v| format!("from {v}"));
    let _ = writeln!(
        out,
        "/// `{name}`: versions {lo}-{hi}, flexible {flexible}.\npub mod {module} {{\n#[allow(unused_imports)]\nuse crate::generated::*;\n",
        module = snake(name)
    );
    for item in &message.structs {
        definition(out, message, item);
        emit_codec::wire_struct(out, message, item);
    }
    let flexible = message
        .flexible
        .map_or_else(|| "None".to_owned(), |v| format!("Some({v})"));
    let _ = writeln!(
        out,
        "impl Message for {name} {{ const NAME: &'static str = {name:?}; const VERSIONS: RangeInclusive<i16> = {lo}..={hi}; const FLEXIBLE_SINCE: Option<i16> = {flexible}; }}"
    );
    kind_impl(out, message, tables);
    let _ = writeln!(out, "}}\npub use {}::{name};\n", snake(name));
}

fn kind_impl(out: &mut String, message: &Message, tables: &[Table]) {
    let name = &message.name;
    let api = tables
        .iter()
        .find(|t| t.messages.iter().any(|m| m.name == *name))
        .and_then(|t| t.api.as_ref());
    let line = match (message.kind, api) {
        (Kind::Request, Some(api)) => format!(
            "impl Request for {name} {{ const KEY: ApiKey = ApiKey::{api}; type Response = super::{api}Response; }}",
            api = api.name
        ),
        (Kind::Response, Some(api)) => {
            format!(
                "impl Response for {name} {{ const KEY: ApiKey = ApiKey::{}; }}",
                api.name
            )
        }
        (Kind::Key(number), _) => {
            format!("impl RecordKey for {name} {{ const TYPE: i16 = {number}; }}")
        }
        _ => String::new(),
    };
    let _ = writeln!(out, "{line}");
}

fn definition(out: &mut String, message: &Message, item: &Struct) {
    let part = if item.name == message.name {
        String::new()
    } else {
        format!(" of `{}`", message.name)
    };
    let _ = writeln!(
        out,
        "/// `{}`{part}.\n#[derive(Debug, Clone, PartialEq)]\npub struct {} {{",
        item.name, item.name
    );
    for field in &item.fields {
        let ty = rust_type(message, &field.ty);
        let ty = if field.nullable.is_some() {
            format!("Option<{ty}>")
        } else {
            ty
        };
        let mut doc = format!("Versions {}", said(field.versions, message.versions));
        if let Some(range) = field.nullable {
            let _ = write!(doc, ", nullable in {}", said(range, message.versions));
        }
        if let Some(tag) = field.tag {
            let _ = write!(doc, ", tag {tag}");
        }
        if field.ignorable {
            doc.push_str(", ignorable");
        }
        if let Some(default) = &field.default {
            let _ = write!(doc, ", default {default}");
        }
        let _ = writeln!(out, "/// {doc}.\npub {}: {ty},", field.ident());
    }
    if message.flexible.is_some() {
        let _ = writeln!(
            out,
            "/// Tagged fields that this table does not know, kept as they came.\npub unknown_tagged_fields: TaggedFields,"
        );
    }
    let _ = writeln!(
        out,
        "}}\nimpl Default for {} {{ fn default() -> Self {{ Self {{",
        item.name
    );
    for field in &item.fields {
        let _ = write!(out, "{}: {}, ", field.ident(), default_value(field));
    }
    if message.flexible.is_some() {
        out.push_str("unknown_tagged_fields: TaggedFields::default(), ");
    }
    out.push_str("} } }\n");
}

fn api_keys(out: &mut String, tables: &[Table]) {
    let apis: Vec<_> = tables
        .iter()
        .filter_map(|t| Some((t.api.as_ref()?, &t.messages[0])))
        .collect();
    out.push_str("/// The APIs that this codec knows, by Kafka's names and numbers.\n");
    out.push_str("#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ApiKey {\n");
    for (api, _) in &apis {
        let _ = writeln!(
            out,
            "/// {name}, key {key}.\n{name} = {key},",
            name = api.name,
            key = api.key
        );
    }
    out.push_str(
        "}\nimpl ApiKey {\n/// Every API, by number.\npub const ALL: &'static [Self] = &[",
    );
    for (api, _) in &apis {
        let _ = write!(out, "Self::{}, ", api.name);
    }
    out.push_str("];\n\n/// The API of a number on the wire, if the codec knows it.\n#[must_use]\npub const fn from_i16(key: i16) -> Option<Self> { match key {\n");
    for (api, _) in &apis {
        let _ = writeln!(out, "{} => Some(Self::{}),", api.key, api.name);
    }
    out.push_str("_ => None } }\n\n/// Kafka's name of the API.\n#[must_use]\npub const fn name(self) -> &'static str { match self {\n");
    for (api, _) in &apis {
        let _ = writeln!(out, "Self::{name} => {name:?},", name = api.name);
    }
    out.push_str("} }\n\n/// The versions that the codec reads and writes; what a broker serves may be fewer.\n#[must_use]\npub const fn valid_versions(self) -> RangeInclusive<i16> { match self {\n");
    for (api, request) in &apis {
        let _ = writeln!(
            out,
            "Self::{} => {}..={},",
            api.name, request.versions.lo, request.versions.hi
        );
    }
    out.push_str("} }\n\n/// The first version with compact types and tagged fields.\n#[must_use]\npub const fn flexible_since(self) -> Option<i16> { match self {\n");
    for (api, request) in &apis {
        let _ = writeln!(out, "Self::{} => {:?},", api.name, request.flexible);
    }
    out.push_str("} }\n}\n\n");
    out.push_str("/// Calls the macro `$then` once with `Name, request_module, response_module;` of every API: for tables over all of them.\n#[macro_export]\nmacro_rules! for_each_api { ($then:ident) => { $then! {\n");
    for (api, _) in &apis {
        let module = snake(&api.name);
        let _ = writeln!(
            out,
            "{name}, {name}Request, {name}Response, {module}_request, {module}_response;",
            name = api.name
        );
    }
    out.push_str("} } }\n");
    records_macro(out, tables);
}

fn records_macro(out: &mut String, tables: &[Table]) {
    out.push_str("/// Calls the macro `$then` once with `Name, module;` of every message that is not a request or a response.\n#[macro_export]\nmacro_rules! for_each_record { ($then:ident) => { $then! {\n");
    for message in tables
        .iter()
        .filter(|t| t.api.is_none())
        .flat_map(|t| &t.messages)
    {
        let _ = writeln!(out, "{}, {};", message.name, snake(&message.name));
    }
    out.push_str("} } }\n");
}
