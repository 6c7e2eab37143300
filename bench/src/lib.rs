//! What is measured here? See the binaries: `bench` (loads against clusters) and `grpc_transfer` (what gRPC costs).
