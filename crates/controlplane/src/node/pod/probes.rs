//! Is a container started, alive, ready? The three probes of a container as one small state machine with its checks.
//!
//! Deviation from a kubelet: until a probe first succeeds it runs every 50 ms from the start, whatever
//! `initialDelaySeconds` and `periodSeconds` say, so that a cluster on one machine is Ready when it is ready. How long a
//! probe may fail before it counts against the container is unchanged: `initialDelay + failureThreshold * period`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// The pace of a probe that never succeeded yet.
const EAGER: Duration = Duration::from_millis(50);

/// Where and how probes of one container run.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    /// Added to every port (systems with one loopback address).
    pub(crate) port_offset: u16,
    pub(crate) exe: PathBuf,
    pub(crate) env: Vec<(String, String)>,
}

/// What the probes say about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The startup probe passed (or there is none).
    Started,
    Ready(bool),
    /// The startup or liveness probe failed for too long: restart.
    Unhealthy(&'static str),
}

/// One probe's memory.
#[derive(Debug)]
struct Gauge {
    name: &'static str,
    period: Duration,
    limit: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    ever: bool,
    successes: u32,
    failures: u32,
    since: Instant,
}

/// What one more result means.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Passed,
    Failed,
}

impl Gauge {
    fn new(name: &'static str, probe: &Probe, now: Instant) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default)
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .unwrap_or(default)
                .max(1)
        };
        let period = Duration::from_secs(seconds(probe.period_seconds, 10).max(1));
        let failure_threshold = count(probe.failure_threshold, 3);
        Self {
            name,
            period,
            limit: Duration::from_secs(seconds(probe.initial_delay_seconds, 0))
                + period * failure_threshold,
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold,
            ever: false,
            successes: 0,
            failures: 0,
            since: now,
        }
    }

    fn pace(&self) -> Duration {
        if self.ever { self.period } else { EAGER }
    }

    fn record(&mut self, ok: bool, now: Instant) -> Step {
        if ok {
            (self.successes, self.failures) = (self.successes + 1, 0);
            if self.successes >= self.success_threshold {
                self.ever = true;
                return Step::Passed;
            }
            return Step::Nothing;
        }
        (self.successes, self.failures) = (0, self.failures + 1);
        let too_long = if self.ever {
            self.failures >= self.failure_threshold
        } else {
            now - self.since >= self.limit
        };
        if too_long {
            Step::Failed
        } else {
            Step::Nothing
        }
    }
}

/// Runs the probes of a container until dropped, telling `report` every change.
pub(crate) async fn run(
    container: Container,
    target: Target,
    report: tokio::sync::mpsc::Sender<Verdict>,
) {
    if let Some(probe) = &container.startup_probe {
        let mut gauge = Gauge::new("startup", probe, Instant::now());
        loop {
            let ok = check(probe, &container, &target).await;
            match gauge.record(ok, Instant::now()) {
                Step::Passed => break,
                Step::Failed => {
                    tell(&report, Verdict::Unhealthy(gauge.name)).await;
                    return;
                }
                Step::Nothing => tokio::time::sleep(gauge.pace()).await,
            }
        }
    }
    tell(&report, Verdict::Started).await;
    let readiness = watch_readiness(&container, &target, &report);
    let liveness = watch_liveness(&container, &target, &report);
    tokio::join!(readiness, liveness);
}

async fn watch_readiness(
    container: &Container,
    target: &Target,
    report: &tokio::sync::mpsc::Sender<Verdict>,
) {
    let Some(probe) = &container.readiness_probe else {
        tell(report, Verdict::Ready(true)).await;
        return;
    };
    let mut gauge = Gauge::new("readiness", probe, Instant::now());
    let mut ready = false;
    loop {
        let ok = check(probe, container, target).await;
        let next = match gauge.record(ok, Instant::now()) {
            Step::Passed => true,
            Step::Failed => false,
            Step::Nothing => ready,
        };
        if next != ready {
            ready = next;
            // One that stopped being ready is asked eagerly again, like one that never was.
            gauge.ever = ready;
            tell(report, Verdict::Ready(ready)).await;
        }
        tokio::time::sleep(gauge.pace()).await;
    }
}

async fn watch_liveness(
    container: &Container,
    target: &Target,
    report: &tokio::sync::mpsc::Sender<Verdict>,
) {
    let Some(probe) = &container.liveness_probe else {
        return;
    };
    let mut gauge = Gauge::new("liveness", probe, Instant::now());
    loop {
        let ok = check(probe, container, target).await;
        if gauge.record(ok, Instant::now()) == Step::Failed {
            tell(report, Verdict::Unhealthy(gauge.name)).await;
            return;
        }
        tokio::time::sleep(gauge.pace()).await;
    }
}

