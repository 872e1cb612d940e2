"""A run that is up: whether each of its services answers and is ready, and whether Triton is."""

from collections.abc import Mapping

from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from infra.doctor.findings import Finding, judged, ok, warning, wrong
from infra.local.stack import Running
from infra.local.status import ask
from services.runtime.health import Report


def services(running: Running) -> list[Finding]:
    trusting = running.trusting
    reports = {name: ask(url, trusting) for name, url in running.services.items()}
    return judged(troubles(reports), "services", f"{len(reports)} answer and are ready")


def troubles(reports: Mapping[str, Report | None]) -> list[Finding]:
    """Say of each service that is not ready what it waits for; None is one that gave no answer."""
    return [found for name, report in reports.items() if (found := _trouble(name, report)) is not None]


def _trouble(name: str, report: Report | None) -> Finding | None:
    if report is None:
        return wrong("services", f"{name} does not answer", f"see its log, {name}.log; `thalweg up` starts it again")
    if not report.alive:
        return wrong(
            "services", f"{name} is {report.status}: {report.waiting_for}", "end that process: a new one helps"
        )
    if report.ready:
        return None
    lasted = "" if report.since_s is None else f" for {report.since_s:.0f} s"
    return warning("services", f"{name} is {report.status}{lasted}", f"it waits for {report.waiting_for}")


def triton_ready(address: str) -> Finding:
    """Ask the server at this gRPC address."""
    client = grpc.InferenceServerClient(address)
    try:
        ready = bool(client.is_server_ready(client_timeout=3))
        models = [
            model.name for model in client.get_model_repository_index(client_timeout=3).models if model.state == "READY"
        ]
    except InferenceServerException as error:
        said = str(error).splitlines()[0][:120]
        return wrong("triton ready", f"no answer from {address}: {said}", "see triton.log; services wait meanwhile")
    finally:
        client.close()
    if not ready or not models:
        return wrong("triton ready", f"{address} answers, and is not ready", "see triton.log")
    return ok("triton ready", f"{address} serves {', '.join(sorted(models))}")
