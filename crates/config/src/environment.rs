//! Which environment variables does a broker understand?
//!
//! They are general: whoever starts brokers on one machine (each on its own loopback address, with its own name
//! table) can use them. The broker knows nothing of who that is.

use std::path::{Path, PathBuf};

/// What the environment says to a broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// `TIDEMARK_BIND_HOST`: overrides `bindHost`.
    pub bind_host: Option<String>,
    /// `TIDEMARK_ADVERTISED_HOST`: overrides this node's `host` in what clients are told.
    pub advertised_host: Option<String>,
    /// `TIDEMARK_HOSTS`: a hosts file looked at before the system's resolver, read again on each lookup. An address written
    /// `127.0.0.1+1000` belongs to a host whose ports are all 1000 higher.
    pub hosts: Option<PathBuf>,
    /// `TIDEMARK_MOUNTS`: `from=to:from=to`, path prefixes of `dataDir` and their replacements.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// `TIDEMARK_PARENT_FD`: a file descriptor whose end of file means controlled shutdown at once.
    pub parent_fd: Option<i32>,
    /// `TIDEMARK_PORT_OFFSET`: added to every port that this process listens on; clients are told the moved port.
    pub port_offset: u16,
}

/// A variable with a value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the environment variable {name}={value:?}: want {want}")]
pub struct EnvironmentError {
    name: &'static str,
    value: String,
    want: &'static str,
}

impl Environment {
    /// Reads the variables that `get` gives.
    ///
    /// # Errors
    /// [`EnvironmentError`] for a value that cannot be read.
    pub fn read(get: impl Fn(&'static str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let mut mounts = Vec::new();
        if let Some(value) = get("TIDEMARK_MOUNTS") {
            for mount in value.split(':').filter(|mount| !mount.is_empty()) {
                let Some((from, to)) = mount.split_once('=') else {
                    return Err(EnvironmentError {
                        name: "TIDEMARK_MOUNTS",
                        value,
                        want: "from=to, more of them separated by colons",
                    });
                };
                mounts.push((PathBuf::from(from), PathBuf::from(to)));
            }
        }
        Ok(Self {
            bind_host: get("TIDEMARK_BIND_HOST").filter(|host| !host.is_empty()),
            advertised_host: get("TIDEMARK_ADVERTISED_HOST").filter(|host| !host.is_empty()),
            hosts: get("TIDEMARK_HOSTS").map(PathBuf::from),
            mounts,
            parent_fd: number(&get, "TIDEMARK_PARENT_FD", "a file descriptor's number")?,
            port_offset: number(&get, "TIDEMARK_PORT_OFFSET", "a number up to 65535")?
                .unwrap_or_default(),
        })
    }

    /// Where `path` really is: the longest matching prefix replaced.
    #[must_use]
    pub fn mounted(&self, path: &Path) -> PathBuf {
        self.mounts
            .iter()
            .filter_map(|(from, to)| Some((from, to, path.strip_prefix(from).ok()?)))
            .max_by_key(|(from, ..)| from.components().count())
            .map_or_else(
                || path.to_path_buf(),
                // Joining an empty rest would add a slash at the end.
                |(_, to, rest)| {
                    if rest.as_os_str().is_empty() {
                        to.clone()
                    } else {
                        to.join(rest)
                    }
                },
            )
    }
}

fn number<T: std::str::FromStr>(
    get: &impl Fn(&'static str) -> Option<String>,
    name: &'static str,
    want: &'static str,
) -> Result<Option<T>, EnvironmentError> {
    get(name)
        .map(|value| {
            value
                .parse()
                .map_err(|_| EnvironmentError { name, value, want })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_wins_and_other_paths_stay() {
        let environment = Environment::read(|name| {
            (name == "TIDEMARK_MOUNTS").then(|| "/var/lib=/a:/var/lib/tidemark=/b".to_owned())
        })
        .expect("valid");
        for (path, real) in [
            ("/var/lib/tidemark", "/b"),
            ("/var/lib/tidemark/logs", "/b/logs"),
            ("/var/lib/tidemark2", "/a/tidemark2"),
            ("/srv", "/srv"),
        ] {
            assert_eq!(environment.mounted(Path::new(path)), Path::new(real));
        }
    }

    #[test]
    fn a_bad_number_is_refused_with_the_variable() {
        let error =
            Environment::read(|name| (name == "TIDEMARK_PARENT_FD").then(|| "x".to_owned()))
                .expect_err("not a number");
        assert!(error.to_string().contains("TIDEMARK_PARENT_FD"), "{error}");
    }
}
