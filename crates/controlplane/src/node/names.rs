//! Which addresses does a cluster name such as `shop-main-0.shop-brokers.default.svc` stand for?
//!
//! The same table is given to children as a hosts file per namespace (rewritten whole, by rename) and to the operator
//! as a [`Resolver`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use parking_lot::RwLock;

use super::addresses::replace_file;

type Table = BTreeMap<String, Vec<Place>>;

/// Where a pod is: its address, and how much higher its ports are than its spec says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) port_offset: u16,
}

impl std::fmt::Display for Place {
    /// As a line of the hosts file begins.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port_offset {
            0 => self.address.fmt(f),
            offset => write!(f, "{}+{offset}", self.address),
        }
    }
}

/// Resolves cluster names in this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    table: Arc<RwLock<Table>>,
}

impl Resolver {
    /// Where `port` of `host` is reached: at a literal address, or at those of a pod or service named with at least its namespace
    /// (`shop-brokers.default`, `...svc`, `...svc.cluster.local`); without one, `default` is assumed. Empty when the name
    /// is not known or has no ready endpoint.
    pub fn lookup(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        if let Ok(address) = host.parse() {
            return vec![SocketAddr::new(address, port)];
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let table = self.table.read();
        let found = table
            .get(&name)
            .or_else(|| table.get(&format!("{name}.default")));
        let places = found.into_iter().flatten();
        let moved = places.filter_map(|place| {
            let port = port.checked_add(place.port_offset)?;
            Some(SocketAddr::new(IpAddr::V4(place.address), port))
        });
        moved.collect()
    }

    /// Every known name, for `status` output and tests.
    pub fn names(&self) -> Vec<String> {
        self.table.read().keys().cloned().collect()
    }
}

/// One pod as naming sees it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) pod: Arc<Pod>,
    pub(crate) place: Place,
    pub(crate) ready: bool,
}

/// Recomputes names and writes what changed.
#[derive(Debug)]
pub(crate) struct Names {
    directory: PathBuf,
    resolver: Resolver,
    written: BTreeMap<String, String>,
}

impl Names {
    pub(crate) fn new(directory: &Path, resolver: Resolver) -> Self {
        Self {
            directory: directory.join("hosts"),
            resolver,
            written: BTreeMap::new(),
        }
    }

    /// The hosts file of the pods of a namespace.
    pub(crate) fn file(&self, namespace: &str) -> PathBuf {
        self.directory.join(namespace)
    }

    pub(crate) fn update(
        &mut self,
        services: &[Arc<Service>],
        endpoints: &[Endpoint],
    ) -> std::io::Result<()> {
        let table = qualified_names(services, endpoints);
        let mut namespaces: Vec<String> =
            endpoints.iter().filter_map(|e| e.pod.namespace()).collect();
        namespaces.sort();
        namespaces.dedup();
        for namespace in namespaces {
            let text = hosts_text(&table, &namespace);
            if self.written.get(&namespace) != Some(&text) {
                std::fs::create_dir_all(&self.directory)?;
                replace_file(&self.directory.join(&namespace), text.as_bytes())?;
                self.written.insert(namespace, text);
            }
        }
        *self.resolver.table.write() = table;
        Ok(())
    }
}

/// All forms of a name that carry a namespace.
fn forms(name: &str) -> [String; 3] {
    [
        name.to_owned(),
        format!("{name}.svc"),
        format!("{name}.svc.cluster.local"),
    ]
}

fn qualified_names(services: &[Arc<Service>], endpoints: &[Endpoint]) -> Table {
    let mut table = Table::new();
    for service in services {
        let namespace = service.namespace().unwrap_or_default();
        let spec = service.spec.clone().unwrap_or_default();
        let Some(selector) = spec.selector.filter(|s| !s.is_empty()) else {
            continue;
        };
        let not_ready_too = spec.publish_not_ready_addresses == Some(true);
        let chosen = endpoints.iter().filter(|e| {
            let labels = e.pod.labels();
            e.pod.namespace().as_deref() == Some(namespace.as_str())
                && selector
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value))
                && (e.ready || not_ready_too)
        });
        for endpoint in chosen {
            let service_name = format!("{}.{namespace}", service.name_any());
            for form in forms(&service_name) {
                table.entry(form).or_default().push(endpoint.place);
            }
            let pod = endpoint.pod.spec.as_ref();
            let subdomain = pod.and_then(|p| p.subdomain.as_deref());
            if let (Some(hostname), true) = (
                pod.and_then(|p| p.hostname.as_deref()),
                subdomain == Some(service.name_any().as_str()),
            ) {
                for form in forms(&format!("{hostname}.{service_name}")) {
                    table.entry(form).or_default().push(endpoint.place);
                }
            }
        }
    }
    table
}

/// The table in `/etc/hosts` format, with the names that need no namespace inside `namespace` itself.
fn hosts_text(table: &Table, namespace: &str) -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    let suffix = format!(".{namespace}");
    for (name, places) in table {
        for place in places {
            text.push_str(&format!("{place} {name}"));
            if let Some(short) = name.strip_suffix(&suffix) {
                text.push_str(&format!(" {short}"));
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoint(name: &str, last: u8, ready: bool) -> Endpoint {
        let pod = json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "shop"}},
            "spec": {"hostname": name, "subdomain": "brokers", "containers": []}});
        let place = Place {
            address: Ipv4Addr::new(127, 0, 10, last),
            port_offset: 1000 * (u16::from(last) - 1),
        };
        Endpoint {
            pod: Arc::new(serde_json::from_value(pod).unwrap()),
            place,
            ready,
        }
    }

    fn service(name: &str, not_ready_too: bool) -> Arc<Service> {
        let service = json!({"metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": "shop"}, "publishNotReadyAddresses": not_ready_too}});
        Arc::new(serde_json::from_value(service).unwrap())
    }

    #[test]
    fn headless_names_are_there_before_readiness_and_service_names_only_after() {
        let directory = tempfile::tempdir().unwrap();
        let resolver = Resolver::default();
        let mut names = Names::new(directory.path(), resolver.clone());
        let services = [service("brokers", true), service("bootstrap", false)];
        names
            .update(
                &services,
                &[endpoint("shop-0", 1, true), endpoint("shop-1", 2, false)],
            )
            .unwrap();
        let first: SocketAddr = "127.0.10.1:9092".parse().unwrap();
        let second: SocketAddr = "127.0.10.2:10092".parse().unwrap();
        for (name, want) in [
            ("shop-1.brokers.default.svc.cluster.local", vec![second]),
            ("shop-0.brokers", vec![first]),
            ("brokers.default", vec![first, second]),
            ("bootstrap.default.svc", vec![first]),
            ("nobody.default.svc", vec![]),
            ("127.9.9.9", vec!["127.9.9.9:9092".parse().unwrap()]),
        ] {
            assert_eq!(resolver.lookup(name, 9092), want, "{name}");
        }
        let text = std::fs::read_to_string(names.file("default")).unwrap();
        assert!(
            text.contains("127.0.10.2+1000 shop-1.brokers.default shop-1.brokers\n"),
            "{text}"
        );
    }
}
