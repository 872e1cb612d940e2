"""Attacks on a training's checkpoints: each is refused with a reason in the log, and the training begins anew."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from services.runtime import signing
from services.trainer import training
from services.trainer.checkpoints import Checkpoints
from tests.attacks import FILES, Bomb, Target
from tests.unit.test_training import lesson, stream


class Trained:
    """A training of four epochs that was interrupted after two; its checkpoint is attacked before it goes on."""

    def __init__(self, data: Path) -> None:
        self.data, self.kept = data / "ours", Checkpoints(data / "ours", "made")
        self.seen: list[int] = []
        older = b""

        def interrupted(epoch: Any, _: int) -> None:
            nonlocal older
            older = older or self.path.read_bytes()
            if epoch.number == 2:
                raise KeyboardInterrupt

        self.path = self.kept.folder / "checkpoint"
        with pytest.raises(KeyboardInterrupt):
            training.run(stream(), lesson(), self.kept, "cpu", interrupted)
        found = self.kept.of().read()
        assert found is not None
        for place, name, window in (("theirs", "made", ""), ("ours", "bikes", ""), ("ours", "made", "after")):
            Checkpoints(data / place, name).of(window).write(found)
        stolen = (data / "theirs" / "training" / "made" / "checkpoint").read_bytes()
        self.target = Target(
            self.path,
            signing.SIGNATURE_BYTES,
            older=older,
            elsewhere=(self.data / "training" / "bikes" / "checkpoint").read_bytes(),
            other_kind=(self.kept.folder / "checkpoint.after").read_bytes(),
            stolen=stolen,
            resigned=stolen,
        )

    def begins_anew(self, caplog: pytest.LogCaptureFixture, why: str) -> None:
        """Expect every epoch to be trained, and the log to say why."""
        seen: list[int] = []
        training.run(stream(), lesson(), self.kept, "cpu", lambda epoch, _: seen.append(epoch.number))
        assert seen == [1, 2, 3, 4]
        assert f"checkpoint {self.path} passed over, the training begins anew: {why}" in caplog.text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, bytes]:
    made = Trained(tmp_path_factory.mktemp("trained"))
    return made, made.path.read_bytes()


@pytest.mark.parametrize("name", [name for name in FILES if "older" not in name])  # an older one costs an epoch
def test_a_checkpoint_that_is_not_what_was_signed(
    name: str, trained: tuple[Trained, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever stands in its place: it is passed over, and named."""
    made, good = trained
    made.path.write_bytes(good)
    assert made.kept.of().read() is not None
    FILES[name](made.target)
    assert made.kept.of().read() is None
    assert f"checkpoint {made.path} passed over, the training begins anew: " in caplog.text
    made.path.rmdir() if made.path.is_dir() else made.path.unlink()


WHY = {
    "code": "it is no checkpoint: Weights only load failed",
    "weights of another": "the checkpoint is of other examples",
    "no checkpoint": "it is no checkpoint",
}


@pytest.mark.parametrize("content", WHY)
def test_a_checkpoint_that_is_of_no_use_though_it_was_signed(
    content: str, trained: tuple[Trained, bytes], canary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that runs code, one without a mark, and one that is none: the training begins anew, and nothing ran."""
    made, _ = trained
    state: Any = {"code": {"mark": Bomb(os.system, f"touch {canary}")}, "weights of another": {"mark": "other"}}
    torch.save(state.get(content, {}), into := io.BytesIO())
    bomb = b"no checkpoint" if content == "no checkpoint" else into.getvalue()
    if content == "code":
        torch.load(io.BytesIO(bomb), weights_only=False)
        assert canary.exists()
        canary.unlink()
    made.kept.of().write(bomb)
    made.begins_anew(caplog, WHY[content])
    assert not canary.exists()
