//! How do a pod's volumes become folders and files?

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, Volume};

use super::environment::{Downward, Missing, Sources, field_value};
use super::mounts::{Mount, Mounts};

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// Something it refers to does not exist yet.
    #[error("{0}")]
    Missing(#[from] Missing),
    /// The filesystem refused.
    #[error("failed to write volume {volume}")]
    Io {
        volume: String,
        #[source]
        source: io::Error,
    },
    /// A volume type this node does not provide.
    #[error("volume {volume} is of a type the local node does not provide ({known} are provided)")]
    Unsupported { volume: String, known: &'static str },
}

const KNOWN: &str =
    "configMap, secret, emptyDir, persistentVolumeClaim, projected, downwardAPI and hostPath";

/// Where the claims' data is.
pub(crate) trait Claims {
    /// The folder of a bound claim of this pod's namespace.
    fn folder(&self, claim: &str) -> Option<PathBuf>;
}

/// Makes (or refreshes) every volume below `root`; returns volume name to host path.
pub(crate) fn materialise(
    pod: &Pod,
    root: &Path,
    downward: Downward<'_>,
    sources: &impl Sources,
    claims: &impl Claims,
) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
    let mut out = BTreeMap::new();
    for volume in pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
    {
        let path = root.join(&volume.name);
        let path = one(volume, path, downward, sources, claims)?;
        out.insert(volume.name.clone(), path);
    }
    Ok(out)
}

fn one(
    volume: &Volume,
    path: PathBuf,
    downward: Downward<'_>,
    sources: &impl Sources,
    claims: &impl Claims,
) -> Result<PathBuf, VolumeError> {
    let failed = |source| VolumeError::Io {
        volume: volume.name.clone(),
        source,
    };
    if volume.empty_dir.is_some() {
        fs::create_dir_all(&path).map_err(failed)?;
        return Ok(path);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let missing = || {
            Missing(format!(
                "persistentvolumeclaim {:?} is not bound",
                claim.claim_name
            ))
        };
        return Ok(claims.folder(&claim.claim_name).ok_or_else(missing)?);
    }
    if let Some(host) = &volume.host_path {
        return Ok(PathBuf::from(&host.path));
    }
    let mut files = Files::default();
    let mode;
    if let Some(map) = &volume.config_map {
        mode = map.default_mode;
        files.config_map(&map.name, map.items.as_deref(), map.optional, sources)?;
    } else if let Some(secret) = &volume.secret {
        mode = secret.default_mode;
        let name = secret.secret_name.as_deref().unwrap_or_default();
        files.secret(name, secret.items.as_deref(), secret.optional, sources)?;
    } else if let Some(api) = &volume.downward_api {
        mode = api.default_mode;
        files.downward(api.items.as_deref().unwrap_or_default(), downward)?;
    } else if let Some(projected) = &volume.projected {
        mode = projected.default_mode;
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                files.config_map(&map.name, map.items.as_deref(), map.optional, sources)?;
            } else if let Some(secret) = &source.secret {
                files.secret(
                    &secret.name,
                    secret.items.as_deref(),
                    secret.optional,
                    sources,
                )?;
            } else if let Some(api) = &source.downward_api {
                files.downward(api.items.as_deref().unwrap_or_default(), downward)?;
            } else {
                return Err(VolumeError::Unsupported {
                    volume: volume.name.clone(),
                    known: KNOWN,
                });
            }
        }
    } else {
        return Err(VolumeError::Unsupported {
            volume: volume.name.clone(),
            known: KNOWN,
        });
    }
    files.write(&path, mode.unwrap_or(0o644)).map_err(failed)?;
    Ok(path)
}

/// The wanted content of a folder.
#[derive(Debug, Default)]
struct Files(BTreeMap<String, (Vec<u8>, Option<i32>)>);

