"""Arguments that the chart refuses, and what the message must hold: the value's path and what is wrong with it."""


def refused(value, message):
    return ["--set", value], message


REFUSALS = [
    refused("replicas=-1", "at '/replicas': minimum"),
    refused("replicas=two", "at '/replicas': got string, want integer"),
    refused("replicaCount=2", "additional properties 'replicaCount' not allowed"),
    refused("image.name=x", "additional properties 'name' not allowed"),
    refused("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of"),
    refused("image.tag=a b", "at '/image/tag'"),
    refused("image.digest=sha256:12", "at '/image/digest'"),
    refused("watchNamespaces=kafka", "at '/watchNamespaces': got string, want array"),
    refused("watchNamespaces={Team_A}", "at '/watchNamespaces/0'"),
    refused("watchNamespaces={a\\,a}", "at '/watchNamespaces/0'"),
    refused("watchNamespaces={a,a}", "at '/watchNamespaces': items at 0 and 1 are equal"),
    refused("fullnameOverride=Streams", "at '/fullnameOverride'"),
    refused("leaderElection.enabled=false", "additional properties 'enabled' not allowed"),
    refused("log.format=xml", "at '/log/format': value must be one of"),
    refused("crds.enabled=maybe", "at '/crds/enabled': got string, want boolean"),
    refused("crds.keep=false", "additional properties 'keep' not allowed"),
    refused("resources.limits.memory=lots", "at '/resources/limits/memory'"),
    refused("livenessProbe.httpGet.path=/x", "additional properties 'httpGet' not allowed"),
    refused("podLabels.app\\.kubernetes\\.io/name=x", "invalid propertyName 'app.kubernetes.io/name'"),
    refused("extraEnv[0].name=POD_NAME", "at '/extraEnv/0/name'"),
    refused("metrics.service.port=70000", "at '/metrics/service/port': maximum"),
    refused("metrics.podMonitor.interval=often", "at '/metrics/podMonitor/interval'"),
    refused("metrics.prometheusRule.runbookBaseUrl=docs", "at '/metrics/prometheusRule/runbookBaseUrl'"),
    (["--set", "metrics.prometheusRule.enabled=true,metrics.prometheusRule.disabled={TidemarkTypo}"],
     'there is no alert "TidemarkTypo"; the alerts are TidemarkOfflinePartitions'),
    (["--kube-version", "1.24.0"], "chart requires kubeVersion: >=1.29.0-0"),
]
