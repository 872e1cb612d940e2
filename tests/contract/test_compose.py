"""The stack in containers: what compose.yaml promises, held against the file and what docker-compose makes of it."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent.name for path in (ROOT / "services").glob("*/__main__.py"))
FILES = {
    "compose.yaml": ("compose.yaml",),
    "local": ("compose.yaml", "infra/compose.local.yaml"),
    "all": ("compose.yaml", "infra/compose.all.yaml"),
}
ELSEWHERE = {"otel-collector", "jaeger", "grafana", "postgres", "s3", "mlflow"}  # what has no stand-in
has_compose = pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")


def read(path: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return loaded


def pins() -> dict[str, str]:
    lines = (line for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def flaws(service: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a service of a compose file."""
    if str(service.get("user", "root")).split(":")[0] in ("0", "root"):
        yield "root"
    if service.get("read_only") is not True:
        yield "a root file system that can be written"
    if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
        yield "privileges"
    yield from (f"port {port}" for port in service.get("ports", []) if not str(port).startswith("127.0.0.1:"))
    yield from (f"no {limit}" for limit in ("mem_limit", "cpus", "pids_limit", "restart") if limit not in service)
    if not re.fullmatch(r"\$\{[A-Z0-9_]+_IMAGE\}|thalweg/[a-z]+:\$\{VERSION\}", service.get("image", "")):
        yield "an image that .env does not pin"
    if service.get("privileged") or service.get("network_mode") == "host":
        yield "the host's own"


GOOD = {
    "user": "1:1",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "ports": ["127.0.0.1:80:80"],
    "mem_limit": "1g",
    "cpus": 1.0,
    "pids_limit": 9,
    "restart": "unless-stopped",
    "image": "${KAFKA_IMAGE}",
}


@pytest.mark.parametrize("name", read("compose.yaml")["services"])
def test_a_container_is_hardened(name: str) -> None:
    """No container is root, writes to its root file system, listens beyond loopback, or is without limits and a pin."""
    assert list(flaws(read("compose.yaml")["services"][name])) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"user": "0:0"},
        {"user": "root"},
        {"read_only": False},
        {"cap_drop": []},
        {"security_opt": []},
        {"ports": ["8080:8080"]},
        {"ports": ["0.0.0.0:80:80"]},
        {"image": "apache/kafka:latest"},
        {"privileged": True},
    ],
)
def test_the_rule_finds_what_is_wrong(bad: dict[str, Any]) -> None:
    """The rule itself: what is good is found good, and each flaw is found."""
    assert list(flaws(GOOD)) == []
    assert len(list(flaws(GOOD | bad))) == 1


def test_every_image_is_pinned_in_one_place() -> None:
    """Each image has one line in .env with an exact tag, is used, and is named in no other file."""
    images = {name: pin for name, pin in pins().items() if name.endswith("_IMAGE")}
    used = set(re.findall(r"\$\{(\w+_IMAGE)\}", (ROOT / "compose.yaml").read_text()))
    assert used == set(images)
    for pin in images.values():
        image, _, tag = pin.rpartition(":")
        assert re.search(r"\d+\.\d+", tag), f"{pin}: no exact version"
        for path in ("compose.yaml", "infra/compose.local.yaml"):
            assert f"image: {image}" not in (ROOT / path).read_text(), f"{path} names {image}"


