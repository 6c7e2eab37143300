//! How is the in-process API opened, and how do clients get at it?

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;

use crate::api::{Api, Incoming};
use crate::cel::Evaluator;
use crate::faults::{FaultPlan, FaultyService};
use crate::kinds::Registry;
use crate::schema::parse::SchemaError;
use crate::service::ApiService;
use crate::store::Store;
use crate::store::journal::JournalError;

/// How to open a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlaneConfig {
    /// Where objects are kept across restarts; `None` keeps them in memory only.
    pub data_dir: Option<PathBuf>,
    /// The custom kinds to serve.
    pub crds: Vec<CustomResourceDefinition>,
    /// Faults for [`ControlPlane::client`]; `None` in production.
    pub faults: Option<FaultPlan>,
    /// How many changes a watch may lag behind before it gets 410 Gone.
    pub history: usize,
}

impl Default for ControlPlaneConfig {
    fn default() -> Self {
        // 8192 changes are minutes of a busy quickstart and a few MB.
        Self {
            data_dir: None,
            crds: Vec::new(),
            faults: None,
            history: 8192,
        }
    }
}

/// A control plane that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error("failed to open the control plane's data")]
    Journal(#[from] JournalError),
    /// A CRD cannot be served.
    #[error("failed to serve a custom resource definition")]
    Schema(#[from] SchemaError),
}

/// The in-process Kubernetes API. Cheap to clone; the last clone's end stops it.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    api: Arc<Api>,
    faults: Option<FaultPlan>,
}

impl ControlPlane {
    /// Opens the store (taking the data directory's lock), makes the standard namespaces and starts the garbage
    /// collector. Must be called inside a tokio runtime.
    pub fn open(config: ControlPlaneConfig) -> Result<Self, OpenError> {
        let registry = Arc::new(Registry::new(&config.crds)?);
        let directory = config.data_dir.as_deref();
        let store = Arc::new(Store::open(registry, directory, config.history)?);
        let api = Arc::new(Api {
            store,
            evaluator: Evaluator::new(),
        });
        for namespace in ["default", "kube-system"] {
            ensure_namespace(&api, namespace);
        }
        tokio::spawn(crate::gc::run(Arc::downgrade(&api)));
        Ok(Self {
            api,
            faults: config.faults,
        })
    }

    /// A client of this API, with the configured faults if any; its default namespace is `default`.
    pub fn client(&self) -> kube::Client {
        match &self.faults {
            Some(plan) => self.client_with_faults(plan.clone()),
            None => kube::Client::new(self.service(), "default"),
        }
    }

    /// A client that meets the faults of `plan`.
    pub fn client_with_faults(&self, plan: FaultPlan) -> kube::Client {
        kube::Client::new(self.faulty_service(plan), "default")
    }

    /// The service with the faults of `plan` in front of it, to put own layers around both.
    pub fn faulty_service(&self, plan: FaultPlan) -> FaultyService {
        FaultyService::new(self.service(), plan)
    }

    /// A client that never meets injected faults (the observer of a test).
    pub fn reliable_client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// The service itself, to put own layers around it.
    pub fn service(&self) -> ApiService {
        ApiService {
            api: Arc::clone(&self.api),
        }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.api.store.lock().revision
    }

    /// Forgets the watch history: every watch that resumes gets 410 Gone.
    pub fn compact(&self) {
        self.api.store.lock().compact();
    }
}

fn ensure_namespace(api: &Api, name: &str) {
    let body =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string();
    let request = Incoming {
        method: &http::Method::POST,
        uri: &http::Uri::from_static("/api/v1/namespaces"),
        content_type: "application/json",
        accept: "",
        user_agent: Some("tidemark-controlplane"),
        body: body.as_bytes(),
    };
    match api.handle(&request, jiff::Timestamp::now()) {
        Ok(_) => {}
        Err(e) if e.reason() == "AlreadyExists" => {}
        Err(e) => {
            tracing::error!(namespace = name, error = %e, "failed to create a standard namespace");
        }
    }
}
