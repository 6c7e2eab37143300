//! Do the in-process API and the node agent behave as Kubernetes does? One binary: the kube types are costly to link.

#![recursion_limit = "512"]

mod api;
mod node;
mod replay;
