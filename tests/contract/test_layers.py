"""Who imports whom, read from the syntax trees: nothing of ours is run here, but for two subprocesses that say so."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/__main__.py"))
PURE = [f"features/{name}.py" for name in ("engine", "state", "kernels", "filling", "times")] + [
    *(f"labels/{name}.py" for name in ("early", "in_memory", "index", "join", "rows")),
    *(f"rollout/{name}.py" for name in ("evidence", "slices", "hedge", "comparison", "judging", "reading", "versions")),
    *(f"drift/{name}.py" for name in ("detectors", "example_summaries", "quality", "watching")),
    *(f"drift/{name}.py" for name in ("alarms", "distributions", "features", "joint", "kernels", "panel")),
    *(f"drift/{name}.py" for name in ("profiles", "reducing", "signals", "slicing", "swings", "volume")),
    "drift/row_kernels.py",
    "drift/watched.py",
    *(f"replay/story/{name}.py" for name in ("facts", "memories", "past")),
    *(f"console/{name}.py" for name in ("access", "alarms", "dead", "drifting", "flow", "otlp_json", "otlp_values")),
    *(f"console/{name}.py" for name in ("latency", "quality", "rates", "span", "tape", "topology", "versions", "why")),
    *(f"ingestion/{name}.py" for name in ("issuing", "keys", "quotas")),
    "inference/mix.py",
    "inference/guard.py",
    *(f"runtime/{name}.py" for name in ("chronicle", "contexts", "layout", "members", "sampling", "spans")),
    "runtime/models.py",
    "runtime/repeats.py",
    "runtime/summaries.py",
    "runtime/treatments.py",
    "ingestion/treating.py",
    "trainer/asking.py",
    "trainer/rows.py",
    "trainer/charts.py",
    "trainer/schedule.py",
    "trainer/worth.py",
]
IMPURE = {"time", "os", "random", "socket", "logging", "asyncio", "threading", "confluent_kafka"}
ALSO_IMPURE = {"subprocess", "secrets", "uuid", "multiprocessing", "concurrent", "tempfile", "select", "ssl", "signal"}
EVERYWHERE = {"msgspec", "numpy", "pyarrow"}  # what the runtime and the cores speak
HOMES = {
    "confluent_kafka": {
        *(f"runtime/{name}.py" for name in ("clients", "kafka", "sinks", "history", "transactions")),
        "ingestion/producer.py",
        "drift/changelogs.py",
        "console/sampling.py",
        "console/searching.py",
        "console/tailing.py",
    },
    "aiokafka": {"drift/transport.py"},
    "cryptography": {"runtime/signing.py", "runtime/vault.py"},
    "deltalake": {"trainer/store.py", "trainer/forgetting.py"},
    "faust": {f"drift/{name}.py" for name in ("app", "tables", "transport", "views")},
    "fsspec": {"runtime/remote_store.py"},
    "google": {"console/otlp.py"},
    "httpx": {"drift/delivery.py", "drift/serving.py"},
    "mlflow": {"trainer/tracking.py"},
    "numba": {"drift/detectors.py", "drift/kernels.py", "features/kernels.py", "labels/index.py"},
    "opentelemetry": {"console/otlp.py", "runtime/telemetry.py"},
    "onnx": {"trainer/export.py"},
    "onnxruntime": {"runtime/onnx_session.py"},
    "prometheus_client": {"runtime/metrics.py"},
    "river": {"learner/model.py", "runtime/clip.py"},
    "starlette": {
        *(f"ingestion/{name}.py" for name in ("app", "doorkeeper", "meters")),
        *("runtime/bodies.py", "runtime/web.py"),
        *(
            f"console/{name}.py"
            for name in ("acting", "app", "headers", "looking", "meters", "problems", "sessions", "spans")
        ),
    },
    "torch": {
        f"trainer/{name}.py" for name in ("core", "examples", "export", "machine", "networks", "stepping", "workers")
    },
    "triton_python_backend_utils": {"inference/versioned_model.py"},
    "tritonclient": {"inference/triton.py"},
    "uvicorn": {"runtime/web.py"},
}
IN_TRITON = {
    *(f"inference/{name}_model.py" for name in ("online", "batch", "versioned")),
    *(f"runtime/{name}.py" for name in ("artifacts", "clip", "errors", "files", "graphs", "keys", "models")),
    *(f"runtime/{name}.py" for name in ("onnx_session", "river_score", "signing", "unpickling")),
}


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def here(path: Path) -> str:
    """Name a file by its place under services/."""
    return path.relative_to(ROOT / "services").as_posix()


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the dotted names that a file imports, at any depth: `from a import b` counts as `a` and as `a.b`."""
    names: set[str] = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def third_party(path: Path) -> set[str]:
    return tops(path) - set(sys.stdlib_module_names) - {"services", "infra", "tests", "schemas"}


