//! Which of several operators is the active one?
//!
//! The holder of a `Lease` writes its time again every third of the lease's duration. Others wait until that time, as they themselves saw
//! it change last, is older than the duration: clocks of different machines are never compared. A holder that cannot renew in time gives
//! up before the others may begin.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;

use crate::OperatorError;

/// Which Lease, and for how long it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// How long a silent holder keeps it. Whole seconds, at least 3.
    pub duration: Duration,
}

impl LeaseConfig {
    /// The Lease `tidemark-operator` with Kubernetes' own duration of 15 s.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: "tidemark-operator".into(),
            duration: Duration::from_secs(15),
        }
    }
}

/// One candidate.
pub(crate) struct Holder {
    api: Api<Lease>,
    config: LeaseConfig,
    identity: String,
    /// The renewal last seen of somebody else, and when this process saw it first.
    seen: Option<(Option<MicroTime>, Instant)>,
}

impl Holder {
    pub(crate) fn new(client: Client, config: LeaseConfig, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, &config.namespace),
            config,
            identity,
            seen: None,
        }
    }

    fn period(&self) -> Duration {
        self.config.duration / 3
    }

    /// Waits until this process holds the Lease.
    pub(crate) async fn acquire(&mut self) {
        let mut ticks = tokio::time::interval(self.period());
        loop {
            ticks.tick().await;
            match self.try_hold().await {
                Ok(true) => {
                    tracing::info!(
                        lease = self.config.name,
                        identity = self.identity,
                        "became the active operator"
                    );
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, lease = self.config.name, "failed to read or write the lease");
                }
            }
        }
    }

    /// Renews until that fails for so long that another may take over; returns why.
    pub(crate) async fn keep(&mut self) -> OperatorError {
        let mut ticks = tokio::time::interval(self.period());
        let mut renewed = Instant::now();
        // One period before others may begin.
        let patience = self.config.duration - self.period();
        loop {
            ticks.tick().await;
            let deadline = renewed + patience;
            match tokio::time::timeout_at(deadline, self.try_hold()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => break,
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.config.name, "failed to renew the lease");
                    if Instant::now() >= deadline {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        OperatorError::LeaseLost {
            name: self.config.name.clone(),
        }
    }

    /// Gives the Lease up so that the next operator need not wait. Best effort: it runs out anyway.
    pub(crate) async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.config.name).await else {
            return;
        };
        if lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_ref())
            != Some(&self.identity)
        {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        if let Err(error) = self
            .api
            .replace(&self.config.name, &PostParams::default(), &lease)
            .await
        {
            tracing::info!(%error, lease = self.config.name, "the lease was not given up; it runs out by itself");
        }
    }

    /// Takes or renews the Lease if that is allowed now. `false` means that somebody else has it.
    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.config.name).await? else {
            return self.write(None).await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec
            .holder_identity
            .clone()
            .filter(|holder| !holder.is_empty());
        if holder
            .as_ref()
            .is_some_and(|holder| *holder != self.identity)
        {
            let first_seen = match &self.seen {
                Some((time, at)) if *time == spec.renew_time => *at,
                _ => Instant::now(),
            };
            self.seen = Some((spec.renew_time.clone(), first_seen));
            let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15);
            if first_seen.elapsed() < Duration::from_secs(seconds) {
                return Ok(false);
            }
        }
        self.write(Some(lease)).await
    }

    /// Writes this process in as the holder; a conflict means that somebody else was faster.
    async fn write(&self, old: Option<Lease>) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let before = old
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.duration.as_secs()).ok(),
            acquire_time: if ours {
                before.acquire_time
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(self.config.name.clone()),
            namespace: Some(self.config.namespace.clone()),
            resource_version: old.as_ref().and_then(|lease| lease.resource_version()),
            ..ObjectMeta::default()
        };
        let lease = Lease {
            metadata,
            spec: Some(spec),
        };
        let written = match old {
            Some(_) => {
                self.api
                    .replace(&self.config.name, &PostParams::default(), &lease)
                    .await
            }
            None => self.api.create(&PostParams::default(), &lease).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(error) if crate::apply::is_conflict(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
