#!/usr/bin/env bash
# The chart on a real API server without nodes: what Helm creates, keeps and takes up again, and whether the rights in single namespaces suffice
# for the operator, which runs here as a process with the token of its account. Needs no root. Closes with `N passed, N failed`.
#   tests/charts/api.sh PATH OF THE tidemark BINARY      (needs what tests/platform/k8s/build.sh makes: etcd, kube-apiserver, kubectl, helm)
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
eval "$(tests/platform/setup env)"
binary=$(realpath "$1"); work=$(mktemp -d); passed=0 failed=0 pids=()
export PATH=$K8S_BIN:$PATH KUBECONFIG=$work/kubeconfig HELM_CONFIG_HOME=$work/helm HELM_CACHE_HOME=$work/helm HELM_DATA_HOME=$work/helm
# everything of them is thrown away, so nothing has to end well
trap 'exec 2> /dev/null; [[ ${#pids[@]} == 0 ]] || kill -KILL "${pids[@]}" 2> /dev/null; wait; rm -rf "$work"' EXIT

check() { # NAME COMMAND...
  local name=$1 t0=$SECONDS; shift
  if "$@" > "$work/out" 2>&1; then passed=$((passed + 1)); echo "ok      $name ($((SECONDS - t0)) s)"; return; fi
  failed=$((failed + 1)); echo "FAILED  $name"; tail -n 30 "$work/out" | sed 's/^/        /'
  tail -n 5 "$work"/*.log | cut -c1-300; finish
}
finish() { echo "$passed passed, $failed failed"; [[ $failed == 0 ]]; exit $?; }
await() { local end=$((SECONDS + $1)); shift; until "$@"; do ((SECONDS < end)) || return 1; read -rt 0.2 <> <(:) || true; done; }
names() { kubectl get "$@" -o name | sort | tr '\n' ' '; }
can() { kubectl auth can-i --as=system:serviceaccount:tidemark:tidemark-operator "$@" > /dev/null 2>&1; }
release=(tidemark --namespace tidemark); image=(--set image.repository=tidemark.test/tidemark,image.tag=ci)
crds='customresourcedefinition.apiextensions.k8s.io/kafkaclusters.tidemark.dev customresourcedefinition.apiextensions.k8s.io/kafkatopics.tidemark.dev '
objects='kafkacluster.tidemark.dev/shop kafkatopic.tidemark.dev/orders statefulset.apps/shop-main '

free_ports() { python3 -c 'import sys; sys.path.insert(0, "tests/charts"); import metrics; print(*metrics.free_ports(4))'; }
api_server() {
  read -r client peer api http < <(free_ports)
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/sa.key" && echo 'admin,admin,admin,system:masters' > "$work/tokens"
  etcd --data-dir "$work/etcd" --unsafe-no-fsync --log-level warn --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" > "$work/etcd.log" 2>&1 &
  pids+=($!)
  kube-apiserver --etcd-servers="http://127.0.0.1:$client" --secure-port="$api" --bind-address=127.0.0.1 --cert-dir="$work/certs" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$work/sa.key" \
    --service-account-signing-key-file="$work/sa.key" --token-auth-file="$work/tokens" --authorization-mode=RBAC --profiling=false > "$work/api.log" 2>&1 &
  pids+=($!)
  kubeconfig admin > "$KUBECONFIG"
  await 60 eval 'kubectl get --raw /readyz > /dev/null && kubectl get namespace default > /dev/null'
}
kubeconfig() { # TOKEN
  cat << Y
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$api", insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: "$1"}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
Y
}
check "an API server answers" api_server

installed() {
  helm package charts/tidemark -d "$work" && kubectl create namespace tidemark &&
    helm install "${release[@]}" "$work"/tidemark-*.tgz "${image[@]}" && kubectl wait --for=condition=Established crd --all --timeout=20s &&
    "$binary" crd > "$work/crds.yaml" && tests/kubernetes/same-crds "$work/crds.yaml" &&
    can list pods -n kube-system && can create leases -n tidemark && ! can create leases -n kube-system && ! can get secrets -n default
}
check "helm install: definitions read back unchanged, rights everywhere, on leases only at home" installed

role_only() {
  kubectl create namespace team-a && kubectl create namespace team-b &&
    helm upgrade "${release[@]}" "$work"/tidemark-*.tgz "${image[@]}" --set 'watchNamespaces={default,team-a},replicas=2' &&
    ! kubectl get clusterrole tidemark-operator && ! can list pods -n team-b && ! can list kafkaclusters -A && ! can get secrets -n default && can list pods -n team-a
}
check "helm upgrade to rights in two namespaces takes the others away" role_only

single_node_in() { # NAMESPACE
  local file
  for file in examples/single-node/*.yaml; do sed "s/namespace: default/namespace: $1/" "$file"; echo ---; done | kubectl apply -f -
}
says_progressing() { [[ $(kubectl -n "$1" get kafkacluster "$2" -o jsonpath='{.status.phase}') == Progressing ]]; }
rights_suffice() {
  kubeconfig "$(kubectl -n tidemark create token tidemark-operator)" > "$work/operator"
  env -i PATH="$PATH" KUBECONFIG="$work/operator" POD_NAME=one POD_NAMESPACE=tidemark TIDEMARK_WATCH_NAMESPACES=default,team-a TIDEMARK_IMAGE=tidemark:ci \
    "$binary" operator --http "127.0.0.1:$http" > "$work/operator.log" 2>&1 &
  local operator=$!; pids+=("$operator")
  kubectl apply -f examples/quickstart && single_node_in team-b && single_node_in team-a &&
    await 30 says_progressing default shop && await 30 says_progressing team-a solo || return 1
  [[ $(names statefulsets -A) == 'statefulset.apps/shop-main statefulset.apps/solo-main ' ]] || return 1
  [[ -z $(kubectl -n team-b get kafkacluster solo -o jsonpath='{.status}') ]] || { echo "team-b is not its business"; return 1; }
  kill "$operator" && wait "$operator" && ! grep -i forbidden "$work/operator.log" &&
    [[ -z $(kubectl -n tidemark get lease tidemark-operator -o jsonpath='{.spec.holderIdentity}') ]]
}
check "these rights suffice: two namespaces are looked after, the third is not, the Lease is given back" rights_suffice

uninstalled() {
  helm uninstall "${release[@]}" && [[ $(names crd) == "$crds" ]] && [[ $(names -n default kafkaclusters,kafkatopics,statefulsets) == "$objects" ]] &&
    [[ -z $(names -n tidemark deployments,services,roles,rolebindings) && -z $(names -n team-a roles,rolebindings) ]]
}
check "helm uninstall keeps definitions, clusters and their StatefulSets, and no right" uninstalled

installed_again() {
  helm install "${release[@]}" "$work"/tidemark-*.tgz "${image[@]}" && helm upgrade "${release[@]}" "$work"/tidemark-*.tgz "${image[@]}" --set crds.enabled=false &&
    [[ $(names crd) == "$crds" ]] && [[ $(names -n default kafkaclusters,kafkatopics,statefulsets) == "$objects" ]] && helm uninstall "${release[@]}"
}
check "helm install takes them up again, and switching them off keeps them" installed_again

other_release() {
  ! helm install other -n tidemark "$work"/tidemark-*.tgz "${image[@]}" || { echo "definitions of another release were taken without being asked"; return 1; }
  helm install other -n tidemark "$work"/tidemark-*.tgz "${image[@]}" --take-ownership && [[ $(names -n tidemark deployments) == 'deployment.apps/other-tidemark-operator ' ]]
}
check "another release takes them only when told to" other_release

upgraded() {
  mkdir "$work/next" && tar -xzf "$work"/tidemark-*.tgz -C "$work/next" && sed -i 's/      name: Phase/      name: Stage/' "$work"/next/tidemark/files/crds/*topics* &&
    helm upgrade other -n tidemark "$work/next/tidemark" "${image[@]}" && await 10 eval 'kubectl get kafkatopics -A | head -1 | grep -w STAGE'
}
check "helm upgrade upgrades definitions" upgraded
finish
