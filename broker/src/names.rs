//! Which addresses does a host name have? (A hosts file named by `TIDEMARK_HOSTS` goes before the system's resolver.)

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The environment variable that names a hosts file.
pub const HOSTS_VARIABLE: &str = "TIDEMARK_HOSTS";

/// Finds the addresses of hosts. The hosts file is read again on every lookup: names move while processes live.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    hosts: Option<PathBuf>,
}

impl Resolver {
    /// A resolver that looks into the file that `TIDEMARK_HOSTS` names, when it is set.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            hosts: std::env::var_os(HOSTS_VARIABLE).map(PathBuf::from),
        }
    }

    /// A resolver that looks into `hosts` first.
    #[must_use]
    pub fn with_hosts_file(hosts: PathBuf) -> Self {
        Self { hosts: Some(hosts) }
    }

    /// The addresses of `host`, at least one.
    ///
    /// # Errors
    /// When the name is unknown, or the hosts file exists but cannot be read.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if let Some(path) = &self.hosts {
            match tokio::fs::read_to_string(path).await {
                Ok(text) => {
                    let found = lookup(&text, host);
                    if !found.is_empty() {
                        return moved(host, &found, port);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let text = format!("failed to read the hosts file {}: {error}", path.display());
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
        let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
        if found.is_empty() {
            let text = format!("the host name {host:?} has no address");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(found)
    }
}

/// The addresses with their offsets added to `port`.
fn moved(host: &str, found: &[(IpAddr, u16)], port: u16) -> io::Result<Vec<SocketAddr>> {
    let place = |(address, offset): &(IpAddr, u16)| {
        let port = port.checked_add(*offset).ok_or_else(|| {
            let text =
                format!("port {port} of {host:?} moved by {offset} is past the last port, 65535");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        Ok(SocketAddr::new(*address, port))
    };
    found.iter().map(place).collect()
}

/// Lines are `ADDRESS NAME [NAME ...]`, `#` starts a comment, names compare without case. `ADDRESS+N` says that every
/// port of the host is found `N` higher, as its own `TIDEMARK_PORT_OFFSET` has it.
fn lookup(text: &str, host: &str) -> Vec<(IpAddr, u16)> {
    let host = host.trim_end_matches('.');
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let (address, offset) = place(words.next()?)?;
            words
                .any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host))
                .then_some((address, offset))
        })
        .collect()
}

/// `ADDRESS` or `ADDRESS+N`.
fn place(word: &str) -> Option<(IpAddr, u16)> {
    match word.split_once('+') {
        Some((address, offset)) => Some((address.parse().ok()?, offset.parse().ok()?)),
        None => Some((word.parse().ok()?, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_on_one_address_are_told_apart_by_their_port_offsets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let lines = "127.0.0.1 a\n127.0.0.1+1000 b\n127.0.0.1+x c\n127.0.0.1+60000 d\n";
        std::fs::write(&path, lines).unwrap();
        let resolver = Resolver::with_hosts_file(path);
        for (host, address) in [("a", "127.0.0.1:9090"), ("b", "127.0.0.1:10090")] {
            let found = resolver.resolve(host, 9090).await.unwrap();
            assert_eq!(found, [address.parse().unwrap()], "{host}");
        }
        let error = resolver.resolve("d", 9090).await.unwrap_err();
        assert!(error.to_string().contains("past the last port"), "{error}");
    }

    #[tokio::test]
    async fn the_hosts_file_goes_first_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let resolver = Resolver::with_hosts_file(path.clone());
        let name = "shop-main-0.shop-brokers.default.svc";
        for address in ["127.0.10.1", "127.0.10.9"] {
            std::fs::write(
                &path,
                format!("# pods\n127.0.9.9 other\n{address} alias {name} # moved\n"),
            )
            .unwrap();
            let found = resolver.resolve(&name.to_uppercase(), 9090).await.unwrap();
            assert_eq!(found, [format!("{address}:9090").parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn an_address_needs_no_lookup() {
        let found = Resolver::default().resolve("127.0.0.7", 1).await.unwrap();
        assert_eq!(found, ["127.0.0.7:1".parse().unwrap()]);
    }

    #[tokio::test]
    async fn an_unknown_name_is_an_error() {
        let resolver = Resolver::with_hosts_file("does-not-exist".into());
        assert!(resolver.resolve("no-such-host.invalid", 1).await.is_err());
    }
}
