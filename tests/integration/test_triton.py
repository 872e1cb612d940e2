"""A real Triton with the real online model: it scores as the learner does, and loads only what was signed here."""

import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from infra.local import brokers, triton
from infra.local.processes import Children
from services.inference.triton import Triton
from services.learner.core import LearnerCore
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Retry
from services.runtime.frames import matrix, times
from services.runtime.records import Record
from services.runtime.river_score import score
from services.runtime.schemas import BESIDE, SCORE, examples_frame
from services.runtime.signing import Signer, make_keys
from services.runtime.stream import load_stream

ROOT = Path(__file__).parents[2]
STREAM = load_stream(ROOT / "schemas", "flights")
FRAME = examples_frame(STREAM)
LEARNED = 400
EXTREMES = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e30, -1e30, float(np.finfo(np.float32).max)]


@dataclass(frozen=True)
class Server:
    """A running Triton; `learner` is the core whose versions 0 and `LEARNED` it can load from `data`."""

    client: Triton
    address: str
    data: Path
    first: bytes
    learner: LearnerCore

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts(self.data, "flights")

    def file(self, version: int) -> Path:
        return self.data / "artifacts" / "flights" / "online" / f"{version}.model"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start Triton while there is only version 0; the version that was learned is published while it runs."""
    home = tmp_path_factory.mktemp("triton")
    make_keys(home / "data" / "keys")
    learner = LearnerCore(STREAM)
    first = learner.artifact()
    Artifacts(home / "data", "flights").write("online", 0, first)
    with Children(home / "logs") as children:
        address = triton.start(children, home, home / "data", STREAM)
        triton.wait_ready(address, children)
        client = Triton(address, "flights_online")
        yield Server(client, address, home / "data", first, learner)
        client.close()
        children.check()


def vectors(rows: int, seed: int) -> NDArray[np.float32]:
    """Return feature vectors like those of flights: numbers of many sizes, zeros and ones."""
    drawn = np.random.default_rng(seed).standard_normal((rows, len(STREAM.columns))) * [
        10.0 ** (n % 5) for n in range(len(STREAM.columns))
    ]
    drawn[:, ::4] = drawn[:, ::4] > 0
    return drawn.astype(np.float32)


def example(features: NDArray[np.float32], labels: Sequence[bool]) -> Record:
    """Return a record of `examples`."""
    rows, epoch = len(features), times(np.zeros(len(features), np.int64))
    columns = [
        pa.array([f"e{n}" for n in range(rows)]),
        pa.array(["JFK"] * rows),
        epoch,
        pa.array(range(rows), pa.int64()),
        matrix(features),
        pa.array([0.5] * rows),
        pa.array([{"version": 0, "score": 0.5, "weight": 1.0}] * rows, SCORE),
        pa.array([[]] * rows, BESIDE),
        pa.array([0] * rows, pa.int32()),
        pa.array([float(label) for label in labels]),
        epoch,
        pa.array(["label"] * rows),
        pa.nulls(rows, pa.float64()),
    ]
    return Record("flights.examples", 0, 0, None, FRAME.encode(columns), headers=FRAME.headers)


def learner_scores(artifact: bytes, batch: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score as the learner does before it learns an example."""
    model = pickle.loads(artifact)  # noqa: S301 - made by this test
    return np.array([score(model, dict(zip(STREAM.columns, row, strict=True))) for row in batch.tolist()], np.float64)


@pytest.fixture(scope="module")
def learned(server: Server) -> bytes:
    """Publish a learned version into the running server's store."""
    features = vectors(LEARNED, seed=1)
    server.learner.fold([example(features, (features[:, 0] + features[:, 1] > 0).tolist())])
    artifact = server.learner.artifact()
    server.artifacts.write("online", LEARNED, artifact)
    return artifact


def test_the_untrained_version_scores_as_the_learner_does(server: Server) -> None:
    """Version 0 answers, before anything was learned, with the learner's own bits."""
    batch = vectors(50, seed=2)
    [answer] = server.client.score([batch], 0)
    assert answer.version == 0
    assert answer.values.dtype == np.float64
    assert answer.values.tobytes() == learner_scores(server.first, batch).tobytes()


def test_a_newer_version_is_picked_up_in_place_and_scores_bit_for_bit(server: Server, learned: bytes) -> None:
    """A version that appears while the server runs answers when it is first asked for, with the learner's own bits."""
    batch = vectors(500, seed=3)
    assert server.learner.learned == LEARNED
    [answer] = server.client.score([batch], LEARNED)
    expected = learner_scores(learned, batch)
    assert answer.version == LEARNED
    assert answer.values.tobytes() == expected.tobytes()
    assert len(np.unique(expected)) > 100, "a model that says one thing would agree with anything"


def test_the_ends_of_float32_score_bit_for_bit(server: Server, learned: bytes) -> None:
    """Zeros of both signs, subnormals and the largest numbers score as they do in the learner."""
    batch = np.array([[value] * len(STREAM.columns) for value in EXTREMES], np.float32)
    [answer] = server.client.score([batch], LEARNED)
    assert answer.values.tobytes() == learner_scores(learned, batch).tobytes()


def test_an_older_version_still_answers(server: Server, learned: bytes) -> None:
    """Requests of two versions, turn by turn, are each answered by the version that they asked for."""
    batch = vectors(20, seed=4)
    for version, artifact in [(0, server.first), (LEARNED, learned)] * 3:
        [answer] = server.client.score([batch], version)
        assert answer.version == version
        assert answer.values.tobytes() == learner_scores(artifact, batch).tobytes()


