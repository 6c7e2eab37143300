//! How do tests make any valid value of a message at a version? (`OUT_DIR/arbitrary.rs`, included by the tests only.)

use std::fmt::Write as _;

use crate::emit::snake;
use crate::model::{Field, Kind, Message, Struct, Table, Type};

/// `impl Arbitrary for S` of every struct: fields that the version lacks keep their default, so that a value survives the round trip.
pub(crate) fn module(tables: &[Table]) -> String {
    let mut out = String::new();
    for message in tables.iter().flat_map(|t| &t.messages) {
        for item in &message.structs {
            arbitrary(&mut out, message, item);
        }
    }
    out
}

fn arbitrary(out: &mut String, message: &Message, item: &Struct) {
    let module = snake(&message.name);
    let _ = writeln!(
        out,
        "impl Arbitrary for wire::messages::{module}::{name} {{ fn arbitrary(g: &mut Gen, version: i16) -> Self {{ let mut m = Self::default(); let _ = (&mut *g, version);",
        name = item.name
    );
    for field in &item.fields {
        let value = value(message, field);
        let mut conditions: Vec<String> = field
            .versions
            .condition(item.versions)
            .into_iter()
            .collect();
        if field.tag.is_some() {
            conditions.push("g.flag()".to_owned());
        }
        let guard = if conditions.is_empty() {
            "true".to_owned()
        } else {
            conditions.join(" && ")
        };
        let _ = writeln!(out, "if {guard} {{ m.{} = {value}; }}", field.ident());
    }
    if let Some(flexible) = message.flexible {
        let _ = writeln!(
            out,
            "if version >= {flexible} {{ m.unknown_tagged_fields = g.unknown_tags(); }}"
        );
    }
    out.push_str("m } }\n");
}

fn value(message: &Message, field: &Field) -> String {
    let plain = match &field.ty {
        Type::Records if message.kind == Kind::Response => {
            "wire::Records::from(g.bytes())".to_owned()
        }
        ty => item(ty),
    };
    match field.nullable {
        None => plain,
        Some(range) => {
            let null = range
                .condition(field.versions)
                .unwrap_or_else(|| "true".to_owned());
            format!("if ({null}) && g.flag() {{ None }} else {{ Some({plain}) }}")
        }
    }
}

fn item(ty: &Type) -> String {
    match ty {
        Type::Bool => "g.flag()".to_owned(),
        Type::Number(name) => format!("g.{name}()"),
        Type::Uuid => "g.uuid()".to_owned(),
        Type::String => "g.string()".to_owned(),
        Type::Bytes | Type::Records => "g.bytes()".to_owned(),
        Type::Struct(_) => "Arbitrary::arbitrary(g, version)".to_owned(),
        Type::Array(inner) => format!("g.items(|g| {})", item(inner)),
    }
}
