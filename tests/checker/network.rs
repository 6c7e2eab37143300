//! Where do the brokers and the clients have their addresses, and who can reach whom?
//!
//! With root rights and `ip`, each broker and the clients have a network namespace of their own, joined by a router in one
//! more; nothing of it is seen by the machine's own network. A link is cut in the router, which then drops packets without a word, as a
//! broken switch does. Otherwise all of them have loopback addresses, and no link can be cut.

use std::net::TcpListener;
use std::process::{Command, Output};

use tests::cluster::claim_network;

/// Brokers of a cluster.
pub(crate) const BROKERS: usize = 5;
/// The place of the clients, after the brokers.
pub(crate) const CLIENTS: usize = BROKERS;

/// Network namespaces, or loopback addresses.
#[derive(Debug)]
pub(crate) enum Network {
    /// Namespaces whose names begin so.
    Namespaces(String),
    /// 127.0.N.0/24, held by a claim.
    Loopback { third: u8, _claim: TcpListener },
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn ip(args: &[&str]) -> Result<Output, String> {
    run(Command::new("ip").args(args))
}

impl Network {
    /// Namespaces where they can be made; else loopback, and why.
    pub(crate) fn new() -> (Self, Option<String>) {
        let namespaces = Self::Namespaces(format!("checker{}", std::process::id()));
        match namespaces.build() {
            Ok(()) => (namespaces, None),
            Err(why) => {
                let (third, claim) = claim_network();
                (
                    Self::Loopback {
                        third,
                        _claim: claim,
                    },
                    Some(why),
                )
            }
        }
    }

    fn namespace(&self, place: Option<usize>) -> String {
        let Self::Namespaces(prefix) = self else {
            return String::new();
        };
        place.map_or_else(
            || format!("{prefix}-router"),
            |place| format!("{prefix}-{place}"),
        )
    }

    fn build(&self) -> Result<(), String> {
        let router = self.namespace(None);
        ip(&["netns", "add", &router])?;
        let forward = "net.ipv4.ip_forward=1";
        ip(&["netns", "exec", &router, "sysctl", "-qw", forward])?;
        (0..=CLIENTS).try_for_each(|place| self.attach(&router, place))
    }

    /// A namespace with one address and one link, to the router.
    fn attach(&self, router: &str, place: usize) -> Result<(), String> {
        let (own, link) = (self.namespace(Some(place)), format!("to{place}"));
        let (address, gateway) = (self.address(place), format!("10.77.{}.1", place + 1));
        let pair = [
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            own.as_str(),
        ];
        let add = ["-n", router, "link", "add", link.as_str()];
        ip(&["netns", "add", &own])?;
        ip(&[&add[..], &pair[..]].concat())?;
        for (namespace, device, address) in [
            (router, link.as_str(), gateway.as_str()),
            (own.as_str(), "eth0", address.as_str()),
        ] {
            let address = format!("{address}/24");
            ip(&["-n", namespace, "addr", "add", &address, "dev", device])?;
            ip(&["-n", namespace, "link", "set", device, "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        ip(&["-n", &own, "route", "add", "default", "via", &gateway])?;
        Ok(())
    }

    pub(crate) const fn can_be_cut(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// The address of a broker, or of the clients.
    pub(crate) fn address(&self, place: usize) -> String {
        match self {
            Self::Namespaces(_) => format!("10.77.{}.2", place + 1),
            Self::Loopback { third, .. } => format!("127.0.{third}.{}", place + 1),
        }
    }

    /// A command that runs at a place.
    pub(crate) fn command(&self, place: usize, program: &std::path::Path) -> Command {
        match self {
            Self::Namespaces(_) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &self.namespace(Some(place))]);
                command.arg(program);
                command
            }
            Self::Loopback { .. } => Command::new(program),
        }
    }

    /// Nothing gets from one place to another any more.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.rule("add", from, to);
    }

    /// Undoes [`Network::cut`].
    pub(crate) fn join(&self, from: usize, to: usize) {
        self.rule("del", from, to);
    }

    fn rule(&self, verb: &str, from: usize, to: usize) {
        let (router, from, to) = (self.namespace(None), self.address(from), self.address(to));
        ip(&[
            "-n",
            &router,
            "rule",
            verb,
            "blackhole",
            "from",
            &from,
            "to",
            &to,
            "priority",
            "100",
        ])
        .expect("the router takes rules");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.can_be_cut() {
            for place in (0..=CLIENTS).map(Some).chain([None]) {
                // Those that were never made cannot be deleted, which is what is wanted.
                drop(ip(&["netns", "del", &self.namespace(place)]));
            }
        }
    }
}
