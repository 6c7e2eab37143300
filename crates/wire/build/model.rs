//! What does a message table say, as data?

/// Inclusive range of versions; `hi == i16::MAX` stands for "and later".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) lo: i16,
    pub(crate) hi: i16,
}

impl Range {
    pub(crate) fn contains(self, version: i16) -> bool {
        (self.lo..=self.hi).contains(&version)
    }

    pub(crate) fn intersect(self, other: Self) -> Self {
        Self {
            lo: self.lo.max(other.lo),
            hi: self.hi.min(other.hi),
        }
    }

    /// The Rust condition for "`version` is in here", given that it is within `parent`; `None` when it always holds.
    pub(crate) fn condition(self, parent: Self) -> Option<String> {
        let lo = (self.lo > parent.lo).then(|| format!("version >= {}", self.lo));
        let hi = (self.hi < parent.hi).then(|| format!("version <= {}", self.hi));
        match (lo, hi) {
            (Some(lo), Some(hi)) => Some(format!("{lo} && {hi}")),
            (lo, hi) => lo.or(hi),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    Bool,
    /// A number of fixed width, by its Rust name.
    Number(&'static str),
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Self>),
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ty: Type,
    /// Versions of the message that have the field.
    pub(crate) versions: Range,
    /// Versions in which it may be null.
    pub(crate) nullable: Option<Range>,
    pub(crate) tag: Option<u32>,
    /// Dropped silently, instead of refused, when a version has no room for it.
    pub(crate) ignorable: bool,
    /// Written in the old encoding even in flexible versions (the header's client id).
    pub(crate) inflexible: bool,
    /// The default if it is not the type's zero, as the table writes it.
    pub(crate) default: Option<String>,
}

impl Field {
    /// The field's name as a Rust identifier.
    pub(crate) fn ident(&self) -> String {
        match self.name.as_str() {
            "match" | "type" => format!("{}_", self.name),
            name => name.to_owned(),
        }
    }

    pub(crate) fn default_is_null(&self) -> bool {
        self.default.as_deref() == Some("null")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) versions: Range,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    /// A versioned value inside another field or a record's value.
    Data,
    /// A record's key, with the number that says which kind of key it is.
    Key(i16),
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) versions: Range,
    pub(crate) flexible: Option<i16>,
    /// The message itself first, then the structs it uses.
    pub(crate) structs: Vec<Struct>,
}

#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) api: Option<Api>,
    pub(crate) messages: Vec<Message>,
}

impl Table {
    /// What the parser cannot see line by line: that struct names resolve, tags need flexible versions, and an api has both halves.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.api.is_some() {
            let kinds: Vec<Kind> = self.messages.iter().map(|m| m.kind).collect();
            if kinds != [Kind::Request, Kind::Response] {
                return Err("an api has one request and then one response".to_owned());
            }
        }
        for message in &self.messages {
            for field in message.structs.iter().flat_map(|s| &s.fields) {
                let place = format!("{}.{}", message.name, field.name);
                if let Some(name) = field.ty.struct_name()
                    && message.find(name).is_none()
                {
                    return Err(format!("{place}: no struct {name}"));
                }
                let flexible = message.flexible.unwrap_or(i16::MAX);
                if field.tag.is_some() && field.versions.lo < flexible {
                    return Err(format!("{place}: tagged in versions that are not flexible"));
                }
                if field.default_is_null() && field.nullable.is_none() {
                    return Err(format!("{place}: default null but never nullable"));
                }
                if let Type::Array(item) = &field.ty
                    && message.min_size(item) == 0
                {
                    return Err(format!(
                        "{place}: elements may take no bytes, so their count cannot be bounded"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Type {
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(item) => item.struct_name(),
            _ => None,
        }
    }
}

impl Message {
    pub(crate) fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }

    /// The fewest bytes that a value of this type takes in any version: what bounds an array's count.
    pub(crate) fn min_size(&self, ty: &Type) -> usize {
        let versions = self.versions.lo..=self.versions.hi;
        match ty {
            Type::Struct(name) => {
                let Some(item) = self.find(name) else {
                    return 0;
                };
                versions
                    .filter(|v| item.versions.contains(*v))
                    .map(|v| self.min_struct_size(item, v))
                    .min()
                    .unwrap_or(0)
            }
            _ => versions.map(|v| self.min_size_in(ty, v)).min().unwrap_or(0),
        }
    }

    fn min_struct_size(&self, item: &Struct, version: i16) -> usize {
        let tags = usize::from(self.flexible.is_some_and(|f| version >= f));
        let fields = item
            .fields
            .iter()
            .filter(|f| f.tag.is_none() && f.versions.contains(version))
            .map(|f| match (&f.ty, f.nullable) {
                (Type::Struct(_), Some(_)) => 1,
                (ty, _) => self.min_size_in(ty, version),
            });
        tags + fields.sum::<usize>()
    }

    fn min_size_in(&self, ty: &Type, version: i16) -> usize {
        let flexible = self.flexible.is_some_and(|f| version >= f);
        match ty {
            Type::Bool => 1,
            Type::Number(name) => match *name {
                "i8" => 1,
                "i16" | "u16" => 2,
                "i32" => 4,
                _ => 8,
            },
            Type::Uuid => 16,
            _ if flexible && !matches!(ty, Type::Struct(_)) => 1,
            Type::String => 2,
            Type::Bytes | Type::Records | Type::Array(_) => 4,
            Type::Struct(name) => self
                .find(name)
                .map_or(0, |s| self.min_struct_size(s, version)),
        }
    }
}
