#!/usr/bin/env bash
# Deletes the kind cluster of up.sh with everything on it, records included.
#   examples/kind/down.sh [NAME]
set -euo pipefail
command -v kind > /dev/null || { echo "examples/kind/down.sh: kind is missing" >&2; exit 1; }
exec kind delete cluster --name "${1:-tidemark}"
