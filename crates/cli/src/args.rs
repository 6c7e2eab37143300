//! What can be asked of `tidemark`, and which function answers it?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{broker, consume, crd, down, groups, logs, operator, produce, status, topics, up};

/// A declarative Kafka platform: clusters, topics and their guarantees from YAML.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the YAML under DIR true on this machine, and keep it so
    Up(up::UpArgs),
    /// Stop what `up` started; data stays
    Down(down::DownArgs),
    /// Show the objects and pods of a running `up`
    Status(status::StatusArgs),
    /// Print the logs of a pod, or of all
    Logs(logs::LogsArgs),
    /// List and describe topics
    Topics(topics::TopicsArgs),
    /// Produce lines from standard input to a topic
    Produce(produce::ProduceArgs),
    /// Consume a topic to standard output
    Consume(consume::ConsumeArgs),
    /// List and describe consumer groups
    Groups(groups::GroupsArgs),
    /// Print the custom resource definitions
    Crd(crd::CrdArgs),
    /// Run one broker
    Broker(broker::BrokerArgs),
    /// Run the operator against the current Kubernetes cluster, or print its manifests
    Operator(operator::OperatorArgs),
}

/// Where the state of `tidemark up` lives.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataDir {
    /// Folder with the state of `tidemark up`
    #[arg(
        long,
        default_value = ".tidemark",
        env = "TIDEMARK_DATA_DIR",
        global = false
    )]
    pub(crate) data_dir: PathBuf,
}

/// Which Kafka a client command talks to.
#[derive(Debug, Clone, Args)]
pub(crate) struct Endpoint {
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// HOST:PORT[,HOST:PORT...] of any Kafka; without it, the cluster that `tidemark up` runs
    #[arg(long, short = 'b')]
    pub(crate) bootstrap_server: Option<String>,
    /// Properties file of a Kafka client, as Kafka's own tools take it: client.id, request.timeout.ms ...
    #[arg(long, value_name = "FILE")]
    pub(crate) command_config: Option<PathBuf>,
    /// Name of the KafkaCluster, when `tidemark up` runs more than one
    #[arg(long, conflicts_with = "bootstrap_server")]
    pub(crate) cluster: Option<String>,
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// A table for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

/// Parses the command line, runs the command and turns its error into one line and an exit code.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Up(args) => up::run(args),
        Command::Down(args) => down::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Topics(args) => block_on(topics::run(args)),
        Command::Produce(args) => block_on(produce::run(args)),
        Command::Consume(args) => block_on(consume::run(args)),
        Command::Groups(args) => block_on(groups::run(args)),
        Command::Crd(args) => crd::run(&args),
        Command::Broker(args) => broker::run(args),
        Command::Operator(args) => operator::run(args),
    };
    match result {
        Ok(code) => code,
        // Whoever reads the output has seen enough: `tidemark logs | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// One line on standard error.
#[expect(
    clippy::print_stderr,
    reason = "a command line tool's errors belong on standard error"
)]
pub(crate) fn complain(text: &str) {
    eprintln!("tidemark: {text}");
}

/// A small runtime for client commands.
fn block_on<F>(future: F) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
