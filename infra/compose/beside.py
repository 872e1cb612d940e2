"""What stands beside the services, asked after a trial of them: it has kept, and passed on, what it was given.

`python -m infra.compose.beside PROJECT` ends with 0 if MLflow has a version of the batch model, its row in PostgreSQL
and its graph in S3 as the trainer signed it, and if every span that the collector took has left it for the console.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from infra.compose.engine import Project
from infra.compose.up import say
from services.runtime.models import BATCH

PATIENCE_S = 600.0  # the trainer comes last on a crowded machine
SIGNED = """\
import hashlib, pathlib, sys
from services.runtime.artifacts import Artifacts
print(hashlib.sha256(Artifacts(pathlib.Path("/data"), sys.argv[1]).read(sys.argv[2], int(sys.argv[3]))).hexdigest())
"""  # what the trainer's container itself takes as the graph, its signature checked
ROWS = "SELECT name, version, run_id FROM model_versions"
LEFT_OUT = "otlp/jaeger"  # which compose.all.yaml has not
COUNTED = 'sum by (__name__, exporter) ({__name__=~"otelcol_(receiver|exporter)_.*_spans(_total)?"})'


def main(project: Project) -> None:
    """Ask each; RuntimeError says what is not as it should be."""
    stream = os.environ["STREAM"]
    versions(project, stream)
    spans()


def versions(project: Project, stream: str) -> None:
    """Return when MLflow knows a version; its row is in PostgreSQL and its graph in S3 is the one that was signed."""
    name = f"{stream}_{BATCH}"
    found = eventually(f"MLflow has no version of {name}", lambda: registered(name))
    rows = project.run("postgres", "psql", "-U", "mlflow", "-tAc", ROWS).decode()
    expect(f"{name}|{found['version']}|{found['run_id']}" in rows, f"PostgreSQL has {rows}")
    place = found["source"].removeprefix("mlflow-artifacts:")
    kept = project.run("s3", "wget", "-qO-", f"http://127.0.0.1:8888/buckets/mlflow{place}/model.onnx")
    number = {tag["key"]: tag["value"] for tag in found["tags"]}["thalweg.version"]
    signed = project.run("trainer", "python3.11", "-c", SIGNED, stream, BATCH, number).decode().strip()
    expect(hashlib.sha256(kept).hexdigest() == signed, f"{place} in S3 is not what was signed as {BATCH}@{number}")
    say(f"MLflow has {name} {found['version']} in PostgreSQL; in S3, {len(kept)} bytes are {BATCH}@{number} as signed")


def registered(name: str) -> Mapping[str, Any] | None:
    """Return what MLflow says of the newest version of a model whose run has ended."""
    server = f"http://127.0.0.1:{os.environ['MLFLOW_PORT']}/api/2.0/mlflow"
    found = ask(f"{server}/model-versions/search", filter=f"name = '{name}'").get("model_versions", [])
    ended = (
        one for one in found if ask(f"{server}/runs/get", run_id=one["run_id"])["run"]["info"]["status"] == "FINISHED"
    )
    newest: Mapping[str, Any] | None = max(ended, key=lambda one: int(one["version"]), default=None)
    return newest


def spans() -> None:
    """Return when as many spans have left the collector as were taken; RuntimeError if one was lost."""
    counted = eventually("not every span has left the collector", lambda: all_left(counts()))
    say("the collector: " + ", ".join(f"{what} {count}" for what, count in sorted(counted.items())))


def all_left(counted: Mapping[str, int]) -> Mapping[str, int] | None:
    """Return the counts if what was accepted was sent to the console; RuntimeError if a span is lost."""
    counted = {what: count for what, count in counted.items() if LEFT_OUT not in what}
    lost = {what: count for what, count in counted.items() if count and ("_failed_" in what or "_refused_" in what)}
    expect(not lost, f"the collector lost spans: {lost}")
    accepted = sum(count for what, count in counted.items() if "_accepted_" in what)
    sent = sum(count for what, count in counted.items() if "_sent_" in what)
    return counted if 0 < accepted == sent else None


def counts() -> dict[str, int]:
    """Return what Prometheus was told last by the collector of its spans."""
    answer = ask(f"http://127.0.0.1:{os.environ['PROMETHEUS_PORT']}/api/v1/query", query=COUNTED)
    series = [(one["metric"], int(one["value"][1])) for one in answer["data"]["result"]]
    return {f"{metric['__name__']} {metric.get('exporter', '')}".rstrip(): count for metric, count in series}


def ask(url: str, **given: str) -> Any:  # noqa: ANN401 - JSON
    return httpx.get(url, params=given, timeout=30).raise_for_status().json()


def eventually(otherwise: str, look: Callable[[], Mapping[str, Any] | None]) -> Mapping[str, Any]:
    """Return what is found, once it is; RuntimeError after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(2)
    raise RuntimeError(f"{otherwise} after {PATIENCE_S:.0f} s")


def expect(good: bool, otherwise: str) -> None:  # noqa: FBT001 - the condition is what it is about
    if not good:
        raise RuntimeError(otherwise)


if __name__ == "__main__":
    main(Project(sys.argv[1]))
    sys.exit(0)
