"""What goes into an image, what is taken out of it, and what it says of itself."""

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from infra.images.first_key import FIRST, make_first_key
from infra.images.healthy import healthy
from infra.images.packages import LOCK, ROOT, closure, imported, locked, modules_of, normal, roots
from infra.images.prune import prune
from infra.images.sbom import bill
from services.ingestion.key_file import KeyFile, keys_path
from services.ingestion.keys import Caller

SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/__main__.py"))
LIGHT = [name for name in SERVICES if name != "trainer"]


@pytest.mark.parametrize("image", [LIGHT, SERVICES], ids=["services", "trainer"])
def test_an_image_has_what_its_services_import(image: list[str]) -> None:
    """Whatever is imported, at the top or inside a function, is in the lock's part for the image."""
    chosen = closure(roots(image))
    owners = packages_distributions()
    tops = {name.partition(".")[0] for file in modules_of(image) for name in imported(file)}
    third = {top: {normal(owner) for owner in owners[top]} for top in tops if top in owners}
    assert {"numba", "confluent_kafka", "starlette"} <= set(third)
    assert {top for top, names in third.items() if not names & chosen} == set()


def test_the_light_image_has_nothing_of_the_trainer() -> None:
    """No torch, no tracking server and no table store is in the image of the other services, nor what Triton runs."""
    light, whole = closure(roots(LIGHT)), closure(roots(SERVICES))
    heavy = {"torch", "mlflow-skinny", "deltalake", "onnx", "onnxruntime", "alembic"}
    assert heavy <= whole
    assert not heavy & light
    assert light < whole


def test_pins_keep_their_hashes() -> None:
    """The part of the lock is the lock's own entries, each with its version and its hashes."""
    text = locked({"msgspec", "numpy"}, LOCK.read_text())
    assert re.findall(r"^(\S+)==", text, re.MULTILINE) == ["msgspec", "numpy"]
    assert text.count("--hash=sha256:") > 2
    assert text in LOCK.read_text() or all(line in LOCK.read_text() for line in text.splitlines())


def test_what_nothing_runs_is_taken_out(tmp_path: Path) -> None:
    """Tests, headers, sources and Arrow's unused libraries go; what is imported stays."""
    keep = ["numpy/__init__.py", "numpy/testing/__init__.py", "pyarrow/libarrow.txt", "tests/__init__.py"]
    drop = ["numpy/tests/test_a.py", "numpy/core/x.pyx", "numpy/include/a.h", "pyarrow/libarrow_flight.so.2600"]
    for name in keep + drop:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * 10)
    assert prune(tmp_path) == 10 * len(drop)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(keep)


def test_the_bill_is_of_what_is_installed(tmp_path: Path) -> None:
    """CycloneDX: each package once with version, purl and licence, Debian's among them; the same bytes each time."""
    metadata = "Metadata-Version: 2.4\nName: A_Package\nVersion: 1.2\nLicense-Expression: Apache-2.0\n"
    (tmp_path / "a_package-1.2.dist-info").mkdir()
    (tmp_path / "a_package-1.2.dist-info" / "METADATA").write_text(metadata)
    status = tmp_path / "status"
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nVersion: 2.36\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    )
    document = bill("an-image", [str(tmp_path)], status)
    assert document["bomFormat"] == "CycloneDX"
    found = {one["purl"]: one for one in document["components"]}
    assert set(found) == {"pkg:pypi/a-package@1.2", "pkg:deb/debian/libc6@2.36"}
    assert found["pkg:pypi/a-package@1.2"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert json.dumps(document) == json.dumps(bill("an-image", [str(tmp_path)], status))


def test_the_first_producer_has_a_key_and_nobody_else_reads_it(tmp_path: Path) -> None:
    """What is in the file opens the door, on this stream alone; a second start leaves it, and others can't read it."""
    make_first_key(tmp_path, "flights")
    shown = tmp_path / "ingestion" / FIRST
    token = shown.read_text()
    make_first_key(tmp_path, "flights")
    assert shown.read_text() == token
    assert shown.stat().st_mode & 0o777 == 0o600
    ring = KeyFile(keys_path(tmp_path)).ring()
    assert ring is not None
    caller = ring.caller(token, time.time())
    assert isinstance(caller, Caller)
    assert (caller.producer, caller.grant and caller.grant.streams) == (FIRST, ["flights"])
    assert token not in keys_path(tmp_path).read_text()


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_a_health_check_tells_the_well_from_the_ill(server: str) -> None:
    """200 is healthy; any other answer, and none, is not."""
    assert healthy(f"{server}/healthz")
    assert not healthy(f"{server}/readyz")
    assert not healthy("http://127.0.0.1:1/healthz")
