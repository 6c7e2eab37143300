//! How is one broker started from its file?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use broker::BrokerOptions;
use config::{BrokerConfig, Environment};

#[derive(Debug, clap::Args)]
pub(crate) struct BrokerArgs {
    /// The broker's file: cluster id, nodes, listeners, directories, Kafka configuration
    #[arg(long)]
    config: PathBuf,
    /// The node of the file's `nodes` that this process is; without it, the file's `nodeId` says so
    #[arg(long)]
    node_name: Option<String>,
    /// KEY=VALUE: sets one Kafka configuration key over the file
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Form of log lines: text or json
    #[arg(long, default_value = "text", env = "TIDEMARK_LOG_FORMAT")]
    log_format: String,
}

pub(crate) fn run(args: BrokerArgs) -> anyhow::Result<ExitCode> {
    let config = read(&args)?;
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let parent_fd = environment.parent_fd;
    let format = match args.log_format.as_str() {
        "text" => telemetry::LogFormat::Text,
        "json" => telemetry::LogFormat::Json,
        other => bail!("{other:?} is no log format: want text or json"),
    };
    telemetry::init(&telemetry::LogConfig {
        format,
        ..telemetry::LogConfig::default()
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("broker")
        .build()?;
    runtime.block_on(async {
        let stop = telemetry::stop_on_signals(parent_fd)?;
        let options = BrokerOptions {
            config,
            node_name: args.node_name,
            environment,
        };
        broker::run(options, stop)
            .await
            .context("the broker stopped")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn read(args: &BrokerArgs) -> anyhow::Result<BrokerConfig> {
    let file = args.config.display().to_string();
    let text =
        std::fs::read_to_string(&args.config).with_context(|| format!("failed to read {file}"))?;
    let mut config = BrokerConfig::parse(&file, &text)?;
    for set in &args.sets {
        let (key, value) = set
            .split_once('=')
            .with_context(|| format!("--set {set:?}: want KEY=VALUE"))?;
        config.set(key, value)?;
    }
    Ok(config)
}
