//! What is kept in order while a pod runs: the files of its volumes, and its logs.
//!
//! A kubelet brings mounted ConfigMaps and Secrets up to date within a minute or so. Here every change in the API
//! reaches each worker at once, and the files follow it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, VolumeProjection};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::Worker;
use crate::node::pod::environment::{Downward, Sources};
use crate::node::pod::volumes::{self, Claims};
use crate::node::{claims, logs};

/// What the files of a pod's volumes were made from: each source with its version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mounted(BTreeMap<Source, Option<String>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    ConfigMap(String),
    Secret(String),
    /// The pod itself, through the downward API.
    Pod,
}

/// What the volumes of a pod take their files from.
fn sources(pod: &Pod) -> Vec<Source> {
    let mut found = Vec::new();
    let spec = pod.spec.iter();
    for volume in spec.flat_map(|spec| spec.volumes.iter().flatten()) {
        let config_map = volume.config_map.as_ref().map(|map| map.name.clone());
        found.extend(config_map.map(Source::ConfigMap));
        let secret = volume.secret.as_ref().and_then(|s| s.secret_name.clone());
        found.extend(secret.map(Source::Secret));
        found.extend(volume.downward_api.as_ref().map(|_| Source::Pod));
        let projected = volume.projected.iter().flat_map(|p| p.sources.iter());
        found.extend(projected.flatten().flat_map(projected_sources));
    }
    found
}

fn projected_sources(projection: &VolumeProjection) -> impl Iterator<Item = Source> {
    let config_map = projection.config_map.as_ref().map(|map| map.name.clone());
    let secret = projection.secret.as_ref().map(|secret| secret.name.clone());
    config_map
        .map(Source::ConfigMap)
        .into_iter()
        .chain(secret.map(Source::Secret))
        .chain(projection.downward_api.as_ref().map(|_| Source::Pod))
}

impl Worker {
    /// The versions that the API holds now.
    pub(super) fn mountable(&self) -> Mounted {
        let versions = sources(&self.pod).into_iter().map(|source| {
            let version = match &source {
                Source::ConfigMap(name) => self.config_map(name).and_then(|o| o.resource_version()),
                Source::Secret(name) => self.secret(name).and_then(|o| o.resource_version()),
                // The pod's own version moves with each of its statuses; files show its labels and annotations.
                Source::Pod => Some(format!(
                    "{:?} {:?}",
                    self.pod.labels(),
                    self.pod.annotations()
                )),
            };
            (source, version)
        });
        Mounted(versions.collect())
    }

    /// Brings the files of a running pod's volumes to what the API holds, when that moved.
    pub(super) fn refresh_volumes(&mut self) {
        let now = self.mountable();
        if now == self.mounted || self.slots.iter().all(|slot| slot.process.is_none()) {
            return;
        }
        let downward = Downward {
            pod: &self.pod,
            address: self.place.address,
            node: &self.shared.node_name,
        };
        let root = self.folder.join("volumes");
        match volumes::materialise(&self.pod, &root, downward, self, self) {
            Ok(_) => self.mounted = now,
            Err(e) => {
                tracing::debug!(pod = %self.name, error = %e, "failed to refresh volumes; the running content stays");
            }
        }
    }

    /// Rotates logs, and tries again to refresh volumes that could not be refreshed.
    pub(super) fn keep_house(&mut self) {
        for slot in &self.slots {
            let log = logs::log_file(
                &self.shared.data_dir,
                &self.namespace,
                &self.name,
                &slot.container.name,
            );
            if let Err(e) = logs::rotate(&log) {
                tracing::warn!(log = %log.display(), error = %e, "failed to rotate a log");
            }
        }
        self.refresh_volumes();
    }
}

impl Sources for Worker {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.shared
            .view
            .config_maps
            .get(&ObjectRef::new(name).within(&self.namespace))
    }

    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.shared
            .view
            .secrets
            .get(&ObjectRef::new(name).within(&self.namespace))
    }
}

impl Claims for Worker {
    fn folder(&self, claim: &str) -> Option<PathBuf> {
        let found = self
            .shared
            .view
            .claims
            .get(&ObjectRef::new(claim).within(&self.namespace))?;
        let bound = found.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        bound.then(|| claims::folder(&self.shared.data_dir, &self.namespace, claim))
    }
}
