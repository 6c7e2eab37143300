"""Which metrics do the programs export, and which does a PromQL expression use?"""
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def names_in(expression):
    """Names of metrics in an expression: identifiers that are neither functions, operators, labels nor strings."""
    text = re.sub(r'"(\\.|[^"\\])*"', '""', expression)
    text = re.sub(r"\{[^{}]*\}", "", text)
    text = re.sub(r"\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    words = re.findall(r"(?<![\w$.:])([a-zA-Z_:][\w:]*)(\s*\()?", text)
    # an aggregation may have its labels between its name and its parenthesis
    return {word for word, call in words if not call and word.lower() not in KEYWORDS
            and not re.search(rf"\b{word}\s+\(", text)}


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def scrape(command, port, log, env=None):
    """Runs a program until it has answered /metrics once; the names on the page, with those of histograms' parts."""
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env)
        try:
            page, deadline = None, time.monotonic() + 30
            while page is None:
                try:
                    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
                except (urllib.error.URLError, ConnectionError):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"{command}: no metrics; it printed\n{open(log, encoding='utf-8').read()[-3000:]}") from None
                    time.sleep(0.05)
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise RuntimeError(f"{command}: still there 15 s after SIGTERM") from None
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, flags=re.M):
        names |= {name + part for part in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def of_broker(tidemark, work):
    kafka, rpc, http = free_ports(3)
    config = work / "broker.yaml"
    config.write_text(f"""\
apiVersion: tidemark.dev/broker/v1
clusterId: AAAAAAAAQACAAAAAAAAAAQ
nodes:
- {{name: one, id: 0, roles: [controller, broker], host: 127.0.0.1}}
nodeId: 0
dataDir: {work}/broker
listeners:
- {{name: internal, port: {kafka}}}
bindHost: 127.0.0.1
rpcPort: {rpc}
httpPort: {http}
""")
    return scrape([tidemark, "broker", "--config", str(config)], http, work / "broker.log")


def of_operator(tidemark, work):
    """An operator that finds no API server serves its metrics all the same."""
    closed, http = free_ports(2)
    config = work / "kubeconfig"
    config.write_text(f"""\
apiVersion: v1
kind: Config
clusters: [{{name: none, cluster: {{server: "http://127.0.0.1:{closed}"}}}}]
users: [{{name: none, user: {{}}}}]
contexts: [{{name: none, context: {{cluster: none, user: none}}}}]
current-context: none
""")
    return scrape([tidemark, "operator", "--http", f"127.0.0.1:{http}"], http, work / "operator.log", {"KUBECONFIG": str(config)})
