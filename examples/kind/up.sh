#!/usr/bin/env bash
# A kind cluster with the operator from its chart and examples/quickstart on it. The image is made of the binary that
# is built here; nothing is pulled but kind's own node image.
#   examples/kind/up.sh [NAME]         default tidemark; a cluster that is there already is used again
# Environment:
#   TIDEMARK_BINARY   a tidemark that is built already; default: cargo build --release
#   KIND_WORKERS      worker nodes beside the control plane; default 0
#   KIND_NODE_IMAGE   default: kind's own
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:-tidemark} t0=$SECONDS
tag=tidemark:kind-$(git rev-parse --short HEAD 2> /dev/null || echo local)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
say() { printf '%4d s  %s\n' $((SECONDS - t0)) "$*"; }

missing=()
need() { command -v "$1" > /dev/null || missing+=("$1: $2"); }
need docker "a container engine that kind can use"
need kind "https://kind.sigs.k8s.io, or go install sigs.k8s.io/kind@v0.33.0"
need kubectl "https://kubernetes.io/docs/tasks/tools"
need helm "https://helm.sh, or go install helm.sh/helm/v3/cmd/helm@v3.19.5"
need go "builds the small program that makes an image without an engine"
[[ -n ${TIDEMARK_BINARY:-} ]] || need cargo "a Rust toolchain, or set TIDEMARK_BINARY"
if command -v docker > /dev/null && ! docker info > /dev/null 2>&1; then
  missing+=("a running engine: $(docker info 2>&1 | grep -iE 'error|cannot' | head -1 || true)")
fi
if ((${#missing[@]})); then
  echo "examples/kind/up.sh cannot run on this machine. Missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi

binary=${TIDEMARK_BINARY:-}
if [[ -z $binary ]]; then
  cargo build --release --locked -p cli
  binary=${CARGO_TARGET_DIR:-target}/release/tidemark
fi
(cd tests/platform/k8s/tools && CGO_ENABLED=0 go build -o "$work/ociimg" ./ociimg)
K8S_BIN=$work tests/platform/k8s/image-of.sh "$work/tidemark.tar" "$tag" "$binary" > /dev/null
say "image $tag, $(du -m "$work/tidemark.tar" | cut -f1) MB"

if ! kind get clusters 2> /dev/null | grep -qx "$name"; then
  { printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n'
    for ((i = 0; i < ${KIND_WORKERS:-0}; i++)); do echo '- role: worker'; done; } > "$work/kind.yaml"
  kind create cluster --name "$name" --config "$work/kind.yaml" --wait 180s ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"}
fi
kind get kubeconfig --name "$name" > "$work/kubeconfig"
export KUBECONFIG=$work/kubeconfig
say "kind cluster $name is up"
kind load image-archive --name "$name" "$work/tidemark.tar"
say "image loaded"

helm upgrade --install tidemark charts/tidemark --namespace tidemark --create-namespace \
  --set image.repository="${tag%:*}",image.tag="${tag#*:}" --wait --timeout 120s > /dev/null
say "operator runs"
kubectl apply -f examples/quickstart
kubectl wait --for=condition=Ready kafkacluster/shop kafkatopic/orders --timeout=300s
say "quickstart is Ready"
kubectl get kafkaclusters,kafkatopics,pods -o wide
cat << TEXT

Try it (context kind-$name):
  echo hello | kubectl exec -i shop-main-0 -- tidemark produce orders -b localhost:9092
  kubectl exec shop-main-1 -- tidemark consume orders -b localhost:9092 --from-beginning --max-messages 1
Remove it: examples/kind/down.sh $name
TEXT
