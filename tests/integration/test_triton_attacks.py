"""The attacks of `tests/attacks.py` on the models in a real Triton: refused, logged, and the version before serves on.

The stage that asks is inference's own, with its real client.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from infra.local import triton
from infra.local.processes import Children
from services.inference.scoring import Scoring
from services.inference.triton import Triton
from services.learner.core import LearnerCore
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Refusal
from services.runtime.frames import matrix, times
from services.runtime.models import BATCH, ONLINE, Published
from services.runtime.records import Record
from services.runtime.schemas import features_frame
from services.runtime.signing import SIGNATURE_BYTES, Signer, make_keys
from services.trainer.export import build
from tests import attacks
from tests.attacks import FILES, Target
from tests.nets import STREAM, network

FRAME = features_frame(STREAM)
GOOD = 1
BOMBS = sorted(attacks.bombs(Path("canary")))


class Serving:
    """A server that has answered with version `GOOD` of the online model, and inference, which asks it."""

    def __init__(self, home: Path, address: str) -> None:
        self.home, self.data = home, home / "data"
        self.online, self.batch = Triton(address, f"{STREAM.name}_online"), Triton(address, f"{STREAM.name}_batch")
        self.artifacts, self.news = Artifacts(self.data, STREAM.name), list[Record]()
        self.number = GOOD
        self.payload = LearnerCore(STREAM).artifact()
        self.artifacts.write(ONLINE, GOOD, self.payload)
        self.stage = Scoring(STREAM, self.online, self.batch, self._take)
        self.publish(GOOD)
        assert self.scored_by() == GOOD

    def _take(self) -> list[Record]:
        taken, self.news = self.news, []
        return taken

    def publish(self, version: int) -> None:
        value = msgspec.json.encode(Published(ONLINE, version, STREAM.feature_set, version, None))
        self.news.append(Record(STREAM.topic("models"), 0, version, ONLINE.encode(), value))

    def scored_by(self) -> int:
        """Have a row scored, and return the version that did."""
        columns = [
            *(pa.array(["a"]), pa.array(["JFK"]), times(np.zeros(1, np.int64)), pa.array([0])),
            matrix(np.ones((1, len(STREAM.columns)), np.float32)),
        ]
        record = Record(STREAM.topic("features"), 0, 0, None, FRAME.encode(columns), headers=FRAME.headers)
        out = self.stage.fold({0: [record]})
        [said] = [msgspec.json.decode(one.value) for one in out if one.topic == STREAM.topic("predictions")]
        [name] = said["scores"]
        return int(name.partition("@")[2])

    def file(self, model: str, version: int, of: str = STREAM.name) -> Path:
        return self.data / "artifacts" / of / model / f"{version}.model"

    def next(self) -> int:
        """Return a number that no version has yet."""
        self.number += 1
        return self.number

    def target(self, version: int) -> Target:
        """Store a good version of this number, and what an attacker may have besides."""
        elsewhere, theirs = Artifacts(self.data, "bikes"), Artifacts(self.home / "theirs", STREAM.name)
        for place, model in (
            (self.artifacts, ONLINE),
            (self.artifacts, "batch"),
            (elsewhere, ONLINE),
            (theirs, ONLINE),
        ):
            place.write(model, version, self.payload)
        return Target(
            self.file(ONLINE, version),
            SIGNATURE_BYTES,
            older=self.file(ONLINE, GOOD).read_bytes(),
            elsewhere=self.file(ONLINE, version, "bikes").read_bytes(),
            other_kind=self.file(BATCH, version).read_bytes(),
            stolen=(self.home / "theirs" / "artifacts" / STREAM.name / ONLINE / f"{version}.model").read_bytes(),
            resigned=Signer(self.home / "theirs" / "keys").seal(
                f"model/{STREAM.name}/{ONLINE}/{version}", self.payload
            ),
        )

    def serves_on_without(self, version: int, caplog: pytest.LogCaptureFixture) -> None:
        """Expect one refusal, the version before to answer then, both logs to say why, and a later one to be taken."""
        self.publish(version)
        with pytest.raises(Refusal):
            self.scored_by()
        served = [self.scored_by() for _ in range(2)]
        assert served[0] == served[1] < version
        assert f"online@{version} is not served, online@{served[0]} goes on: " in caplog.text
        self.is_logged(f"online@{version} is refused: ")
        later = self.next()
        self.artifacts.write(ONLINE, later, self.payload)
        self.publish(later)
        assert self.scored_by() == later

    def is_logged(self, said: str) -> None:
        """Wait until Triton's log says so."""
        deadline = time.monotonic() + 30
        while said not in (self.home / "logs" / "triton.log").read_text(errors="replace"):
            assert time.monotonic() < deadline, said
            time.sleep(0.1)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("attacked")
    make_keys(home / "data" / "keys")
    with Children(home / "logs") as children:
        address = triton.start(children, home, home / "data", STREAM)
        triton.wait_ready(address, children)
        yield Serving(home, address)
        children.check()


@pytest.mark.parametrize("name", FILES)
def test_a_version_that_is_not_what_was_signed(name: str, serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in its place, Triton refuses it and says so, and inference serves on."""
    version = serving.next()
    FILES[name](serving.target(version))
    serving.serves_on_without(version, caplog)


@pytest.mark.parametrize("name", BOMBS)
def test_a_version_that_runs_code_though_it_was_signed(
    name: str, serving: Serving, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the right key, under the right name: nothing of it runs in Triton's process."""
    version = serving.next()
    serving.artifacts.write(ONLINE, version, attacks.bombs(tmp_path / "canary")[name])
    serving.serves_on_without(version, caplog)
    assert not attacks.bombed(tmp_path / "canary")


def another_file(model: onnx.ModelProto, secret: Path) -> None:
    """Have the weights of the last layer be read from a file on that machine."""
    tensor = model.graph.initializer[-1]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value=str(secret))


def much_memory(model: onnx.ModelProto, _: Path) -> None:
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["SHAPE"], ["much"]))


def a_loop(model: onnx.ModelProto, _: Path) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["y"], body=body))


@pytest.mark.parametrize("change", [another_file, much_memory, a_loop], ids=lambda change: change.__name__)
def test_a_graph_that_reaches_beyond_itself_though_it_was_signed(
    change: Callable[[onnx.ModelProto, Path], None], serving: Serving, tmp_path: Path
) -> None:
    """It is refused with the reason, and a good one answers."""
    version, good = serving.next(), serving.next()
    model = onnx.load_from_string(build(network(7)))
    change(model, tmp_path / "secret")
    serving.artifacts.write(BATCH, version, model.SerializeToString())
    serving.artifacts.write(BATCH, good, build(network(7)))
    row = np.ones((1, len(STREAM.columns)), np.float32)
    with pytest.raises(Refusal, match="is in no graph that is exported here"):
        serving.batch.score([row], version)
    serving.is_logged(f"batch@{version} is refused: ")
    assert serving.batch.score([row], good)[0].values.shape == (1,)


def test_a_key_that_anyone_may_write(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever could write it could have signed anything: nothing more is loaded until that is mended."""
    version = serving.next()
    serving.artifacts.write(ONLINE, version, serving.payload)
    public = serving.data / "keys" / "public"
    public.chmod(0o666)
    try:
        serving.publish(version)
        with pytest.raises(Refusal, match=r"Run: chmod go-w"):
            serving.scored_by()
        assert serving.scored_by() < version
    finally:
        public.chmod(0o644)
    assert f"online@{version} is not served" in caplog.text
