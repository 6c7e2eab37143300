//! Where is a container path on this machine, and how do args and env values get to say so?
//!
//! There is no container filesystem. A path below a mount is replaced by its host path wherever it stands as a path in
//! an argument or an environment value; files that hold container paths are mapped by the program itself, through
//! `TIDEMARK_MOUNTS=/container=/host:...`.

use std::path::PathBuf;

/// One volume mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `mountPath`, without a trailing slash.
    pub(crate) inside: String,
    pub(crate) outside: PathBuf,
}

/// The mounts of a container, the longest container path first, so that a mount inside a mount wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    pub(crate) fn new(mut mounts: Vec<Mount>) -> Self {
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.inside.len()));
        Self(mounts)
    }

    /// The value of `TIDEMARK_MOUNTS`.
    pub(crate) fn variable(&self) -> String {
        let pairs = self
            .0
            .iter()
            .map(|m| format!("{}={}", m.inside, m.outside.display()));
        pairs.collect::<Vec<_>>().join(":")
    }

    /// `text` with every container path replaced.
    pub(crate) fn rewrite(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while let Some(first) = rest.chars().next() {
            let hit = starts_path(before)
                .then(|| self.0.iter().find(|m| mount_at(rest, &m.inside)))
                .flatten();
            match hit {
                Some(mount) => {
                    out.push_str(&mount.outside.to_string_lossy());
                    before = mount.inside.chars().last();
                    rest = &rest[mount.inside.len()..];
                }
                None => {
                    out.push(first);
                    before = Some(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        out
    }
}

/// A path begins at the start or after a separator, never in the middle of another path.
fn starts_path(before: Option<char>) -> bool {
    before.is_none_or(|c| {
        matches!(
            c,
            '=' | ':' | ',' | ';' | ' ' | '"' | '\'' | '(' | '\n' | '\t'
        )
    })
}

/// Whether `text` begins with `inside` as whole path segments.
fn mount_at(text: &str, inside: &str) -> bool {
    let Some(after) = text.strip_prefix(inside) else {
        return false;
    };
    after
        .chars()
        .next()
        .is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_container_paths_are_replaced_and_the_deepest_mount_wins() {
        let mount = |inside: &str, outside: &str| Mount {
            inside: inside.into(),
            outside: outside.into(),
        };
        let mounts = Mounts::new(vec![
            mount("/var/lib/tidemark", "/data/v"),
            mount("/var/lib/tidemark/secrets", "/data/s"),
            mount("/etc/tidemark", "/data/c"),
        ]);
        for (text, want) in [
            ("/etc/tidemark/broker.yaml", "/data/c/broker.yaml"),
            (
                "--config=/etc/tidemark/broker.yaml",
                "--config=/data/c/broker.yaml",
            ),
            ("/var/lib/tidemark", "/data/v"),
            ("/var/lib/tidemark/secrets/key", "/data/s/key"),
            (
                "a:/etc/tidemark,b:/var/lib/tidemark/x",
                "a:/data/c,b:/data/v/x",
            ),
            ("/etc/tidemark-other", "/etc/tidemark-other"),
            ("/host/etc/tidemark", "/host/etc/tidemark"),
            ("grüße /etc/tidemark", "grüße /data/c"),
        ] {
            assert_eq!(mounts.rewrite(text), want, "{text}");
        }
    }
}
