//! How is the text of a message table read?

use crate::model::{Api, Field, Kind, Message, Range, Struct, Table, Type};

/// One line of a table, without its indentation.
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

/// Reads one table; an error starts with the line number.
pub(crate) fn table(text: &str) -> Result<Table, String> {
    let lines: Vec<Line<'_>> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|(i, line)| Line {
            number: i + 1,
            indent: line.len() - line.trim_start().len(),
            text: line.trim(),
        })
        .collect();
    let mut table = Table {
        api: None,
        messages: Vec::new(),
    };
    let mut rest = lines.as_slice();
    while let Some((line, after)) = rest.split_first() {
        rest = after;
        let parsed = top_level(line, &mut table, &mut rest);
        parsed.map_err(|e| format!("{}: {e}", line.number))?;
    }
    Ok(table)
}

fn top_level(line: &Line<'_>, table: &mut Table, rest: &mut &[Line<'_>]) -> Result<(), String> {
    if line.indent != 0 {
        return Err("indented line outside a message".to_owned());
    }
    let mut words: Vec<&str> = line.text.split_whitespace().collect();
    let kind = match words.remove(0) {
        "api" => {
            let [key, name] = words[..] else {
                return Err("want `api KEY NAME`".to_owned());
            };
            table.api = Some(Api {
                key: number(key)?,
                name: name.to_owned(),
            });
            return Ok(());
        }
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "data" | "value" => Kind::Data,
        "key" => Kind::Key(number(words.remove(0))?),
        other => return Err(format!("unknown word {other:?}")),
    };
    let (name, versions, flexible) = match words[..] {
        [name, versions] => (name, versions, None),
        [name, versions, "flexible", flexible] => (name, versions, Some(range(flexible)?.lo)),
        _ => return Err("want `KIND NAME VERSIONS [flexible VERSIONS]`".to_owned()),
    };
    let versions = range(versions)?;
    let mut message = Message {
        kind,
        name: name.to_owned(),
        versions,
        flexible,
        structs: Vec::new(),
    };
    structs(&mut message, rest)?;
    table.messages.push(message);
    Ok(())
}

/// Reads the indented block below a message line: its fields and the structs declared among them.
fn structs(message: &mut Message, rest: &mut &[Line<'_>]) -> Result<(), String> {
    let root = Struct {
        name: message.name.clone(),
        versions: message.versions,
        fields: Vec::new(),
    };
    message.structs.push(root);
    // (indentation of the fields, index of the struct they belong to)
    let mut open = vec![(2_usize, 0_usize)];
    while let Some((line, after)) = rest.split_first().filter(|(line, _)| line.indent > 0) {
        *rest = after;
        let place = |e: String| format!("(line {}) {e}", line.number);
        while open.len() > 1 && open.last().is_some_and(|(indent, _)| *indent > line.indent) {
            open.pop();
        }
        let (indent, owner) = open
            .last()
            .copied()
            .ok_or_else(|| place("no open struct".to_owned()))?;
        if indent != line.indent {
            return Err(place(format!("indented by {}, want {indent}", line.indent)));
        }
        let parent = message.structs[owner].versions;
        let opened = if let Some(declared) = line.text.strip_prefix("struct ") {
            let (name, versions) = declared.split_once(' ').unwrap_or((declared, "0+"));
            Some((
                name.to_owned(),
                range(versions).map_err(place)?.intersect(parent),
            ))
        } else {
            let field = field(line.text, parent).map_err(place)?;
            let versions = field.versions;
            let struct_name = field.ty.struct_name().map(str::to_owned);
            message.structs[owner].fields.push(field);
            let has_fields = after.first().is_some_and(|next| next.indent > line.indent);
            struct_name
                .filter(|_| has_fields)
                .map(|name| (name, versions))
        };
        if let Some((name, versions)) = opened {
            if message.find(&name).is_some() {
                return Err(place(format!("struct {name} is declared twice")));
            }
            open.push((line.indent + 2, message.structs.len()));
            message.structs.push(Struct {
                name,
                versions,
                fields: Vec::new(),
            });
        }
    }
    Ok(())
}

/// `name: type[?[versions]] [versions] [tag N] [ignorable] [inflexible] [= default]`
fn field(text: &str, parent: Range) -> Result<Field, String> {
    let (declaration, default) = match text.split_once(" = ") {
        Some((declaration, default)) => (declaration, Some(default.to_owned())),
        None => (text, None),
    };
    let (name, declaration) = declaration
        .split_once(": ")
        .ok_or("want `name: type ...`")?;
    let mut words = declaration.split_whitespace();
    let ty = words.next().ok_or("no type")?;
    let (ty, nullable) = match ty.split_once('?') {
        Some((ty, versions)) => (ty, Some(versions)),
        None => (ty, None),
    };
    let mut field = Field {
        name: name.to_owned(),
        ty: type_of(ty),
        versions: parent,
        nullable: None,
        tag: None,
        ignorable: false,
        inflexible: false,
        default,
    };
    while let Some(word) = words.next() {
        match word {
            "tag" => field.tag = Some(number(words.next().ok_or("tag of which number?")?)?),
            "ignorable" => field.ignorable = true,
            "inflexible" => field.inflexible = true,
            versions => field.versions = range(versions)?.intersect(parent),
        }
    }
    if let Some(versions) = nullable {
        let versions = if versions.is_empty() {
            field.versions
        } else {
            range(versions)?
        };
        field.nullable = Some(versions.intersect(field.versions));
    }
    Ok(field)
}

fn type_of(text: &str) -> Type {
    match text {
        "bool" => Type::Bool,
        "int8" => Type::Number("i8"),
        "int16" => Type::Number("i16"),
        "uint16" => Type::Number("u16"),
        "int32" => Type::Number("i32"),
        "int64" => Type::Number("i64"),
        "float64" => Type::Number("f64"),
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        other => match other.strip_prefix("[]") {
            Some(item) => Type::Array(Box::new(type_of(item))),
            None => Type::Struct(other.to_owned()),
        },
    }
}

fn range(text: &str) -> Result<Range, String> {
    if let Some(lo) = text.strip_suffix('+') {
        return Ok(Range {
            lo: number(lo)?,
            hi: i16::MAX,
        });
    }
    let (lo, hi) = text.split_once('-').unwrap_or((text, text));
    Ok(Range {
        lo: number(lo)?,
        hi: number(hi)?,
    })
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| format!("want a number, a version or a range of versions, not {text:?}"))
}
