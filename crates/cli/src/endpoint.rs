//! Which bootstrap servers and settings does a client command use?

mod properties;

use anyhow::{Context as _, bail};

use crate::args::{Endpoint, complain};
use crate::state::Layout;
use properties::Properties;

/// `--bootstrap-server`, or that of the `--command-config`, or the cluster that the running `up` manages.
fn bootstrap(endpoint: &Endpoint, properties: &Properties) -> anyhow::Result<String> {
    let named = properties
        .bootstrap_servers()
        .filter(|_| endpoint.cluster.is_none());
    if let Some(given) = endpoint.bootstrap_server.as_deref().or(named) {
        return Ok(given.to_owned());
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
    let properties = match &endpoint.command_config {
        Some(path) => Properties::read(path)?,
        None => Properties::default(),
    };
    let bootstrap = bootstrap(endpoint, &properties)?;
    let options = properties.apply(client::ClientOptions::new(&bootstrap))?;
    for line in properties.without_effect() {
        complain(&line);
    }
    client::Client::connect(options)
        .await
        .with_context(|| format!("failed to reach {bootstrap}"))
}
