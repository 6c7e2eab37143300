//! Which Rust code reads and writes a struct at a version?

use std::fmt::Write as _;

use crate::emit::default_value;
use crate::model::{Field, Kind, Message, Range, Struct, Type};

/// `impl WireStruct for S`: its minimal size, `read` and `write`.
pub(crate) fn wire_struct(out: &mut String, message: &Message, item: &Struct) {
    let min = message.min_size(&Type::Struct(item.name.clone()));
    let _ = writeln!(
        out,
        "impl WireStruct for {} {{ const MIN_SIZE: usize = {min};",
        item.name
    );
    read(out, message, item);
    write(out, message, item);
    out.push_str("}\n");
}

/// Whether a struct has tags: always, never, or from a version on (then the code asks `flex`).
fn flex_expression(message: &Message, item: &Struct) -> &'static str {
    match message.flexible {
        None => "false",
        Some(since) if since <= item.versions.lo => "true",
        Some(since) if since > item.versions.hi => "false",
        Some(_) => "flex",
    }
}

fn let_flex(out: &mut String, message: &Message, item: &Struct) {
    if flex_expression(message, item) == "flex" {
        let _ = writeln!(
            out,
            "let flex = version >= {};",
            message.flexible.unwrap_or(0)
        );
    }
}

/// `version` conditions of "may be null here", within the versions of the field.
fn null_allowed(range: Option<Range>, field: &Field) -> String {
    match range {
        None => "false".to_owned(),
        Some(range) => range
            .condition(field.versions)
            .unwrap_or_else(|| "true".to_owned()),
    }
}

fn read(out: &mut String, message: &Message, item: &Struct) {
    out.push_str("fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {\nlet _ = version;\nlet mut m = Self::default();\n");
    let_flex(out, message, item);
    let flex = flex_expression(message, item);
    for field in item.fields.iter().filter(|f| f.tag.is_none()) {
        let statement = read_field(message, field, flex);
        match field.versions.condition(item.versions) {
            Some(condition) => {
                let _ = writeln!(out, "if {condition} {{ {statement} }}");
            }
            None => {
                let _ = writeln!(out, "{statement}");
            }
        }
    }
    if flex != "false" {
        let _ = writeln!(
            out,
            "if {flex} {{ for _ in 0..r.tag_count()? {{ let (tag, end) = r.tag_start()?; match tag {{"
        );
        for field in item.fields.iter() {
            let Some(tag) = field.tag else { continue };
            let guard = field
                .versions
                .condition(item.versions)
                .map_or_else(String::new, |c| format!("if {c} "));
            let _ = writeln!(
                out,
                "{tag} {guard}=> {{ {} r.tag_end(end)?; }}",
                read_field(message, field, "true")
            );
        }
        out.push_str("_ => r.unknown_tag(tag, end, &mut m.unknown_tagged_fields)?,\n} } m.unknown_tagged_fields.sort(); }\n");
    }
    out.push_str("Ok(m) }\n");
}

fn read_field(message: &Message, field: &Field, flex: &str) -> String {
    let flex = if field.inflexible { "false" } else { flex };
    let nullable = field.nullable.map(|_| null_allowed(field.nullable, field));
    let value = match (&field.ty, &nullable) {
        (Type::Bool, _) => "r.bool()?".to_owned(),
        (Type::Number(name), _) => format!("r.{name}()?"),
        (Type::Uuid, _) => "r.uuid()?".to_owned(),
        (Type::String, None) => format!("r.string({flex})?"),
        (Type::String, Some(null)) => format!("r.nullable_string({flex}, {null})?"),
        (Type::Bytes, None) => format!("r.bytes({flex})?"),
        (Type::Bytes, Some(null)) => format!("r.nullable_bytes({flex}, {null})?"),
        (Type::Records, _) => {
            let null = nullable.unwrap_or_else(|| "false".to_owned());
            let value = format!("r.nullable_records({flex}, {null})?");
            if message.kind == Kind::Response {
                format!("{value}.map(Records::from)")
            } else {
                value
            }
        }
        (Type::Struct(_), None) => "r.nested(version)?".to_owned(),
        (Type::Struct(_), Some(null)) => format!("r.nullable_nested(version, {null})?"),
        (Type::Array(item), None) => read_array(message, item, flex, "false", "array"),
        (Type::Array(item), Some(null)) => read_array(message, item, flex, null, "nullable_array"),
    };
    format!("r.field({:?}); m.{} = {value};", field.name, field.ident())
}