def test_no_secret_is_among_the_pins() -> None:
    """.env is public: no line of it is a password, a key or a token; `infra/compose/secrets` makes those, in files."""
    assert [name for name in pins() if re.search(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY", name)] == []
    secrets = read("compose.yaml")["secrets"]
    assert all(one["file"].startswith(".run/secrets/") for one in secrets.values())
    for name in secrets:
        assert re.search(rf"\b{name}\b", (ROOT / "infra" / "compose" / "secrets").read_text()), name


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    """`infra/compose/secrets` makes all that compose.yaml reads, and changes nothing when it is run again."""
    script = tmp_path / "infra" / "compose" / "secrets"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "infra" / "compose" / "secrets", script)
    made: list[dict[str, bytes]] = []
    for _ in range(3):
        subprocess.run([script], check=True)
        made.append({path.name: path.read_bytes() for path in (tmp_path / ".run" / "secrets").iterdir()})
    assert set(made[0]) == set(read("compose.yaml")["secrets"])
    assert all(made[0].values())
    assert made[0] == made[1] == made[2]


def test_kafkas_image_is_the_version_that_the_jars_are() -> None:
    """The guarantees are proven on the version that infra/kafka/pom.xml names; the stack runs the same."""
    found = re.search(r"<kafka.version>(.+?)<", (ROOT / "infra" / "kafka" / "pom.xml").read_text())
    assert found
    assert pins()["KAFKA_IMAGE"].endswith(f":{found[1]}")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_service_starts_when_what_it_needs_is_there(name: str) -> None:
    """Each service folder has a compose service of its name, gated by the log's health and by what is prepared."""
    service = read("compose.yaml")["services"][name]
    assert service["command"] == [f"services.{name}"]
    needs = {what: how["condition"] for what, how in service["depends_on"].items()}
    assert needs["kafka"] == "service_healthy"
    assert needs["prepare"] == "service_completed_successfully"


@has_compose
@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_docker_compose_takes_it(files: tuple[str, ...]) -> None:
    """`docker-compose config` accepts the files, and every service of ours is in what it makes of them."""
    assert set(FOLDERS) <= set(config(files)["services"])


@has_compose
def test_the_local_stack_needs_no_registry() -> None:
    """What starts with compose.local.yaml is of images that are built here, and what has none is left out."""
    services = config(FILES["local"])["services"]
    starts = {name: one for name, one in services.items() if not one.get("profiles")}
    assert set(FOLDERS) | {"kafka", "triton", "prometheus", "alertmanager", "prepare"} == set(starts)
    assert {name for name, one in starts.items() if not one["image"].startswith("thalweg/")} == set()
    assert {name for name, one in services.items() if one.get("profiles") == ["registry"]} == ELSEWHERE


@has_compose
def test_most_of_the_stack_needs_no_registry() -> None:
    """With compose.all.yaml all but Jaeger and Grafana is of images that are built here, whichever profile is on."""
    ours = {name for name, one in config(FILES["all"])["services"].items() if one["image"].startswith("thalweg/")}
    assert ours == set(read("compose.yaml")["services"]) - {"jaeger", "grafana"}


def test_a_stand_in_runs_under_the_settings_of_the_real_one() -> None:
    """In compose.all.yaml a stand-in differs by its image and what that starts: the rest of compose.yaml is tried."""
    services = read("infra/compose.all.yaml")["services"]
    assert services.pop("jaeger") == services.pop("grafana") == {"profiles": ["registry"]}
    assert {key for one in services.values() for key in one} == {"image", "entrypoint"}


def test_a_stand_in_is_of_the_version_that_is_pinned() -> None:
    """MLflow and the Collector are tried in the versions of .env."""
    mlflow = re.search(r"^mlflow==(.+)$", (STANDINS / "mlflow.txt").read_text(), re.MULTILINE)
    assert mlflow
    assert f":v{mlflow[1]}-" in pins()["MLFLOW_IMAGE"]
    assert pins()["OTEL_COLLECTOR_IMAGE"].endswith(f":{read('infra/images/standins/collector.yml')['dist']['version']}")


def test_the_collector_is_built_of_what_it_is_configured_with() -> None:
    """The stand-in has the parts that infra/compose/collector.yml names, and no other."""
    told, built = read("infra/compose/collector.yml"), read("infra/images/standins/collector.yml")
    for kind in ("receivers", "processors", "exporters", "extensions"):
        wanted = {name.partition("/")[0].replace("_", "") + kind.removesuffix("s") for name in told[kind]}
        assert {one["gomod"].split()[0].rpartition("/")[2] for one in built[kind]} == wanted


def test_mlflow_takes_the_name_that_the_trainer_calls_it_by() -> None:
    """MLflow answers 403 where the Host of a request is not among those that it is told."""
    services = read("compose.yaml")["services"]
    called = services["trainer"]["environment"]["THALWEG_TRAINER_MLFLOW"].removeprefix("http://")
    assert called in services["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


@has_compose
def test_no_span_is_sent_to_what_is_left_out() -> None:
    """With compose.local.yaml no setting and no command names a container that does not start."""
    for name, one in config(FILES["local"])["services"].items():
        if not one.get("profiles"):
            told = f"{one.get('environment')} {one.get('command')}"
            assert [other for other in ELSEWHERE if f"//{other}:" in told] == [], name


def config(files: tuple[str, ...]) -> dict[str, Any]:
    """Return what docker-compose makes of the files."""
    named = [word for file in files for word in ("-f", file)]
    found = shutil.which("docker-compose")
    assert found is not None
    done = subprocess.run([found, *named, "config"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = yaml.safe_load(done.stdout)
    return loaded


STANDINS = ROOT / "infra" / "images" / "standins"
DOCKERFILES = ["infra/images/Dockerfile", "infra/images/triton.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES)
def test_an_image_is_of_wheels_alone(path: str) -> None:
    """Packages come from wheels that were made outside: no compiler, no index; what is built in is not in the image."""
    text = (ROOT / path).read_text()
    assert not re.search(r"\b(gcc|g\+\+|clang|build-essential|make|python3\.11-dev)\b", text)
    for line in text.splitlines():
        if "pip-*.whl" in line:
            assert "--no-index" in line, line
    built = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    for stage in (one for one in built if "ENTRYPOINT" in one):
        assert "wheels" not in stage
        for said in ("USER ", "HEALTHCHECK ", "sbom.json", "org.opencontainers.image.revision"):
            assert said in stage, f"{path}: {stage.splitlines()[0]} has no {said}"
    assert any("ENTRYPOINT" in one for one in built)


@pytest.mark.parametrize(
    "path",
    [
        "test-compose",
        "images/build",
        "images/debian",
        "images/standins/build",
        "images/standins/kafka",
        "images/standins/postgres-standin",
        "images/standins/programs",
        "compose/secrets",
    ],
)
def test_a_script_can_be_run(path: str) -> None:
    """Each script is executable, stops at the first error, and bash can read it."""
    script = ROOT / "infra" / path
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
    done = subprocess.run(["/bin/bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
