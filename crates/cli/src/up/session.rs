//! What runs together while `tidemark up` runs, and in which order does it stop?
//!
//! The control plane, the operator, the node agent, and a loop that applies the folder and reports. On a signal the
//! node agent stops the pods first (controlled shutdown of all brokers at once), then the operator ends.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use controlplane::node::{NodeAgent, NodeConfig, Resolver};
use controlplane::{ControlPlane, ControlPlaneConfig};
use notify::Watcher as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::UpArgs;
use super::apply::Applier;
use super::controllers::Controllers;
use super::report;
use super::screen::Screen;
use crate::args::complain;
use crate::operator::local_admin;
use crate::state::{Layout, Status};

/// How often the control plane's revision is compared; a change is reported within this time.
const REPORT_EVERY: Duration = Duration::from_millis(50);
/// A burst of file events (an editor's write, rename, chmod) is one change once this long nothing more came.
const QUIET: Duration = Duration::from_millis(30);

/// Runs until SIGINT or SIGTERM; SIGHUP reads the folder again.
pub(crate) async fn run(args: UpArgs, layout: Layout) -> anyhow::Result<ExitCode> {
    telemetry::init(&telemetry::LogConfig::problems_only()).context("failed to set up logging")?;
    let control_plane = ControlPlane::open(ControlPlaneConfig {
        data_dir: Some(layout.root.join("api")),
        crds: operator_core::crds(),
        ..ControlPlaneConfig::default()
    })?;
    let client = control_plane.client();
    let mut node = NodeConfig::new(client.clone(), &layout.root)?;
    node.address_base = args.address_base;
    node.port_base = args.port_base;
    let agent = NodeAgent::new(node)?;
    let names = agent.resolver();

    let (stop_pods, stop_operator) = (CancellationToken::new(), CancellationToken::new());
    let mut config = operator::OperatorConfig::new(local_admin(names.clone()));
    config.settings.auto_create_topics = true;
    config.drift_interval = Duration::from_secs(5);
    let operator = operator::run(
        client.clone(),
        config,
        stop_operator.clone().cancelled_owned(),
    );
    let mut operator = Controllers::spawn(operator, stop_operator);
    let agent = tokio::spawn(agent.run(stop_pods.clone()));

    let outcome = match Follow::start(&args, &layout, control_plane.clone(), names) {
        Ok(follow) => follow.until_signal(&mut operator).await,
        Err(error) => Err(error),
    };
    stop_pods.cancel();
    let agent = agent.await.context("the node agent failed");
    let operator = operator.stop().await;
    // The first that went wrong is the cause of what follows.
    outcome?;
    agent?;
    operator?;
    layout.clear_status()?;
    Ok(ExitCode::SUCCESS)
}

/// The loop that follows the folder and reports.
struct Follow {
    applier: Applier,
    screen: Screen,
    layout: Layout,
    control_plane: ControlPlane,
    names: Resolver,
    problems: Vec<String>,
    /// The last pass left something to do when an object is gone.
    unfinished: bool,
    last: Status,
    revision: Option<u64>,
    changed: mpsc::Receiver<()>,
    dir: PathBuf,
    watcher: notify::RecommendedWatcher,
}

impl Follow {
    fn start(
        args: &UpArgs,
        layout: &Layout,
        control_plane: ControlPlane,
        names: Resolver,
    ) -> anyhow::Result<Self> {
        // One pending wake-up is enough: a pass reads the whole folder.
        let (wake, changed) = mpsc::channel(1);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_ok_and(|event| !event.kind.is_access()) {
                    // The result is of no interest: a full channel means that a wake-up is already pending.
                    let _ = wake.try_send(());
                }
            })?;
        watcher
            .watch(&args.dir, notify::RecursiveMode::Recursive)
            .with_context(|| format!("failed to watch {}", args.dir.display()))?;
        Ok(Self {
            applier: Applier::new(control_plane.client(), args.dir.clone())?,
            screen: Screen::new(args.output, layout.root.clone()),
            layout: layout.clone(),
            control_plane,
            names,
            problems: Vec::new(),
            unfinished: false,
            last: Status::default(),
            revision: None,
            changed,
            dir: args.dir.clone(),
            watcher,
        })
    }

    async fn until_signal(mut self, operator: &mut Controllers) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut tick = tokio::time::interval(REPORT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pass().await?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hang_up.recv() => {
                    self.watch_again();
                    self.pass().await?;
                }
                Some(()) = self.changed.recv() => {
                    self.wait_for_quiet().await;
                    self.pass().await?;
                }
                _ = tick.tick() => self.report().await?,
                error = operator.failed() => return Err(error),
            }
        }
    }

    /// A path may lead to another folder than when it was first watched (a symbolic link was moved to a new checkout).
    fn watch_again(&mut self) {
        // A folder that is gone is no longer watched, which is what unwatching is for.
        drop(self.watcher.unwatch(&self.dir));
        if let Err(error) = self
            .watcher
            .watch(&self.dir, notify::RecursiveMode::Recursive)
        {
            complain(&format!(
                "failed to watch {}, only SIGHUP reads it again: {error}",
                self.dir.display()
            ));
        }
    }

    async fn wait_for_quiet(&mut self) {
        let mut until = Instant::now() + QUIET;
        while let Ok(Some(())) = tokio::time::timeout_at(until, self.changed.recv()).await {
            until = Instant::now() + QUIET;
        }
    }

    /// Applies the folder; what is wrong is shown until a later pass no longer finds it.
    async fn pass(&mut self) -> anyhow::Result<()> {
        self.apply().await?;
        self.revision = None;
        self.report().await
    }

    async fn apply(&mut self) -> anyhow::Result<()> {
        match self.applier.pass().await {
            Ok(outcome) => {
                self.screen.news(&outcome.news)?;
                self.problems = outcome.problems;
                self.unfinished = outcome.unfinished;
            }
            // The folder may be gone for a moment (a checkout, a rename): what runs keeps running.
            Err(error) => self.problems = vec![format!("{error:#}")],
        }
        Ok(())
    }

    async fn report(&mut self) -> anyhow::Result<()> {
        let revision = self.control_plane.revision();
        if self.revision == Some(revision) {
            return Ok(());
        }
        if self.unfinished {
            self.apply().await?;
        }
        let mut status = report::gather(&self.control_plane.client(), &self.names).await?;
        status.problems.clone_from(&self.problems);
        status.ready &= status.problems.is_empty();
        self.revision = Some(revision);
        if status != self.last {
            self.layout.write_status(&status)?;
            self.screen.show(&status, false)?;
            self.last = status;
        }
        Ok(())
    }
}