impl Files {
    fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        sources: &impl Sources,
    ) -> Result<(), Missing> {
        let Some(map) = sources.config_map(name) else {
            return absent("configmap", name, optional);
        };
        let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        all.extend(
            map.data
                .iter()
                .flatten()
                .map(|(key, text)| (key.clone(), text.clone().into_bytes())),
        );
        all.extend(
            map.binary_data
                .iter()
                .flatten()
                .map(|(key, bytes)| (key.clone(), bytes.0.clone())),
        );
        self.select(all, items, optional, &format!("configmap {name:?}"))
    }

    fn secret(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        sources: &impl Sources,
    ) -> Result<(), Missing> {
        let Some(secret) = sources.secret(name) else {
            return absent("secret", name, optional);
        };
        let all = secret
            .data
            .iter()
            .flatten()
            .map(|(key, bytes)| (key.clone(), bytes.0.clone()))
            .collect();
        self.select(all, items, optional, &format!("secret {name:?}"))
    }

    fn select(
        &mut self,
        all: BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        what: &str,
    ) -> Result<(), Missing> {
        let Some(items) = items else {
            self.0
                .extend(all.into_iter().map(|(key, bytes)| (key, (bytes, None))));
            return Ok(());
        };
        for item in items {
            match all.get(&item.key) {
                Some(bytes) => {
                    self.0.insert(item.path.clone(), (bytes.clone(), item.mode));
                }
                None if optional == Some(true) => {}
                None => {
                    return Err(Missing(format!(
                        "{what} references non-existent key: {}",
                        item.key
                    )));
                }
            }
        }
        Ok(())
    }

    fn downward(
        &mut self,
        items: &[k8s_openapi::api::core::v1::DownwardAPIVolumeFile],
        downward: Downward<'_>,
    ) -> Result<(), Missing> {
        for item in items {
            let field = item.field_ref.as_ref();
            let field = field.ok_or_else(|| {
                Missing(format!("downward API file {:?} has no fieldRef", item.path))
            })?;
            self.0.insert(
                item.path.clone(),
                (field_value(field, downward)?.into_bytes(), item.mode),
            );
        }
        Ok(())
    }

    /// Brings a folder to this content: changed files are replaced by rename, files that are gone are removed.
    fn write(self, folder: &Path, default_mode: i32) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let wanted = name.to_str().is_some_and(|name| {
                self.0
                    .keys()
                    .any(|path| path.split('/').next() == Some(name))
            });
            if !wanted && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        for (name, (content, mode)) in self.0 {
            let path = folder.join(&name);
            if fs::read(&path).is_ok_and(|now| now == content) {
                continue;
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            super::super::addresses::replace_file(&path, &content)?;
            let mode = u32::try_from(mode.unwrap_or(default_mode)).unwrap_or(0o644);
            // The owner must be able to read and replace what it is given, whatever the mode says.
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o600))?;
        }
        Ok(())
    }
}

fn absent(kind: &str, name: &str, optional: Option<bool>) -> Result<(), Missing> {
    if optional == Some(true) {
        Ok(())
    } else {
        Err(Missing(format!("{kind} {name:?} not found")))
    }
}

/// The mounts of one container.
pub(crate) fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    variables: &[(String, String)],
) -> Result<Mounts, VolumeError> {
    let mut out = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let missing = || {
            Missing(format!(
                "volume mount {:?} names no volume of the pod",
                mount.name
            ))
        };
        let mut outside = volumes.get(&mount.name).ok_or_else(missing)?.clone();
        if let Some(sub) = &mount.sub_path {
            outside.push(sub);
        } else if let Some(sub) = &mount.sub_path_expr {
            outside.push(super::environment::expand(sub, variables));
        }
        let inside = mount.mount_path.trim_end_matches('/').to_owned();
        let failed = |source| VolumeError::Io {
            volume: mount.name.clone(),
            source,
        };
        if !outside.exists() {
            fs::create_dir_all(&outside).map_err(failed)?;
        }
        let outside = fs::canonicalize(&outside).map_err(failed)?;
        out.push(Mount { inside, outside });
    }
    Ok(Mounts::new(out))
}
