#!/usr/bin/env python3
"""The checks of tests/charts/run. Only Python's standard library: YAML is read by helm itself."""
import argparse
import difflib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import metrics
from helm import Helm
from refusals import REFUSALS

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/charts"
CHART = ROOT / "charts/tidemark"
RUNBOOKS = ROOT / "docs/operating/runbooks"
# Metrics that others export, which alerts may use: the kubelet's.
FOREIGN_METRICS = {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
# Kinds that are not in a namespace.
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}
RBAC_HEAD = """\
# The operator's rights: the rules of the roles that `tidemark operator manifests` prints. Written by `tests/charts/run --bless`,
# which also checks that the two are equal.
rules:
"""


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def require(condition, message):
    if not condition:
        raise Failed(message)


def equal(what, ours, theirs):
    if ours != theirs:
        show = lambda value: json.dumps(value, indent=1, sort_keys=True).splitlines()
        diff = list(difflib.unified_diff(show(theirs), show(ours), "expected", "chart", lineterm=""))
        raise Failed(f"{what}:\n" + "\n".join(diff[:60]))


class Checks:
    def __init__(self, helm, tidemark, promtool, work, bless):
        self.helm, self.tidemark, self.promtool, self.work, self.bless = helm, tidemark, promtool, work, bless
        self.values = sorted((HERE / "values").glob("*.yaml"))
        self.manifests = helm.parse(helm.run_program([tidemark, "operator", "manifests", "--image", "tidemark:0.1.0"]))

    def objects(self, *args):
        return self.helm.parse(self.helm.template(CHART, *args))

    def named(self, name):
        return self.objects("-f", str(HERE / f"values/{name}.yaml"))

    # --- the checks, in the order they run

    def check_crds_equal(self):
        """the CRDs in the chart are those of crds/, and Helm keeps them"""
        sources = {path.name: path.read_text().split("\n") for path in sorted((ROOT / "crds").glob("*.yaml"))}
        if self.bless:
            shutil.rmtree(CHART / "files/crds")
            (CHART / "files/crds").mkdir()
            for name, lines in sources.items():
                (CHART / "files/crds" / name).write_text("\n".join(lines))
        equal("files/crds", {path.name: path.read_text().split("\n") for path in (CHART / "files/crds").glob("*")}, sources)
        rendered = [o for o in self.objects() if o["kind"] == "CustomResourceDefinition"]
        for crd in rendered:
            notes = crd["metadata"].pop("annotations")
            require(notes.get("helm.sh/resource-policy") == "keep", f"{crd['metadata']['name']} goes with the release")
            crd["metadata"].pop("labels")
        expected = [crd for lines in sources.values() for crd in self.helm.parse("\n".join(lines))]
        by_name = lambda crds: {crd["metadata"]["name"]: crd for crd in crds}
        equal("rendered CRDs", by_name(rendered), by_name(expected))
        printed = [o for o in self.manifests if o["kind"] == "CustomResourceDefinition"]
        equal("CRDs of `tidemark operator manifests`", by_name(rendered), by_name(printed))

    def check_rights_equal(self):
        """the rights are those of `tidemark operator manifests`, in both modes"""
        rules = [r for o in self.manifests if o["kind"] in ("ClusterRole", "Role") for r in o["rules"]]
        if self.bless:
            flow = lambda items: "[" + ", ".join(item or '""' for item in items) + "]"
            (CHART / "files/rbac.yaml").write_text(RBAC_HEAD + "".join(
                f"- apiGroups: {flow(r['apiGroups'])}\n  resources: {flow(r['resources'])}\n  verbs: {flow(r['verbs'])}\n" for r in rules))
        wanted = rights(rules)
        leases = {right for right in wanted if right[1] == "leases"}
        require(leases, "no rights on leases: the operator could not elect a leader")
        roles = self.roles(self.objects())
        equal("cluster-wide mode", {name: sorted(rights(role)) for name, role in roles.items() if not name.endswith(("-view", "-edit"))},
              {"ClusterRole tidemark-operator": sorted(wanted - leases), "Role kafka-system/tidemark-operator-lease": sorted(leases)})
        roles = self.roles(self.named("namespaced"))
        equal("namespaced mode", {name: sorted(rights(role)) for name, role in roles.items()}, {
            "Role kafka/tidemark-operator": sorted(wanted - leases), "Role team-a/tidemark-operator": sorted(wanted - leases),
            "Role kafka-system/tidemark-operator-lease": sorted(leases)})
        for _, resource, verb in wanted:
            require("*" not in (resource, verb), f"wildcard: {verb} {resource}")

    def roles(self, objects):
        """Rules by role, of the roles that are bound to the operator's account, and unbound ones of the chart."""
        name = lambda o: f"{o['kind']} " + (f"{o['metadata']['namespace']}/" if "namespace" in o["metadata"] else "") + o["metadata"]["name"]
        roles = {name(o): o["rules"] for o in objects if o["kind"] in ("Role", "ClusterRole")}
        bound = {name({"kind": o["roleRef"]["kind"], "metadata": dict(o["metadata"], name=o["roleRef"]["name"])})
                 for o in objects if o["kind"] in ("RoleBinding", "ClusterRoleBinding")}
        aggregated = {n for n in roles if n.endswith(("-view", "-edit"))}
        equal("bound roles", sorted(bound), sorted(set(roles) - aggregated))
        return roles

    def check_aggregated_roles(self):
        """the roles for users name every kind"""
        kinds = sorted(path.name.split(".")[0] for path in (ROOT / "crds").glob("*.yaml"))
        roles = {o["metadata"]["name"]: o for o in self.objects() if o["kind"] == "ClusterRole"}
        for name in ("tidemark-operator-view", "tidemark-operator-edit"):
            equal(name, roles[name]["rules"][0]["resources"], kinds)

    def check_only_namespaced_objects(self):
        """a namespaced install without CRDs has no cluster-wide object"""
        wide = [f"{o['kind']} {o['metadata']['name']}" for o in self.named("namespaced") if o["kind"] in CLUSTER_WIDE]
        equal("cluster-wide objects", wide, [])
        spaces = {o["metadata"]["namespace"] for o in self.named("namespaced")}
        equal("namespaces", sorted(spaces), ["kafka", "kafka-system", "team-a"])

    def check_deployment_agrees(self):
        """the Deployment runs the operator as `tidemark operator manifests` does, and as `restricted` demands"""
        find = lambda objects: next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]
        chart, plain = find(self.objects()), find(self.manifests)
        equal("pod security context", chart["securityContext"], plain["securityContext"])
        ours, theirs = chart["containers"][0], plain["containers"][0]
        for field in ("image", "imagePullPolicy", "command", "args", "securityContext", "resources"):
            equal(field, ours[field], theirs[field])
        for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            equal(probe, ours[probe]["httpGet"]["path"], theirs[probe]["httpGet"]["path"])
        equal("port", ours["ports"][0]["containerPort"], theirs["ports"][0]["containerPort"])
        names = {e["name"] for e in theirs["env"]} - {e["name"] for e in ours["env"]}
        equal("variables that the chart does not set", sorted(names), [])
        require(chart["securityContext"]["runAsNonRoot"] and chart["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", "pod")
        require(not ours["securityContext"]["allowPrivilegeEscalation"] and ours["securityContext"]["readOnlyRootFilesystem"], "container")
        equal("capabilities", ours["securityContext"]["capabilities"], {"drop": ["ALL"]})

    def check_lint(self):
        """helm lint has nothing to say"""
        for path in self.values:
            out = self.helm.run("lint", "--strict", "-f", str(path), str(CHART))
            require("[WARNING]" not in out and "[ERROR]" not in out, out)

    def check_goldens(self):
        """every values file renders its golden objects"""
        for path in self.values:
            text = shortened(self.helm.template(CHART, "-f", str(path)))
            golden = HERE / "golden" / path.name
            if self.bless:
                golden.write_text(text)
            old = golden.read_text() if golden.exists() else ""
            diff = list(difflib.unified_diff(old.splitlines(), text.splitlines(), str(golden.relative_to(ROOT)), "rendered", lineterm=""))
            require(not diff, "\n".join(diff[:80]) + "\n(tests/charts/run --bless writes it)")
        known = {path.name for path in self.values}
        stray = [path.name for path in (HERE / "golden").iterdir() if path.name not in known]
        equal("goldens without values", stray, [])

    def check_packed(self):
        """the packed chart renders what the folder does"""
        self.helm.run("package", str(CHART), "-d", str(self.work))
        packed = next(self.work.glob("tidemark-*.tgz"))
        values = str(HERE / "values/production.yaml")
        require(self.helm.template(packed, "-f", values) == self.helm.template(CHART, "-f", values), "they differ")

    def check_refusals(self):
        """values that make no sense are refused with a message that says which"""
        for arguments, message in REFUSALS:
            code, out = self.helm.try_run("template", "tidemark", str(CHART), *arguments)
            require(code != 0, f"accepted: {arguments}")
            require(message in out, f"{arguments}: expected {message!r} in\n{out}")

    def check_schema_is_complete(self):
        """the README and the schema speak of every value, and every value of the schema has a default"""
        schema = json.loads((CHART / "values.schema.json").read_text())
        values = self.helm.parse((CHART / "values.yaml").read_text())[0]
        readme = (CHART / "README.md").read_text()
        missing = []

        def visit(path, node, default):
            for key, child in node.get("properties", {}).items():
                name = f"{path}{key}"
                if name in ("global", "resources.claims") or path.endswith("Probe."):
                    continue
                if not isinstance(default, dict) or key not in default:
                    if path not in ("resources.",):
                        missing.append(f"{name} has no default in values.yaml")
                    continue
                if child.get("properties"):
                    visit(f"{name}.", child, default[key])
                elif f"`{name}`" not in readme and not any(f"`{name[:n]}`" in readme for n in range(len(name)) if name[n] == "."):
                    missing.append(f"README.md does not name {name}")

        visit("", schema, values)
        equal("values", missing, [])

    def check_metric_names(self):
        """alerts and dashboards use only metrics that a running broker or operator exports"""
        broker, operator = metrics.of_broker(self.tidemark, self.work), metrics.of_operator(self.tidemark, self.work)
        require(len(broker) > 20 and len(operator) >= 3, f"few metrics: {broker} {operator}")
        used = {}
        for group in self.helm.parse((CHART / "files/alerts.yaml").read_text())[0]["groups"]:
            for rule in group["rules"]:
                used.setdefault(rule["alert"], set()).update(metrics.names_in(rule["expr"]))
        for path in (CHART / "files/dashboards").glob("*.json"):
            board = json.loads(path.read_text())
            for panel in board["panels"]:
                for target in panel.get("targets", []):
                    used.setdefault(f"{path.name}: {panel['title']}", set()).update(metrics.names_in(target["expr"]))
            for variable in board["templating"]["list"]:
                found = re.match(r"label_values\(([a-z_]+)", variable.get("definition", ""))
                if found:
                    used.setdefault(f"{path.name}: ${variable['name']}", set()).add(found[1])
        require(all(used.values()), f"an expression without a metric: {[k for k, v in used.items() if not v]}")
        unknown = [f"{where}: {name}" for where, names in sorted(used.items())
                   for name in sorted(names - broker - operator - FOREIGN_METRICS)]
        equal("metrics that nobody exports", unknown, [])
        shown = set().union(*used.values())
        unseen = sorted(name for name in operator | {n for n in broker if n.startswith("tidemark_")}
                        if name not in shown and not name.endswith(("_sum", "_count", "_bucket")))
        equal("metrics of ours that no alert or dashboard shows", unseen, [])

    def check_alerts_fire(self):
        """Prometheus reads the alerts: each fires on its series after its time, none on healthy ones"""
        rules, test = CHART / "files/alerts.yaml", HERE / "alerts.test.yaml"
        asked = set(re.findall(r'alertname="(\w+)",alertstate="firing",severity=', test.read_text()))
        alerts = {rule["alert"] for group in self.helm.parse(rules.read_text())[0]["groups"] for rule in group["rules"]}
        equal("alerts that fire in alerts.test.yaml", sorted(asked), sorted(alerts))
        if not Path(self.promtool).is_file():
            raise Skipped(f"no {self.promtool}: run tests/platform/setup")
        for command in (["check", "rules", str(rules)], ["test", "rules", str(test)]):
            done = subprocess.run([self.promtool, *command], capture_output=True, text=True, check=False)
            require(done.returncode == 0, f"promtool {command[0]} rules:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def check_runbooks(self):
        """each alert has a runbook that exists, and each runbook an alert"""
        base = "https://docs.example.com/runbooks/"
        rule = next(o for o in self.named("production") if o["kind"] == "PrometheusRule")
        everything = next(o for o in self.objects("--set", "metrics.prometheusRule.enabled=true") if o["kind"] == "PrometheusRule")
        alerts = [r for g in everything["spec"]["groups"] for r in g["rules"]]
        left_out = {r["alert"] for r in alerts} - {r["alert"] for g in rule["spec"]["groups"] for r in g["rules"]}
        equal("alerts left out", sorted(left_out), ["TidemarkMetricsDropped"])
        for group in rule["spec"]["groups"]:
            for alert in group["rules"]:
                require(alert["annotations"]["runbook_url"].startswith(base), alert["annotations"]["runbook_url"])
        named = {r["annotations"]["runbook_url"].rsplit("/", 1)[1]: r["alert"] for r in alerts}
        equal("runbooks", sorted(named), sorted(p.name for p in RUNBOOKS.glob("*.md") if p.name != "README.md"))
        index = (RUNBOOKS / "README.md").read_text()
        for alert in alerts:
            require(alert["labels"]["severity"] in ("critical", "warning", "info"), alert["alert"])
            require({"summary", "description"} <= set(alert["annotations"]), alert["alert"])
            page = alert["annotations"]["runbook_url"].rsplit("/", 1)[1]
            require((RUNBOOKS / page).read_text().startswith(f"# {alert['alert']}\n"), f"{page} is about another alert")
            require(f"| {alert['alert']} | {alert['labels']['severity']} | [{page}]({page}) |" in index, f"README.md lacks {alert['alert']}")

    def check_dashboards(self):
        """dashboards are whole: unique panels that do not overlap, each with a query, and the ConfigMaps hold the files"""
        for path in (CHART / "files/dashboards").glob("*.json"):
            board = json.loads(path.read_text())
            panels = board["panels"]
            require(len({p["id"] for p in panels}) == len(panels), f"{path.name}: ids repeat")
            taken = set()
            for panel in panels:
                at = panel["gridPos"]
                cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
                require(not cells & taken and at["x"] + at["w"] <= 24, f"{path.name}: {panel['title']} overlaps")
                taken |= cells
                require(panel["type"] == "row" or panel["targets"], f"{path.name}: {panel['title']} is empty")
        maps = [o for o in self.named("production") if o["kind"] == "ConfigMap"]
        equal("namespaces", {o["metadata"]["namespace"] for o in maps} == {"monitoring"}, True)
        held = {name: json.loads(text) for o in maps for name, text in o["data"].items()}
        files = {f"tidemark-{p.name}": json.loads(p.read_text()) for p in (CHART / "files/dashboards").glob("*.json")}
        equal("dashboards in ConfigMaps", held, files)


def rights(rules):
    """Every (group, resource, verb) that rules grant."""
    require(all(set(rule) <= {"apiGroups", "resources", "verbs"} for rule in rules), "a rule with something else")
    return {(group, resource, verb) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]}


def shortened(text):
    """Rendered objects without what has a check of its own: CRDs, and the text of dashboards."""
    documents = [d for d in re.split(r"^---\n", text, flags=re.M) if d.strip() and "\nkind: CustomResourceDefinition\n" not in d]
    documents = [re.sub(r"(?m)^(  tidemark-\S+\.json: \|-\n)(?:    .*\n|\n)+", r"\1    ...\n", d) for d in documents]
    return "---\n" + "---\n".join(documents)


def main():
    parser = argparse.ArgumentParser()
    for option in ("--helm", "--tidemark", "--promtool"):
        parser.add_argument(option, required=True)
    parser.add_argument("--bless", action="store_true")
    args = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as work:
        checks = Checks(Helm(args.helm, Path(work), HERE / "yaml-to-json"), args.tidemark, args.promtool, Path(work), args.bless)
        for name, check in vars(Checks).items():
            if not name.startswith("check_"):
                continue
            try:
                check(checks)
                print(f"ok      {check.__doc__}")
                passed += 1
            except Skipped as missing:
                print(f"SKIPPED {check.__doc__}: {missing}")
            except (Failed, OSError, KeyError, StopIteration, RuntimeError) as error:
                print(f"FAILED  {check.__doc__}\n        " + f"{type(error).__name__}: {error}".replace("\n", "\n        "))
                failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
