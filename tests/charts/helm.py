"""helm as the tests use it."""
import json
import os
import shutil
import subprocess


class Helm:
    def __init__(self, program, work, converter):
        self.program, self.work, self.converter = program, work, work / "yaml-to-json"
        shutil.copytree(converter, self.converter)
        # Nothing of the user's own settings, and no cluster.
        self.env = dict(os.environ, HELM_CONFIG_HOME=str(work / "config"), HELM_CACHE_HOME=str(work / "cache"),
                        HELM_DATA_HOME=str(work / "data"), KUBECONFIG="/dev/null")

    def try_run(self, *args):
        done = subprocess.run([self.program, *args], env=self.env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def run(self, *args):
        return self.run_program([self.program, *args])

    def run_program(self, command):
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def template(self, chart, *args):
        """What a release `tidemark` in the namespace `kafka-system` would be."""
        return self.run("template", "tidemark", str(chart), "--namespace", "kafka-system", *args)

    def parse(self, text):
        """The documents of a YAML stream, in helm's order of installation."""
        (self.converter / "in.yaml").write_text(text)
        out = self.run("template", "x", str(self.converter))
        found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        for document in found:
            if set(document) == {"Error"}:
                raise RuntimeError(f"not YAML: {document['Error']}\n{text[:2000]}")
        return found
