//! Where is the data of a PersistentVolumeClaim, and when does it go?
//!
//! A claim is a folder `volumes/NAMESPACE/NAME` below the data directory, with its requested size recorded beside it. The
//! folder is removed only when the claim itself is deleted, after the last pod that uses it is gone: the
//! `kubernetes.io/pvc-protection` finalizer makes that safe across crashes. A folder without a claim is never touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::addresses::replace_file;
use super::statefulset::unless_gone;

const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// A claim that could not be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("failed to {action} the folder of claim {claim}")]
    Io {
        action: &'static str,
        claim: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to update claim {claim}")]
    Api {
        claim: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// The folder of a claim.
pub(crate) fn folder(data_dir: &Path, namespace: &str, claim: &str) -> PathBuf {
    data_dir.join("volumes").join(namespace).join(claim)
}

/// What to do with a claim.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Bind,
    Release,
    Nothing,
}

fn step(claim: &PersistentVolumeClaim, pods: &[Arc<Pod>]) -> Step {
    if claim.metadata.deletion_timestamp.is_some() {
        let used = pods.iter().any(|pod| uses(pod, claim));
        let held = claim.finalizers().iter().any(|f| f == PROTECTION);
        return if held && !used {
            Step::Release
        } else {
            Step::Nothing
        };
    }
    let status = claim.status.clone().unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|s| {
        s.resources
            .as_ref()?
            .requests
            .as_ref()?
            .get("storage")
            .cloned()
    });
    let recorded = status.capacity.and_then(|c| c.get("storage").cloned());
    if status.phase.as_deref() == Some("Bound") && wanted == recorded {
        Step::Nothing
    } else {
        Step::Bind
    }
}

fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    pod.namespace() == claim.namespace()
        && volumes.into_iter().any(|v| {
            v.persistent_volume_claim
                .as_ref()
                .is_some_and(|c| c.claim_name == claim.name_any())
        })
}

/// Binds, resizes or releases one claim.
pub(crate) async fn reconcile(
    client: &Client,
    data_dir: &Path,
    claim: &PersistentVolumeClaim,
    pods: &[Arc<Pod>],
) -> Result<(), ClaimError> {
    let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
    let folder = folder(data_dir, &namespace, &name);
    let record = data_dir
        .join("volumes")
        .join(&namespace)
        .join(format!("{name}.claim.json"));
    let io = |action| {
        let claim = name.clone();
        move |source| ClaimError::Io {
            action,
            claim,
            source,
        }
    };
    let failed = |source: kube::Error| ClaimError::Api {
        claim: name.clone(),
        source: Box::new(source),
    };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    match step(claim, pods) {
        Step::Nothing => Ok(()),
        Step::Bind => {
            std::fs::create_dir_all(&folder).map_err(io("create"))?;
            let requests = claim
                .spec
                .as_ref()
                .and_then(|s| s.resources.as_ref()?.requests.clone())
                .unwrap_or_default();
            let note = json!({"uid": claim.uid(), "storage": requests.get("storage").map(|q| q.0.clone())});
            replace_file(&record, note.to_string().as_bytes()).map_err(io("record the size of"))?;
            let mut finalizers = claim.finalizers().to_vec();
            if !finalizers.iter().any(|f| f == PROTECTION) {
                finalizers.push(PROTECTION.to_owned());
                let volume = format!("pvc-{}", claim.uid().unwrap_or_default());
                let patch = json!({"metadata": {"uid": claim.uid(), "finalizers": finalizers}, "spec": {"volumeName": volume}});
                unless_gone(api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)))
                    .await
                    .map_err(failed)?;
            }
            let modes = claim
                .spec
                .as_ref()
                .and_then(|s| s.access_modes.clone())
                .unwrap_or_default();
            let status = json!({"phase": "Bound", "accessModes": modes, "capacity": requests});
            let patch = Patch::Merge(json!({"metadata": {"uid": claim.uid()}, "status": status}));
            unless_gone(api.patch_status(&name, &PatchParams::default(), &patch))
                .await
                .map_err(failed)
        }
        Step::Release => {
            for path in [&folder, &record] {
                let removed = if path.is_dir() {
                    std::fs::remove_dir_all(path)
                } else {
                    std::fs::remove_file(path)
                };
                match removed {
                    Ok(()) => {
                        tracing::info!(claim = %name, path = %path.display(), "removed the data of a deleted claim")
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(e) => return Err(io("remove")(e)),
                }
            }
            let finalizers: Vec<&String> = claim
                .finalizers()
                .iter()
                .filter(|f| *f != PROTECTION)
                .collect();
            let patch =
                Patch::Merge(json!({"metadata": {"uid": claim.uid(), "finalizers": finalizers}}));
            unless_gone(api.patch(&name, &PatchParams::default(), &patch))
                .await
                .map_err(failed)
        }
    }
}