fn read_array(message: &Message, item: &Type, flex: &str, null: &str, how: &str) -> String {
    let null = if how == "array" {
        String::new()
    } else {
        format!(", {null}")
    };
    match item {
        Type::Struct(name) => {
            let how = how.replace("array", "structs");
            format!("r.{how}::<{name}>({flex}{null}, version)?")
        }
        Type::String => format!(
            "r.{how}({flex}{null}, {}, |r| r.string({flex}))?",
            message.min_size(item)
        ),
        Type::Bytes => format!(
            "r.{how}({flex}{null}, {}, |r| r.bytes({flex}))?",
            message.min_size(item)
        ),
        Type::Uuid => format!("r.{how}({flex}{null}, 16, Reader::uuid)?"),
        Type::Bool => format!("r.{how}({flex}{null}, 1, Reader::bool)?"),
        Type::Number(number) => format!(
            "r.{how}({flex}{null}, {}, Reader::{number})?",
            message.min_size(item)
        ),
        // the table language has no arrays of these
        Type::Records | Type::Array(_) => "compile_error!(\"no such array\")".to_owned(),
    }
}

fn write(out: &mut String, message: &Message, item: &Struct) {
    out.push_str("fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {\nlet _ = version;\n");
    let_flex(out, message, item);
    let flex = flex_expression(message, item);
    for field in item.fields.iter().filter(|f| f.tag.is_none()) {
        let statement = write_field(item, field, flex);
        let Some(condition) = field.versions.condition(item.versions) else {
            let _ = writeln!(out, "{statement}");
            continue;
        };
        let _ = write!(out, "if {condition} {{ {statement} }}");
        if field.ignorable {
            out.push('\n');
        } else {
            let _ = writeln!(
                out,
                " else if {} {{ return Err(EncodeError::not_in_version({:?}, version)); }}",
                is_set(field),
                place(item, field)
            );
        }
    }
    if flex == "flex" {
        for field in item
            .fields
            .iter()
            .filter(|f| f.tag.is_some() && !f.ignorable)
        {
            let present = field
                .versions
                .condition(item.versions)
                .map_or_else(|| "true".to_owned(), |c| format!("({c})"));
            let _ = writeln!(
                out,
                "if !{present} && {} {{ return Err(EncodeError::not_in_version({:?}, version)); }}",
                is_set(field),
                place(item, field)
            );
        }
    }
    if flex != "false" {
        let _ = writeln!(out, "if {flex} {{");
        write_tags(out, item);
        out.push_str("}\n");
    }
    out.push_str("Ok(()) }\n");
}

fn write_tags(out: &mut String, item: &Struct) {
    let mut tagged: Vec<(u32, &Field)> = item
        .fields
        .iter()
        .filter_map(|f| Some((f.tag?, f)))
        .collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    if tagged.is_empty() {
        out.push_str("w.unknown_tags(&self.unknown_tagged_fields);\n");
        return;
    }
    for (tag, field) in &tagged {
        let condition = field
            .versions
            .condition(item.versions)
            .map_or_else(String::new, |c| format!("{c} && "));
        let _ = writeln!(out, "let has_{tag} = {condition}{};", is_set(field));
    }
    let count: Vec<String> = tagged
        .iter()
        .map(|(tag, _)| format!("usize::from(has_{tag})"))
        .collect();
    let _ = writeln!(
        out,
        "w.tag_count({}, &self.unknown_tagged_fields);",
        count.join(" + ")
    );
    out.push_str("let mut unknown = self.unknown_tagged_fields.iter().peekable();\n");
    for (tag, field) in &tagged {
        let statement = write_field(item, field, "true");
        let _ = writeln!(
            out,
            "if has_{tag} {{ w.unknown_tags_below(&mut unknown, {tag}); w.tagged({tag}, |w| {{ {statement} Ok(()) }})?; }}"
        );
    }
    out.push_str("w.unknown_tags_below(&mut unknown, u32::MAX);\n");
}