def areas(path: Path) -> set[str]:
    """Return the folders or modules directly under services/ that a file imports from."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("services.")}


def reached(starts: Iterable[Path]) -> set[Path]:
    """Return the files of ours that these import, and those import, and so on; the starts and their packages too."""
    found: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [module for name in imports(path) for module in modules(name)]
            waiting += [folder / "__init__.py" for folder in path.parents if (folder / "__init__.py").is_file()]
    return found


def modules(name: str) -> Iterator[Path]:
    place = ROOT.joinpath(*name.split("."))
    if name.partition(".")[0] in ("services", "infra"):
        yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def test_there_is_something_to_look_at() -> None:
    """The tests below look at the real tree, and their reader sees each form of an import."""
    assert len(SERVICES) >= 5
    assert len(files("services")) > 30
    assert {"services.runtime.errors", "services.runtime.errors.Stop"} <= imports(
        ROOT / "services/runtime/artifacts.py"
    )
    assert "services.features.kernels" in imports(ROOT / "services/features/engine.py")
    for name in [*(place for homes in HOMES.values() for place in homes), *IN_TRITON, *PURE]:
        assert (ROOT / "services" / name).is_file(), f"{name} has moved: say where to"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_itself_and_the_runtime(service: str) -> None:
    """A service knows nothing of another: what they share is the log, and services.runtime."""
    for path in files(f"services/{service}"):
        assert areas(path) <= {service, "runtime"}, here(path)


def test_the_runtime_imports_no_service() -> None:
    """Imports point one way: services/runtime imports itself alone."""
    for path in files("services/runtime"):
        assert areas(path) <= {"runtime"}, here(path)


def test_what_is_no_service_stands_in_the_runtime() -> None:
    """Beside the services and the runtime there is only replay."""
    there = {path.name for path in (ROOT / "services").iterdir() if path.name != "__pycache__"}
    assert there == {*SERVICES, "runtime", "__init__.py", "replay"}


def test_replay_imports_cores_and_the_runtime_only() -> None:
    """services/replay may drive any core, and what is as pure, and nothing else of a service; no service imports it."""
    for path in files("services/replay"):
        for name in imports(path):
            if name.startswith("services."):
                area, module = [*name.split("."), ""][1:3]
                core = (area in SERVICES and module == "core") or f"{area}/{module}.py" in PURE
                assert area in ("runtime", "replay") or core or name == f"services.{area}", name


def test_nothing_below_imports_the_launcher_or_tests() -> None:
    """services/ and the stream folders import neither infra/ nor tests, and infra/ imports no tests."""
    for path in files("services", "schemas"):
        assert not tops(path) & {"infra", "tests", "pytest", "hypothesis"}, path
    for path in files("infra"):
        assert not tops(path) & {"tests", "pytest", "hypothesis"}, path


def test_the_containers_engine_is_spoken_to_in_one_place() -> None:
    """Docker's SDK is imported by infra/compose/engine.py alone, and nobody calls the engine's own client."""
    ours = files("services", "infra", "loadtests", "schemas")
    assert [path for path in ours if "docker" in tops(path)] == [ROOT / "infra/compose/engine.py"]
    called = re.compile(r"""which\(["']docker["']\)|["']docker["'],""")
    assert [path for path in ours if called.search(path.read_text())] == []


def test_imports_show_in_the_syntax_tree() -> None:
    """Nothing is imported by a computed name, but for the River classes that a stream's definition names."""
    for path in files("services"):
        tree = ast.parse(path.read_text())
        called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert "__import__" not in called, here(path)
        assert "importlib" not in tops(path) or here(path) == "learner/model.py", here(path)


# Purity


def cores() -> list[Path]:
    return sorted({*(ROOT / "services").glob("*/core.py"), *(ROOT / "services" / name for name in PURE)})


@pytest.mark.parametrize("path", cores(), ids=here)
def test_a_core_is_pure_and_so_is_all_that_it_imports_of_ours(path: Path) -> None:
    """A core has no clock, no I/O, no randomness, no threads and no broker, however far one follows its imports."""
    for module in reached([path]):
        assert not tops(module) & IMPURE, f"{here(path)} → {here(module)}"
        assert not tops(module) & ALSO_IMPURE, f"{here(path)} → {here(module)}"


@pytest.mark.parametrize("path", cores(), ids=here)
def test_a_core_reads_no_clock_and_draws_no_numbers_through_a_library(path: Path) -> None:
    """Neither datetime.now() nor numpy.random nor open() nor print() gets around the imports."""
    own = [module for module in reached([path]) if "runtime" not in module.parts]
    for module in own:
        for node in ast.walk(ast.parse(module.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            what = f"{here(module)}:{getattr(node, 'lineno', 0)}: {name}"
            assert name not in {"now", "utcnow", "today", "random", "default_rng", "open", "print", "input"}, what
            assert name not in {"environ", "read_text", "read_bytes", "write_text", "write_bytes", "sleep"}, what


# Libraries


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library: str) -> None:
    """Each library is imported where it lives and nowhere else under services/."""
    users = {here(path) for path in files("services") if library in tops(path)}
    assert users == HOMES[library]


def test_every_library_has_a_home() -> None:
    """What services import from outside is what all speak (numpy, pyarrow, msgspec) or has its home in this table."""
    for path in files("services"):
        assert third_party(path) <= EVERYWHERE | set(HOMES), here(path)


@pytest.mark.parametrize("service", SERVICES)
def test_importing_a_service_imports_no_other_services_libraries(service: str) -> None:
    """What a service's process loads is its own: followed through every import of ours, from its entry point on."""
    mine = {library for library, homes in HOMES.items() if any(h.startswith((service, "runtime")) for h in homes)}
    for path in reached([ROOT / "services" / service / "__main__.py"]):
        assert third_party(path) <= EVERYWHERE | mine, f"{service} → {here(path)}"


def fresh(python: Path, code: str) -> set[str]:
    """Return the modules that `code` adds in a new interpreter, by their first names."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([python, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_runtime_imports_nothing_heavy() -> None:
    """`import services.runtime` in a new interpreter loads the standard library at most."""
    loaded = fresh(Path(sys.executable), "import services.runtime")
    assert loaded - set(sys.stdlib_module_names) == {"services"}


def test_a_services_package_imports_nothing_heavy() -> None:
    """A package's __init__.py is its page, not its program: importing all of them loads no library."""
    loaded = fresh(Path(sys.executable), "\n".join(f"import services.{service}" for service in SERVICES))
    assert loaded - set(sys.stdlib_module_names) == {"services"}


# What runs inside Triton


def test_what_runs_inside_triton_is_known() -> None:
    """The model in Triton's process reaches these modules of ours and no others, followed through every import."""
    found = reached(ROOT / f"services/inference/{kind}_model.py" for kind in ("online", "batch"))
    assert {here(path) for path in found if path.name != "__init__.py"} == IN_TRITON
    assert {here(path.parent) for path in found if path.name == "__init__.py"} == {".", "inference", "runtime"}


def test_what_runs_inside_triton_imports_only_what_is_there() -> None:
    """Modules in Triton's process import the standard library and what infra/locks/triton.txt installs."""
    backend = {"triton_python_backend_utils"}
    for path in reached(ROOT / "services" / name for name in IN_TRITON):
        assert third_party(path) <= set(pins("triton")) | backend, here(path)


def test_both_environments_read_models_alike() -> None:
    """A pickled model is read by the version that wrote it: pyproject and both locks name one River."""
    assert pins("triton")["onnxruntime"] == pins("thalweg")["onnxruntime"]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"river=={pins('thalweg')['river']}" in declared
    assert pins("triton")["river"] == pins("thalweg")["river"]


def pins(lock: str) -> dict[str, str]:
    """Return a lock's versions by the names under which the packages are imported."""
    lines = (ROOT / "infra" / "locks" / f"{lock}.txt").read_text().splitlines()
    pinned = [line.split()[0].split("==") for line in lines if "==" in line and not line.startswith((" ", "#"))]
    return {name.replace("-", "_"): version for name, version in pinned}