async fn tell(report: &tokio::sync::mpsc::Sender<Verdict>, verdict: Verdict) {
    if report.send(verdict).await.is_err() {
        tracing::trace!("a probe outlived its container");
    }
}

/// One check, within the probe's timeout.
async fn check(probe: &Probe, container: &Container, target: &Target) -> bool {
    let seconds = probe
        .timeout_seconds
        .and_then(|s| u64::try_from(s).ok())
        .unwrap_or(1)
        .max(1);
    timeout(
        Duration::from_secs(seconds),
        check_once(probe, container, target),
    )
    .await
    .unwrap_or(false)
}

async fn check_once(probe: &Probe, container: &Container, target: &Target) -> bool {
    if let Some(get) = &probe.http_get {
        if get.scheme.as_deref() == Some("HTTPS") {
            return true;
        }
        return match socket(get.host.as_deref(), &get.port, container, target) {
            Some(address) => http_get(get, address).await,
            None => false,
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        return match socket(tcp.host.as_deref(), &tcp.port, container, target) {
            Some(address) => TcpStream::connect(address).await.is_ok(),
            None => false,
        };
    }
    if let Some(exec) = &probe.exec {
        return run_command(exec.command.as_deref().unwrap_or_default(), target).await;
    }
    // A probe of an unknown kind was reported when the pod was accepted.
    true
}

fn socket(
    host: Option<&str>,
    port: &IntOrString,
    container: &Container,
    target: &Target,
) -> Option<SocketAddr> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name));
            named
                .map(|p| p.container_port)
                .or_else(|| name.parse().ok())?
        }
    };
    let port = u16::try_from(number)
        .ok()?
        .checked_add(target.port_offset)?;
    let host = host
        .filter(|h| !h.is_empty())
        .and_then(|h| h.parse::<IpAddr>().ok());
    Some(SocketAddr::new(
        host.unwrap_or(IpAddr::V4(target.address)),
        port,
    ))
}

/// Any status from 200 to 399 passes, as with kubelet.
async fn http_get(get: &HTTPGetAction, address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    let mut request = format!("GET {} HTTP/1.1\r\n", get.path.as_deref().unwrap_or("/"));
    let headers = get.http_headers.iter().flatten();
    headers.for_each(|h| request.push_str(&format!("{}: {}\r\n", h.name, h.value)));
    request.push_str(&format!(
        "Host: {address}\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ));
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    // The status line is all that matters; 12 bytes hold `HTTP/1.1 200`.
    let mut head = [0_u8; 12];
    if stream.read_exact(&mut head).await.is_err() {
        return false;
    }
    let status = std::str::from_utf8(&head[9..])
        .ok()
        .and_then(|s| s.parse::<u16>().ok());
    status.is_some_and(|code| (200..400).contains(&code))
}

async fn run_command(command: &[String], target: &Target) -> bool {
    let (program, args) = super::process::program(command, Path::new(&target.exe));
    let status = tokio::process::Command::new(program)
        .args(args)
        .envs(target.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(json: serde_json::Value) -> Probe {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn failures_before_the_first_success_count_by_time_and_later_ones_by_number() {
        let start = Instant::now();
        let p = probe(
            serde_json::json!({"periodSeconds": 10, "failureThreshold": 3, "initialDelaySeconds": 5}),
        );
        let mut gauge = Gauge::new("liveness", &p, start);
        assert_eq!(gauge.pace(), EAGER);
        for tick in 0..600 {
            assert_eq!(
                gauge.record(false, start + EAGER * tick),
                Step::Nothing,
                "tick {tick}"
            );
        }
        assert_eq!(
            gauge.record(false, start + Duration::from_secs(35)),
            Step::Failed
        );
        let mut gauge = Gauge::new("liveness", &p, start);
        assert_eq!(gauge.record(true, start), Step::Passed);
        assert_eq!(gauge.pace(), Duration::from_secs(10));
        let late = start + Duration::from_secs(1000);
        assert_eq!(
            [
                gauge.record(false, late),
                gauge.record(false, late),
                gauge.record(false, late)
            ],
            [Step::Nothing, Step::Nothing, Step::Failed]
        );
    }

    #[test]
    fn a_named_port_is_the_containers_and_offsets_apply() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "http", "containerPort": 9404}]}),
        )
        .unwrap();
        let target = Target {
            address: Ipv4Addr::new(127, 0, 10, 3),
            port_offset: 100,
            exe: PathBuf::new(),
            env: vec![],
        };
        let at = |port| socket(None, &port, &container, &target).map(|a| a.to_string());
        assert_eq!(
            at(IntOrString::String("http".into())).as_deref(),
            Some("127.0.10.3:9504")
        );
        assert_eq!(at(IntOrString::Int(1)).as_deref(), Some("127.0.10.3:101"));
        assert_eq!(at(IntOrString::String("none".into())), None);
    }
}