fn place(item: &Struct, field: &Field) -> String {
    format!("{}.{}", item.name, field.name)
}

/// The Rust condition for "this field does not have its default", which makes it worth (or in need of) a place on the wire.
fn is_set(field: &Field) -> String {
    let name = field.ident();
    match (&field.ty, field.nullable) {
        (_, Some(_)) if field.default_is_null() => format!("self.{name}.is_some()"),
        (Type::String | Type::Bytes | Type::Records | Type::Array(_), Some(_)) => {
            format!("self.{name}.as_ref().is_some_and(|v| !v.is_empty())")
        }
        (Type::String | Type::Bytes | Type::Array(_), None) if field.default.is_none() => {
            format!("!self.{name}.is_empty()")
        }
        (Type::Bool, None) if field.default.as_deref() == Some("true") => format!("!self.{name}"),
        (Type::Bool, None) => format!("self.{name}"),
        (Type::Uuid, None) => format!("!self.{name}.is_zero()"),
        (Type::Struct(ty), None) => format!("self.{name} != {ty}::default()"),
        _ => format!("self.{name} != {}", default_value(field)),
    }
}

fn write_field(item: &Struct, field: &Field, flex: &str) -> String {
    let flex = if field.inflexible { "false" } else { flex };
    let place = place(item, field);
    let name = field.ident();
    let null = null_allowed(field.nullable, field);
    match (&field.ty, field.nullable) {
        (Type::Bool | Type::Number(_) | Type::Uuid, _) => {
            write_item(&field.ty, &format!("self.{name}"), flex, &place)
        }
        (Type::Struct(_), None) => format!("self.{name}.write(w, version)?;"),
        (Type::Struct(_), Some(_)) => {
            format!(
                "w.presence({place:?}, self.{name}.is_some(), {null})?; if let Some(v) = &self.{name} {{ v.write(w, version)?; }}"
            )
        }
        (Type::String, None) => format!("w.string({place:?}, &self.{name}, {flex})?;"),
        (Type::String, Some(_)) => {
            format!("w.nullable_string({place:?}, self.{name}.as_deref(), {flex}, {null})?;")
        }
        (Type::Bytes, None) => format!("w.bytes({place:?}, &self.{name}, {flex})?;"),
        (Type::Bytes | Type::Records, Some(_)) => {
            format!("w.nullable_chunks({place:?}, self.{name}.as_ref(), {flex}, {null})?;")
        }
        (Type::Records, None) => {
            format!("w.nullable_chunks({place:?}, Some(&self.{name}), {flex}, false)?;")
        }
        (Type::Array(ty), None) => {
            format!(
                "w.array_len({place:?}, self.{name}.len(), {flex})?; for v in &self.{name} {{ {} }}",
                write_item(ty, "v", flex, &place)
            )
        }
        (Type::Array(ty), Some(_)) => format!(
            "match &self.{name} {{ Some(items) => {{ w.array_len({place:?}, items.len(), {flex})?; for v in items {{ {} }} }} None => w.null_array({place:?}, {flex}, {null})?, }}",
            write_item(ty, "v", flex, &place)
        ),
    }
}

fn write_item(ty: &Type, value: &str, flex: &str, place: &str) -> String {
    let dereferenced = if value == "v" { "*v" } else { value };
    match ty {
        Type::Bool => format!("w.bool({dereferenced});"),
        Type::Number(name) => format!("w.{name}({dereferenced});"),
        Type::Uuid => format!("w.uuid({dereferenced});"),
        Type::String => format!("w.string({place:?}, {value}, {flex})?;"),
        Type::Bytes => format!("w.bytes({place:?}, {value}, {flex})?;"),
        Type::Struct(_) => format!("{value}.write(w, version)?;"),
        Type::Records | Type::Array(_) => "compile_error!(\"no such array\");".to_owned(),
    }
}
