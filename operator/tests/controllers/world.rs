//! What does a test stand in? An API, the operator's controllers on it, a machine for the pods, a model of Kafka.

use std::sync::Arc;
use std::time::Duration;

use controlplane::{ControlPlane, ControlPlaneConfig, FaultPlan};
use k8s_openapi::api::core::v1;
use kube::api::PostParams;
use kube::{Api, Client};
use operator::admin::KafkaAdmin;
use operator::{OperatorConfig, OperatorError};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Layer as _;

use crate::kafka::Kafka;
use crate::machine::Machine;
use crate::namespace::Namespace;
use crate::real;
use crate::rights::{GateLayer, Rights};
use crate::samples::typed;

/// How soon a change made by hand in Kafka is noticed, and with it how long an unsettled object waits at most.
const DRIFT: Duration = Duration::from_millis(250);

/// Everything that runs.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) kafka: Arc<Kafka>,
    pub(crate) rights: Arc<Rights>,
    operator: JoinHandle<Result<(), OperatorError>>,
    machine: JoinHandle<()>,
    stop_operator: CancellationToken,
    stop_machine: CancellationToken,
    /// A test that fails stops what it started, too.
    _stops: [DropGuard; 2],
    pub(crate) seed: Option<u64>,
}

impl World {
    /// A world for one test: in process, or one namespace of the real API server that the environment names.
    pub(crate) async fn alone(namespace: &str) -> (Arc<Self>, Namespace) {
        let world = match real::cluster().await {
            Some(cluster) => Self::real(cluster, namespace).await,
            None => Self::in_process(None),
        };
        let world = Arc::new(world);
        let namespace = Self::namespace(&world, namespace).await;
        (world, namespace)
    }

    /// An API in this process; with a seed, every way in which requests and Kafka can fail is injected.
    pub(crate) fn in_process(seed: Option<u64>) -> Self {
        let config = ControlPlaneConfig {
            crds: operator_core::crds(),
            ..ControlPlaneConfig::default()
        };
        let plane = ControlPlane::open(config).expect("the control plane opens");
        let kafka = Arc::new(seed.map_or_else(Kafka::default, Kafka::faulty));
        let rights = Arc::new(Rights::new(Arc::clone(&kafka)));
        let gate = GateLayer(Arc::clone(&rights));
        let client = match seed {
            Some(seed) => {
                let faulty = plane.faulty_service(FaultPlan::seeded(seed));
                Client::new(gate.layer(faulty), "default")
            }
            None => Client::new(gate.layer(plane.service()), "default"),
        };
        let machine = Machine {
            client: plane.reliable_client(),
            kafka: Arc::clone(&kafka),
            namespace: None,
            alone: true,
            plane: Some(plane.clone()),
        };
        Self::start(plane.reliable_client(), client, machine, rights, seed)
    }

    async fn real(cluster: real::Cluster, namespace: &str) -> Self {
        let kafka = Arc::new(Kafka::default());
        let rights = Arc::new(Rights::new(Arc::clone(&kafka)));
        let operator = cluster.operator_client(&GateLayer(Arc::clone(&rights)));
        let machine = Machine {
            client: cluster.admin.clone(),
            kafka: Arc::clone(&kafka),
            namespace: Some(namespace.to_owned()),
            alone: false,
            plane: None,
        };
        Self::start(cluster.admin, operator, machine, rights, None)
    }

    fn start(
        client: Client,
        operator: Client,
        machine: Machine,
        rights: Arc<Rights>,
        seed: Option<u64>,
    ) -> Self {
        let kafka = Arc::clone(&machine.kafka);
        let (stop_operator, stop_machine) = (CancellationToken::new(), CancellationToken::new());
        let admin: Arc<dyn KafkaAdmin> = kafka.clone();
        let mut config = OperatorConfig::new(admin);
        config.drift_interval = DRIFT;
        config.namespaces.extend(machine.namespace.clone());
        Self {
            client,
            kafka,
            rights,
            _stops: [
                stop_operator.clone().drop_guard(),
                stop_machine.clone().drop_guard(),
            ],
            operator: tokio::spawn(operator::run(
                operator,
                config,
                stop_operator.clone().cancelled_owned(),
            )),
            machine: tokio::spawn(machine.run(stop_machine.clone())),
            stop_operator,
            stop_machine,
            seed,
        }
    }

    /// Makes a namespace for one scenario.
    pub(crate) async fn namespace(world: &Arc<Self>, name: &str) -> Namespace {
        let api = Api::<v1::Namespace>::all(world.client.clone());
        real::emptied(&world.client, name).await;
        let object: v1::Namespace = typed(json!({ "metadata": { "name": name } }));
        api.create(&PostParams::default(), &object)
            .await
            .expect("the namespace is created");
        Self::again(world, name)
    }

    /// A namespace that is there already.
    pub(crate) fn again(world: &Arc<Self>, name: &str) -> Namespace {
        Namespace::new(Arc::clone(world), name)
    }

    /// Stops everything and says what must never happen and did.
    pub(crate) async fn finish(self: Arc<Self>) {
        let world = Arc::into_inner(self).expect("every namespace was dropped");
        world.stop_operator.cancel();
        let ended = world.operator.await.expect("the operator does not panic");
        ended.expect("the operator ends when it is asked to");
        world.stop_machine.cancel();
        world.machine.await.expect("the machine does not panic");
        let violations = world.rights.violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}
