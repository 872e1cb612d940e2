"""The trainer's stage on a loop: the table is the fold of `examples`, whatever happens on the way."""

import logging
import shutil
from pathlib import Path

import pytest

from services.runtime.errors import Retry, Stop
from services.runtime.loop import Loop
from services.runtime.memory import ManualClock
from services.runtime.waiting import Wait
from services.trainer.store import ExampleStore
from services.trainer.storing import Storing, opened
from tests.lessons import STREAM
from tests.loops import Place, Ticking
from tests.stored import TOPIC, expected, ids, out


class Run(Place):
    """A log of examples, and the trainer's loops on it, each with a store of its own."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, topics=(TOPIC,))
        self.rows = 0

    def put_examples(self, times: int) -> None:
        for _ in range(times):
            self.log.append(out(self.rows, 2))
            self.rows += 2

    def trainer(self, tidy_every: int = 100, **more: float) -> Loop:
        self.clock, self.store = Ticking(), ExampleStore(str(self.data), STREAM)
        self.identity = opened(self.store, Wait(self.clock))
        return self.loop(Storing(self.store, tidy_every), **more)

    def snapshots(self) -> object:  # type: ignore[override]
        found = super().snapshots()
        found._fingerprint = self.identity
        return found

    def ids(self) -> list[str]:
        return ids(ExampleStore(str(self.data), STREAM))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_one_batch_is_one_version(run: Run) -> None:
    """What the loop gathered is one commit of the table."""
    run.put_examples(7)
    run.trainer(batch=4).run(count=7)
    assert (run.ids(), run.store.version(), run.committed(TOPIC)) == (expected(14), 2, 7)


def test_a_crash_before_the_offsets_are_committed(run: Run) -> None:
    """The batch comes again, and adds nothing."""
    run.put_examples(5)
    run.log.fail_next = 1
    run.trainer().run(count=5)
    assert (run.ids(), run.store.version()) == (expected(10), 1)


def test_a_restart_folds_on_from_its_snapshot(run: Run) -> None:
    """Not from the beginning of the log; what is folded again adds nothing."""
    run.put_examples(5)
    loop = run.trainer()
    loop.run(count=5)
    loop.close()
    assert run.files() == [f"{5:020d}.snapshot"]
    run.put_examples(2)
    loop = run.trainer()
    loop.run(count=2)
    assert (run.ids(), loop.folded) == (expected(14), 2)


def test_a_new_table_is_filled_from_the_log(run: Run) -> None:
    """Once the old one is moved away and the trainer starts again, whatever was committed and snapshot before."""
    run.put_examples(6)
    loop = run.trainer()
    loop.run(count=6)
    loop.close()
    shutil.rmtree(run.store.place)
    run.put_examples(1)
    run.trainer(batch=2).run(count=1)
    assert run.ids() == expected(14)


def test_commits_that_were_lost_are_made_again(run: Run, tmp_path: Path) -> None:
    """A machine that lost power forgot what it had not synced; the offsets were committed all the same."""
    run.put_examples(3)
    loop = run.trainer()
    loop.run(count=3)
    loop.close()
    shutil.copytree(run.store.place, tmp_path / "synced")
    run.put_examples(3)
    run.trainer().run(count=3)
    assert run.committed(TOPIC) == 6
    shutil.rmtree(run.store.place)
    shutil.move(tmp_path / "synced", run.store.place)
    run.put_examples(1)
    run.trainer().run(count=1)
    assert run.ids() == expected(14)


def test_a_table_that_lost_what_it_had_is_not_gone_on_with(run: Run, tmp_path: Path) -> None:
    """An older copy was put back, say: what it lacks would be missing for ever."""
    run.put_examples(3)
    run.trainer().run(count=3)
    shutil.copytree(run.store.place, tmp_path / "copy")
    run.put_examples(3)
    loop = run.trainer()
    loop.run(count=3)
    loop.close()
    shutil.rmtree(run.store.place)
    shutil.move(tmp_path / "copy", run.store.place)
    run.put_examples(1)
    with pytest.raises(Stop, match=r"examples up to offset 3, and had them up to 6\. Put back the newer"):
        run.trainer().run(count=1)


def test_it_tidies_now_and_then(run: Run) -> None:
    """After about every so many versions, over restarts too; a table has few files then."""
    run.put_examples(12)
    for _ in range(12):
        run.trainer(tidy_every=5, batch=1).run(count=1)
    operations = [entry["operation"] for entry in run.store._fresh().history()]
    assert 2 <= operations.count("OPTIMIZE") <= 3
    assert run.ids() == expected(24)
    assert len(run.store._fresh().file_uris()) < 6


def test_what_can_t_be_tidied_is_so_later(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Appends go on; it is said in the log."""

    def fail(_: ExampleStore) -> None:
        raise Retry("no room")

    monkeypatch.setattr(ExampleStore, "tidy", fail)
    run.put_examples(6)
    with caplog.at_level(logging.WARNING):
        run.trainer(tidy_every=3, batch=1).run(count=6)
    assert (run.ids(), run.store.version()) == (expected(12), 6)
    assert [record.getMessage() for record in caplog.records if "compacted" in record.getMessage()] == [
        "table not compacted, nothing is lost, it is tried again later: no room"
    ] * 2


def test_a_store_that_is_away_stops_nothing(run: Run, tmp_path: Path) -> None:
    """The loop waits and takes the batch again; nothing is committed meanwhile and nothing lost."""
    run.put_examples(2)
    loop = run.trainer()
    loop.run(count=2)
    run.put_examples(3)
    shutil.move(run.store.place, tmp_path / "aside")

    class Mounting(Ticking):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.time > 5 and not Path(run.store.place).exists():
                assert run.committed(TOPIC) == 2
                shutil.move(tmp_path / "aside", run.store.place)

    loop._clock = loop._wait._clock = Mounting()
    loop.run(count=5)
    assert (run.ids(), run.committed(TOPIC)) == (expected(10), 5)


def test_it_ends_well_while_its_store_is_away(run: Run, tmp_path: Path) -> None:
    """A snapshot asks the store for nothing."""
    run.put_examples(3)
    loop = run.trainer()
    loop.run(count=3)
    shutil.move(run.store.place, tmp_path / "aside")
    loop.close()
    assert run.files() == [f"{3:020d}.snapshot"]


def test_it_waits_for_its_store_before_it_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says what it waits for."""
    (tmp_path / "made").write_text("in the way")

    class Clearing(ManualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.time > 3:
                (tmp_path / "made").unlink()

    store = ExampleStore(str(tmp_path), STREAM)
    wait = Wait(Clearing())
    with caplog.at_level(logging.INFO):
        assert opened(store, wait) == store.identity
    assert "waiting, nothing is lost: the store of examples at" in caplog.text
    assert "going on after" in caplog.text
    assert wait.why is None
