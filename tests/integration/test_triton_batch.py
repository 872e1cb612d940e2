"""A real Triton with the real batch model: any signed graph answers beside the others, a bad one alone is refused."""

import numpy as np
import pytest

from services.inference.triton import Triton
from services.runtime.errors import Refusal
from services.trainer.export import build
from services.trainer.networks import scores
from tests.integration.test_triton import STREAM, Server, server, vectors
from tests.nets import network

__all__ = ["server"]
VERSIONS = (5, 6)


@pytest.fixture(scope="module")
def client(server: Server) -> Triton:
    """Store two versions while the server runs."""
    for version in VERSIONS:
        server.artifacts.write("batch", version, build(network(version)))
    return Triton(server.address, "flights_batch")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_scores_as_its_network_does(client: Triton, version: int) -> None:
    """Each version answers when it is asked for, to 1e-6, whole batches and single rows alike."""
    batch = vectors(300, seed=11)
    whole, single = client.score([batch, batch[7:8]], version)
    expected = scores(network(version), batch)
    assert (whole.version, whole.values.dtype) == (version, np.float64)
    assert np.abs(whole.values - expected).max() <= 1e-6
    assert abs(single.values[0] - whole.values[7]) <= 1e-6
    assert len(np.unique(expected)) > 100


def test_no_rows_load_it(client: Triton) -> None:
    """Asked for no rows it answers with none, which says that it can score."""
    [answer] = client.score([np.zeros((0, len(STREAM.columns)), np.float32)], VERSIONS[0])
    assert answer.values.shape == (0,)


@pytest.mark.parametrize(("version", "why"), [(404, "no such version"), (7, "no ONNX graph")])
def test_what_cannot_score_is_refused_and_others_answer(server: Server, client: Triton, version: int, why: str) -> None:
    """A version that is not there, or is no graph though it was signed, is a Refusal, while a good one answers."""
    server.artifacts.write("batch", 7, b"no graph")
    good, bad = (client.ask([vectors(4, seed=12)], wanted) for wanted in (VERSIONS[0], version))
    with pytest.raises(Refusal, match=why):
        bad.answers()
    assert good.answers()[0].values.shape == (4,)
    with pytest.raises(Refusal):
        client.score([np.zeros((0, len(STREAM.columns)), np.float32)], version)


def test_a_version_that_was_not_signed_here_is_refused(server: Server, client: Triton) -> None:
    """The graph of another installation, or one that was tampered with, is never opened."""
    path = server.data / "artifacts" / "flights" / "batch" / "8.model"
    path.write_bytes(bytes(64) + build(network(8)))
    with pytest.raises(Refusal, match="not signed by this installation"):
        client.score([vectors(1, seed=13)], 8)