def test_more_versions_than_are_kept_in_memory_answer(server: Server, learned: bytes) -> None:
    """What was dropped from memory is read again when it is asked for; nothing is answered by another version."""
    batch = vectors(5, seed=5)
    many = range(1000, 1012)
    artifacts = {version: (server.first, learned)[version % 2] for version in many}
    for version, artifact in artifacts.items():
        server.artifacts.write("online", version, artifact)
    for version in [*many, *many]:
        [answer] = server.client.score([batch], version)
        assert answer.version == version
        assert answer.values.tobytes() == learner_scores(artifacts[version], batch).tobytes()


def test_several_requests_in_flight_come_back_in_order(server: Server, learned: bytes) -> None:
    """The n-th answer is that of the n-th batch, whatever their sizes, an empty one included."""
    batches = [vectors(rows, seed=rows) for rows in (700, 1, 0, 300, 2, 50, 1, 0, 900, 3) * 3]
    answers = server.client.score(batches, LEARNED)
    assert len(answers) == len(batches)
    for batch, answer in zip(batches, answers, strict=True):
        assert answer.version == LEARNED
        assert answer.values.tobytes() == learner_scores(learned, batch).tobytes()


def test_nothing_to_score_is_nothing(server: Server) -> None:
    """No batches, no request, no answers."""
    assert server.client.score([], 0) == []


# What is refused


class Bomb:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._mark,)


def tampered(server: Server) -> bytes:
    """Flip a bit of the payload, whose signature stays."""
    sealed = bytearray(server.file(0).read_bytes())
    sealed[200] ^= 1
    return bytes(sealed)


def resigned(server: Server) -> bytes:
    """Seal it in another installation."""
    return Signer(server.data.parent / "elsewhere").seal("model/flights/online/2002", server.first)


REFUSED: dict[int, tuple[str, Callable[[Server], bytes]]] = {
    2001: ("tampered with", tampered),
    2002: ("signed by another installation", resigned),
    2003: ("signed as version 0", lambda server: server.file(0).read_bytes()),
    2004: ("unsigned", lambda server: server.first),
    2005: ("cut off", lambda server: server.file(0).read_bytes()[:-1]),
    2006: ("shorter than a signature", lambda _: b"short"),
    2007: ("empty", lambda _: b""),
}


@pytest.mark.parametrize("version", REFUSED, ids=lambda version: REFUSED[version][0])
def test_what_this_installation_did_not_sign_is_refused(server: Server, version: int) -> None:
    """A version whose file was not signed here under its own name is Retry, says so, and the good one still answers."""
    server.file(version).write_bytes(REFUSED[version][1](server))
    batch = vectors(3, seed=6)
    for _ in range(2):
        with pytest.raises(Retry, match=rf"{re.escape(server.address)}.*model/flights/online/{version}: not signed"):
            server.client.score([batch], version)
    [answer] = server.client.score([batch], 0)
    assert answer.values.tobytes() == learner_scores(server.first, batch).tobytes()


@pytest.mark.parametrize("signed", [False, True])
def test_a_pickle_that_runs_code_is_never_run(server: Server, tmp_path: Path, *, signed: bool) -> None:
    """Nothing in an artifact is executed, in Triton's process either: unsigned it is not opened, signed it is refused.

    tests/integration/test_triton_attacks.py has many more.
    """
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    server.file(2100).write_bytes(bytes(64) + bomb)
    if signed:
        server.artifacts.write("online", 2100, bomb)
    with pytest.raises(Retry, match="is not on the list" if signed else "not signed by this installation"):
        server.client.score([vectors(1, seed=7)], 2100)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)  # noqa: S301 - it is real
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("version", [999_999, -1])
def test_a_version_that_is_not_there_is_retried(server: Server, version: int) -> None:
    """A version without a file is Retry; once the file appears it answers, without a restart."""
    batch = vectors(2, seed=8)
    with pytest.raises(Retry, match=rf"no such version|{version}: not the name of a model version"):
        server.client.score([batch], version)
    if version > 0:
        server.artifacts.write("online", version, server.first)
        [answer] = server.client.score([batch], version)
        assert answer.version == version


def test_one_bad_request_among_others_fails_the_call_as_a_whole(server: Server) -> None:
    """A batch that Triton refuses is Retry for the call; the server goes on."""
    with pytest.raises(Retry):
        server.client.score([vectors(1, seed=9), np.zeros((1, 2), np.float32)], 0)
    assert len(server.client.score([vectors(1, seed=9)], 0)) == 1


def test_a_server_that_is_not_there_is_retried() -> None:
    """No server at the address: Retry that names it."""
    address = f"127.0.0.1:{brokers.free_ports(1)[0]}"
    client = Triton(address, "flights_online")
    with pytest.raises(Retry, match=f"Triton at {address}"):
        client.score([vectors(1, seed=10)], 0)
    client.close()


def test_a_missing_environment_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Triton's environment the launcher says ./infra/setup, and starts nothing."""
    monkeypatch.setattr(triton, "SERVER", tmp_path / "none")
    with Children(tmp_path) as children, pytest.raises(triton.TritonUnavailable, match=r"run \./infra/setup"):
        triton.start(children, tmp_path, tmp_path, STREAM)
    assert not (tmp_path / "triton.log").exists()
