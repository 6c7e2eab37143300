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
use serde_json::{Value, json};

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

/// Gives a claim that is about to be created its name and what binding would add.
pub(crate) fn prepare(claim: &mut PersistentVolumeClaim, namespace: &str, name: &str) {
    claim.metadata.name = Some(name.to_owned());
    claim.metadata.namespace = Some(namespace.to_owned());
    claim.spec.get_or_insert_default().volume_name = Some(volume_name(namespace, name));
}

fn volume_name(namespace: &str, name: &str) -> String {
    format!("local-{namespace}-{name}")
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
    let work = Work {
        claim,
        folder: folder(data_dir, &namespace, &name),
        record: data_dir
            .join("volumes")
            .join(&namespace)
            .join(format!("{name}.claim.json")),
        api: Api::namespaced(client.clone(), &namespace),
        name,
        namespace,
    };
    match step(claim, pods) {
        Step::Nothing => Ok(()),
        Step::Bind => work.bind().await,
        Step::Release => work.release().await,
    }
}

/// One claim being worked on.
struct Work<'a> {
    claim: &'a PersistentVolumeClaim,
    name: String,
    namespace: String,
    folder: PathBuf,
    /// The requested size, beside the folder.
    record: PathBuf,
    api: Api<PersistentVolumeClaim>,
}

impl Work<'_> {
    fn io(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> ClaimError + use<> {
        let claim = self.name.clone();
        move |source| ClaimError::Io {
            action,
            claim,
            source,
        }
    }

    fn failed(&self, source: kube::Error) -> ClaimError {
        ClaimError::Api {
            claim: self.name.clone(),
            source: Box::new(source),
        }
    }

    async fn patch(&self, change: Value) -> Result<(), ClaimError> {
        let patch = Patch::Merge(change);
        let result = unless_gone(self.api.patch(&self.name, &PatchParams::default(), &patch)).await;
        result.map_err(|e| self.failed(e))
    }

    async fn bind(&self) -> Result<(), ClaimError> {
        std::fs::create_dir_all(&self.folder).map_err(self.io("create"))?;
        let spec = self.claim.spec.clone().unwrap_or_default();
        let requests = spec.resources.and_then(|r| r.requests).unwrap_or_default();
        let storage = requests.get("storage").map(|q| q.0.clone());
        let note = json!({"uid": self.claim.uid(), "storage": storage});
        replace_file(&self.record, note.to_string().as_bytes())
            .map_err(self.io("record the size of"))?;
        if spec.volume_name.is_none() {
            let volume = volume_name(&self.namespace, &self.name);
            self.patch(
                json!({"metadata": {"uid": self.claim.uid()}, "spec": {"volumeName": volume}}),
            )
            .await?;
        }
        let modes = spec.access_modes.unwrap_or_default();
        let status = json!({"phase": "Bound", "accessModes": modes, "capacity": requests});
        let patch = Patch::Merge(json!({"metadata": {"uid": self.claim.uid()}, "status": status}));
        let params = PatchParams::default();
        let written = self.api.patch_status(&self.name, &params, &patch);
        unless_gone(written).await.map_err(|e| self.failed(e))
    }

    async fn release(&self) -> Result<(), ClaimError> {
        for path in [&self.folder, &self.record] {
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            };
            match removed {
                Ok(()) => {
                    tracing::info!(claim = %self.name, path = %path.display(), "removed the data of a deleted claim");
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(self.io("remove")(e)),
            }
        }
        let rest: Vec<&String> = self
            .claim
            .finalizers()
            .iter()
            .filter(|f| *f != PROTECTION)
            .collect();
        self.patch(json!({"metadata": {"uid": self.claim.uid(), "finalizers": rest}}))
            .await
    }
}
