//! What do the end-to-end tests share: building the binary once, starting clusters, running real clients?
