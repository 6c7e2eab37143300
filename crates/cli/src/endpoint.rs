//! Which bootstrap servers does a client command use?

use anyhow::{Context as _, bail};

use crate::args::Endpoint;
use crate::state::Layout;

/// `--bootstrap-server`, or the bootstrap of the cluster that the running `up` manages.
pub(crate) fn bootstrap(endpoint: &Endpoint) -> anyhow::Result<String> {
    if let Some(given) = &endpoint.bootstrap_server {
        return Ok(given.clone());
    }
    let status = Layout::new(&endpoint.data_dir.data_dir).running_status()?;
    let clusters: Vec<_> = status
        .objects
        .iter()
        .filter(|object| object.kind == "KafkaCluster")
        .filter(|object| {
            endpoint
                .cluster
                .as_ref()
                .is_none_or(|name| *name == object.name)
        })
        .collect();
    match clusters.as_slice() {
        [] => match &endpoint.cluster {
            Some(name) => {
                bail!("no KafkaCluster {name:?} is here: `tidemark status` lists those there are")
            }
            None => {
                bail!("no KafkaCluster is here: `tidemark status` shows what the manifests gave")
            }
        },
        [one] => match &one.bootstrap {
            Some(bootstrap) => Ok(bootstrap.clone()),
            None => bail!(
                "KafkaCluster {} has no bootstrap address yet: {}",
                one.name,
                one.message
            ),
        },
        more => {
            let names: Vec<_> = more.iter().map(|object| object.name.as_str()).collect();
            bail!(
                "more than one KafkaCluster is here ({}): name one with --cluster",
                names.join(", ")
            )
        }
    }
}

/// A client of those bootstrap servers.
pub(crate) async fn connect(endpoint: &Endpoint) -> anyhow::Result<client::Client> {
    let bootstrap = bootstrap(endpoint)?;
    let options = client::ClientOptions::new(&bootstrap).client_id("tidemark");
    client::Client::connect(options)
        .await
        .with_context(|| format!("failed to reach {bootstrap}"))
}
