# The chart on the cluster that tests/kubernetes/run has started (it sources this file): installed from its package, upgraded, uninstalled
# over a running cluster, installed again. The namespaces enforce the Pod Security Standard `restricted`.

helm_release=(tidemark --namespace tidemark)
image_values=(--set image.repository=tidemark.test/tidemark,image.tag=ci)
in_default() { kubectl -n default "$@"; }
broker_uids() { in_default get pods -l tidemark.dev/cluster=shop -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid}{"\n"}{end}' | sort; }
partitions_are() { [[ $(in_default get kafkatopic orders -o jsonpath='{.status.partitions}') == "$1" ]]; }
grow() { in_default patch kafkatopic orders --type=merge -p "{\"spec\":{\"partitions\":$1}}" && await 30 partitions_are "$1"; }
can() { kubectl auth can-i --as=system:serviceaccount:tidemark:tidemark-operator "$@" > /dev/null; }

operator_gone() { [[ -z $(kubectl get all,serviceaccounts,roles,rolebindings -n tidemark -o name -l app.kubernetes.io/instance=tidemark) ]]; }

nothing_is_left() {
  "$binary" operator manifests --image tidemark.test/tidemark:ci | kubectl delete --ignore-not-found --timeout=60s -f - &&
    in_default delete pvc -l tidemark.dev/cluster=shop --timeout=60s
}

chart_installed() {
  local t0=$SECONDS
  helm package charts/tidemark -d "$work" &&
    kubectl create namespace tidemark && kubectl label namespace tidemark default pod-security.kubernetes.io/enforce=restricted &&
    helm install "${helm_release[@]}" "$work"/tidemark-*.tgz "${image_values[@]}" --wait --timeout 60s &&
    kubectl apply -f examples/quickstart &&
    kubectl wait --for=condition=Ready kafkacluster/shop kafkatopic/orders --timeout=60s || return 1
  chart_seconds=$((SECONDS - t0))
  kubectl label namespace default pod-security.kubernetes.io/enforce-
  ((chart_seconds < 60)) || { echo "$chart_seconds s from helm install to a Ready topic; wanted less than 60"; return 1; }
}

# A replica of the operator uses less than 64 MiB, as the kubelet measures it.
little_memory() {
  local bytes
  bytes=$(kubectl get --raw /api/v1/nodes/a-node-1/proxy/stats/summary |
    jq '[.pods[] | select(.podRef.namespace == "tidemark") | .containers[].memory.rssBytes] | max')
  echo "$bytes bytes resident"
  [[ $bytes -gt 0 && $bytes -lt $((64 * 1024 * 1024)) ]]
}

single_node_in() { # NAMESPACE
  local file
  for file in examples/single-node/*.yaml; do sed "s/namespace: default/namespace: $1/" "$file"; echo ---; done | kubectl apply -f -
}

# Two namespaces are looked after, a third is not.
role_only() {
  local before; before=$(broker_uids)
  can list pods -n kube-system || { echo "a cluster-wide install cannot list pods"; return 1; }
  kubectl create namespace team-a && kubectl create namespace team-b || return 1
  helm upgrade "${helm_release[@]}" "$work"/tidemark-*.tgz "${image_values[@]}" --set 'watchNamespaces={default,team-a},replicas=2' --wait --timeout 60s || return 1
  [[ $(kubectl -n tidemark get deployment tidemark-operator -o jsonpath='{.status.readyReplicas}') == 2 ]] || return 1
  ! can list pods -n kube-system && ! can list kafkaclusters -A && ! can get secrets -n default && can list pods -n team-a || return 1
  ! kubectl get clusterrole tidemark-operator || return 1
  single_node_in team-b && single_node_in team-a || return 1
  kubectl -n team-a wait --for=condition=Ready kafkacluster/solo kafkatopic/scratch --timeout=60s || return 1
  grow 12 && [[ $(broker_uids) == "$before" ]] || return 1
  [[ -z $(kubectl -n team-b get kafkacluster solo -o jsonpath='{.status}') ]] || { echo "team-b is not its business"; return 1; }
  # in this order: with its namespace the operator's rights would go, and with them the end of what has a finalizer
  kubectl -n team-a delete kafkatopics,kafkaclusters --all --timeout=60s && kubectl delete namespace team-a team-b --timeout=60s
}

uninstalled() {
  local before; before=$(broker_uids)
  kcat_pod chart-produce -P -b $bootstrap -t orders -X acks=all -l /data/thousand || return 1
  helm uninstall "${helm_release[@]}" --wait --timeout 60s || return 1
  await 30 operator_gone || return 1
  kubectl get crd kafkaclusters.tidemark.dev kafkatopics.tidemark.dev && in_default get kafkacluster/shop kafkatopic/orders || return 1
  [[ $(broker_uids) == "$before" && $(broker_uids | wc -l) == 3 ]] || { echo "other pods: $before, now $(broker_uids)"; return 1; }
  [[ $(kcat_pod chart-consume -q -b $bootstrap -G uninstalled -X auto.offset.reset=earliest -c 1000 orders | sort -n | uniq | wc -l) == 1000 ]]
}

installed_again() {
  local before; before=$(broker_uids)
  helm install "${helm_release[@]}" "$work"/tidemark-*.tgz "${image_values[@]}" --wait --timeout 60s &&
    grow 18 && kubectl wait --for=condition=Ready kafkacluster/shop --timeout=60s && [[ $(broker_uids) == "$before" ]]
}

definitions_stay() {
  helm upgrade "${helm_release[@]}" "$work"/tidemark-*.tgz "${image_values[@]}" --set crds.enabled=false --wait --timeout 60s &&
    kubectl get crd kafkaclusters.tidemark.dev && in_default get kafkacluster/shop
}

check "the plain manifests go with all they made" nothing_is_left
check "the packed chart is installed and the quickstart is Ready in less than 60 s" chart_installed
echo "        $chart_seconds s from helm install to a Ready topic"
check "the operator uses less than 64 MiB" little_memory
check "helm upgrade to rights in two namespaces: they suffice, no broker restarts" role_only
check "helm uninstall keeps definitions, clusters, brokers and records" uninstalled
check "helm install takes all of it up again" installed_again
check "definitions that leave the release stay" definitions_stay
