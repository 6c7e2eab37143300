//! How does the operator run against a real Kubernetes cluster, and what does that cluster need first?

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use operator::admin::{ClientAdmin, KafkaAdmin, Resolver};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    command: Option<OperatorCommand>,
    /// Watch these namespaces only (repeated, or with commas); without it, all of them
    #[arg(
        long = "namespace",
        env = "TIDEMARK_WATCH_NAMESPACES",
        value_delimiter = ','
    )]
    namespaces: Vec<String>,
    /// Image of brokers whose KafkaCluster names none
    #[arg(long, env = "TIDEMARK_IMAGE", default_value = "tidemark:dev")]
    image: String,
    /// DNS domain of the Kubernetes cluster
    #[arg(long, env = "TIDEMARK_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// Namespace of this pod: with it, the operator waits for its Lease there
    #[arg(long, env = "POD_NAMESPACE")]
    pod_namespace: Option<String>,
    /// Name of that Lease
    #[arg(long, env = "TIDEMARK_LEASE_NAME", default_value = "tidemark-operator")]
    lease_name: String,
    /// Name of this pod, for events
    #[arg(long, env = "POD_NAME")]
    pod_name: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum OperatorCommand {
    /// Print what `kubectl apply` needs: CRDs, Namespace, ServiceAccount, RBAC, Deployment
    Manifests {
        /// Image of the operator and, by default, of the brokers
        #[arg(long)]
        image: String,
        /// Namespace of the operator
        #[arg(long, default_value = "tidemark")]
        namespace: String,
    },
}

pub(crate) fn run(args: OperatorArgs) -> anyhow::Result<ExitCode> {
    if let Some(OperatorCommand::Manifests { image, namespace }) = &args.command {
        let yaml = operator_core::manifests::manifests(namespace, image)?;
        io::stdout().write_all(yaml.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(args))
}

/// Runs the controllers with the credentials of the pod or of the kubeconfig.
async fn serve(args: OperatorArgs) -> anyhow::Result<ExitCode> {
    telemetry::init(&telemetry::LogConfig::default()).context("failed to set up logging")?;
    let stop = telemetry::stop_on_signals(None)?;
    let client = kube::Client::try_default()
        .await
        .context("failed to find a Kubernetes cluster: set KUBECONFIG")?;
    let mut config = operator::OperatorConfig::new(Arc::new(ClientAdmin::default()));
    config.settings.image = args.image;
    config.settings.cluster_domain = args.cluster_domain;
    // One namespace twice would be two controllers for the same objects; an empty variable is no namespace.
    let mut namespaces: BTreeSet<String> = args.namespaces.into_iter().collect();
    namespaces.remove("");
    config.namespaces = namespaces.into_iter().collect();
    config.http = Some(args.http);
    if let Some(pod) = args.pod_name {
        config.instance = pod;
    }
    config.lease = args
        .pod_namespace
        .as_deref()
        .map(|namespace| operator::LeaseConfig {
            name: args.lease_name,
            ..operator::LeaseConfig::new(namespace)
        });
    operator::run(client, config, stop.cancelled_owned()).await?;
    Ok(ExitCode::SUCCESS)
}

/// How the operator of local mode reaches brokers: names of the in-process cluster are looked up in the node's table.
pub(crate) fn local_admin(names: controlplane::node::Resolver) -> Arc<dyn KafkaAdmin> {
    Arc::new(ClientAdmin::with_resolver(Arc::new(LocalNames(names))))
}

#[derive(Debug)]
struct LocalNames(controlplane::node::Resolver);

impl Resolver for LocalNames {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<SocketAddr>> {
        let address = self.0.lookup(host, port).first().copied();
        let missing = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{host} has no ready pod yet"),
            )
        };
        std::future::ready(address.ok_or_else(missing)).boxed()
    }
}
