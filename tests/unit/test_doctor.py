"""What `thalweg doctor` says of faults that are caused here: each is named, with what to do, and fails or warns."""

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest

from infra import cli
from infra.doctor import installed, keys, machine, streams
from infra.doctor.findings import Finding, healthy, lines, ok, warning, wrong
from infra.doctor.log import clocks
from infra.doctor.running import triton_ready, troubles
from infra.doctor.topics import Partition, Topic, judge
from infra.local import brokers, triton
from infra.local.topics import topic_config
from services.runtime.health import Report
from services.runtime.signing import make_keys
from services.runtime.stream import TOPICS, UNPARTITIONED, Stream, load_stream
from tests.disks import small_disk

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "infra" / "locks"


def said(finding: Finding | None) -> tuple[str, str]:
    assert finding is not None
    assert finding.level == "ok" or finding.do, "what is not well has something to do"
    return finding.level, finding.says


# The command


class Doctor:
    """The command on a run folder of its own."""

    def __init__(self, folder: Path, out: pytest.CaptureFixture[str]) -> None:
        self.folder, self._out = folder, out
        self.schemas = folder / "schemas"
        shutil.copytree(ROOT / "schemas" / "flights", self.schemas / "flights")
        self.data = folder / "run" / "flights" / "data"

    def __call__(self, *more: str) -> tuple[int, str]:
        where = ["--run-dir", str(self.folder / "run"), "--schemas", str(self.schemas)]
        status = cli.main(["doctor", *where, *more])
        return status, self._out.readouterr().out


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(tmp_path, capsys)


def test_nothing_is_up_and_nothing_is_wrong(doctor: Doctor) -> None:
    """With nothing up it says so, finds nothing wrong with this installation, and writes nothing."""
    status, text = doctor()
    assert status == 0, text
    assert "no run of flights is up here; thalweg up starts one" in text
    assert "nothing is up here; name one to look at it: --broker HOST:PORT" in text
    assert not (doctor.folder / "run").exists()


def test_for_a_program(doctor: Doctor) -> None:
    """--json tells the same findings, each with its check, level, words and remedy."""
    status, text = doctor("--json")
    told = json.loads(text)
    assert status == 0
    assert {
        "python",
        "packages",
        "disk",
        "memory",
        "keys",
        "schema flights",
        "broker",
        "run",
        "gpu",
        "java",
        "triton",
    } <= {one["check"] for one in told}
    assert {tuple(sorted(one)) for one in told} == {("check", "do", "level", "says")}


def test_a_key_that_others_may_read(doctor: Doctor) -> None:
    """Exit status 1, and how to close it; closed, all is well."""
    make_keys(doctor.data / "keys")
    private = doctor.data / "keys" / "private"
    private.chmod(0o644)
    status, text = doctor()
    assert status == 1
    assert f"WRONG    {private} is open to others (-rw-r--r--); chmod 600 {private}" in text
    private.chmod(0o600)
    assert doctor()[0] == 0


def test_keys_that_do_not_fit(doctor: Doctor) -> None:
    """A public key of another installation, and one that is gone, are named; and none is made."""
    make_keys(doctor.data / "keys")
    make_keys(doctor.folder / "other")
    public = doctor.data / "keys" / "public"
    public.write_bytes((doctor.folder / "other" / "public").read_bytes())
    status, text = doctor()
    assert (status, "does not fit" in text) == (1, True)
    public.unlink()
    assert "public is missing" in doctor()[1]
    assert not public.exists()
    (doctor.data / "keys" / "private").rename(public)
    assert "private is missing" in doctor()[1]


def test_a_stream_folder_that_no_service_would_take(doctor: Doctor) -> None:
    """The file, the place in it and what would be right, as a service would say it."""
    pipeline = doctor.schemas / "flights" / "pipeline.toml"
    pipeline.write_text(pipeline.read_text().replace('op = "mean"', 'op = "meen"'))
    status, text = doctor()
    assert status == 1
    assert "schema flights" in text
    assert "meen" in text


def test_a_broker_that_is_away(doctor: Doctor) -> None:
    """It is named, within seconds, and the rest is looked at all the same."""
    (port,) = brokers.free_ports(1)
    status, text = doctor("--broker", f"127.0.0.1:{port}")
    assert status == 1
    assert f"WRONG    no answer from 127.0.0.1:{port}" in text
    assert "schema flights" in text


def test_a_port_that_another_has(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, since a run takes another port then; exit status 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("infra.commands.doctor.PORTS", {"console": taken.getsockname()[1]})
        status, text = doctor()
    assert status == 0
    assert "not to be had: Address already in use; console takes another one" in text


def test_a_part_that_fails_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is a finding, and the others are made."""

    def fail(_: Path) -> list[Finding]:
        raise LookupError("oh")

    monkeypatch.setattr(streams, "schemas", fail)
    status, text = doctor()
    assert status == 1
    assert "could not be looked at: LookupError: oh" in text
    assert "no run of flights is up" in text


def test_lines_count_what_they_say() -> None:
    """A line each, and a last one; warnings are no failure."""
    found = [ok("a", "well"), warning("bb", "low", "see to it"), wrong("c", "broken", "mend it")]
    assert lines(found) == [
        "a   ok       well",
        "bb  warning  low; see to it",
        "c   WRONG    broken; mend it",
        "3 checks: 1 wrong, 1 to look at",
    ]
    assert [healthy(found), healthy(found[:2])] == [False, True]


# What is installed


def test_python_is_the_one() -> None:
    """Another Python is wrong."""
    assert said(installed.python((3, 12))) == ("wrong", "3.12")


def test_packages_that_differ_from_the_lock(tmp_path: Path) -> None:
    """One of another version, and one that is needed and missing, are named; of an extra nothing is needed."""
    there = installed.present()
    lock = tmp_path / "thalweg.txt"
    text = (LOCKS / "thalweg.txt").read_text()
    lock.write_text(text.replace(f"river=={there['river']}", "river==0.0.1"))
    level, says = said(installed.packages("packages", lock, there, installed.needed_by_us()))
    assert (level, says) == ("wrong", f"river is {there['river']}, not 0.0.1")
    fewer = {name: version for name, version in there.items() if name not in ("onnx", "hypothesis")}
    found = installed.packages("packages", LOCKS / "thalweg.txt", fewer, installed.needed_by_us())
    assert said(found) == ("wrong", "onnx is missing")
    assert said(installed.packages("packages", tmp_path / "none.txt", there, None))[0] == "warning"


def test_every_package_of_tritons_environment_is_needed() -> None:
    """Its lock names nothing that could be left out."""
    there = installed.present([str(triton.PACKAGES)])
    fewer = {name: version for name, version in there.items() if name != "river"}
    assert said(installed.packages("t", LOCKS / "triton.txt", there, None))[0] == "ok"
    assert said(installed.packages("t", LOCKS / "triton.txt", fewer, None)) == ("wrong", "river is missing")


def test_triton_that_could_not_start(tmp_path: Path) -> None:
    """Without its server, or without Python's library, it says what to install."""
    assert said(installed.triton(tmp_path)[0]) == ("wrong", f"no server at {tmp_path}/bin/tritonserver")
    (none,) = installed.triton(triton.SERVER, "libpython0.0.so")
    assert (none.level, none.do) == ("wrong", "apt-get install libpython3.11")


def test_java_is_needed_for_apache_kafka_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is well where it isn't wanted; one that is too old is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert said(installed.java(wanted=False))[0] == "ok"
    assert said(installed.java(wanted=True))[0] == "wrong"
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    assert said(installed.java(wanted=True))[0] == "warning"


def test_a_gpu_that_pytorch_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver without a usable device is wrong; no driver is no fault."""
    assert said(installed.gpu(tmp_path / "none"))[0] == "ok"
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 0 None\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert said(installed.gpu(python))[0] == "wrong"
    python.write_text("#!/bin/sh\necho 2 12.8\n")
    assert said(installed.gpu(python)) == ("ok", "2 that PyTorch can use, CUDA 12.8")


# The machine


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A real disk of 4 MB has too little room; a folder that is not made yet is on its parent's disk."""
    with small_disk(tmp_path, 4):
        assert said(machine.disk("disk", tmp_path / "run" / "flights")) == ("wrong", f"4 MiB free at {tmp_path}")
    assert said(machine.disk("disk", tmp_path, bad=0, low=1 << 60))[0] == "warning"


def test_memory_that_is_short() -> None:
    """What the kernel calls available counts, or what the container has left; less is enough for a run that is up."""
    text = "MemTotal: 99 kB\nMemAvailable: {} kB\n"
    plenty, little = text.format(8 << 20), text.format(2 << 20)
    assert said(machine.memory(plenty, None, up=False))[0] == "ok"
    assert said(machine.memory(little, None, up=False))[0] == "warning"
    assert said(machine.memory(little, None, up=True))[0] == "ok"
    level, says = said(machine.memory(plenty, 500 << 20, up=False))
    assert (level, says) == ("wrong", "500 MiB available, by the limit of this container")


def test_few_open_files() -> None:
    """A limit that a join's segments would meet is a warning."""
    assert said(machine.open_files(1024))[0] == "warning"
    assert said(machine.open_files(-1))[0] == "ok"


def test_keys_are_found_wherever_they_are(tmp_path: Path) -> None:
    """Whatever is kept among the keys is a secret, unless its name says that it is public; and tokens are."""
    make_keys(tmp_path / "keys")
    token = tmp_path / "console" / "tokens.json"
    token.parent.mkdir()
    token.touch(mode=0o600)
    other = tmp_path / "keys" / "sub" / "other"
    other.parent.mkdir()
    other.touch(mode=0o640)
    other.chmod(0o640)
    assert keys.secrets_of(tmp_path) == [tmp_path / "keys" / "private", other, token]
    (found,) = keys.permissions(tmp_path)
    assert said(found) == ("wrong", f"{other} is open to others (-rw-r-----)")


# The log


def stamped(kind: str, partitions: int, replicas: int = 3, **config: str) -> Topic:
    nodes = tuple(range(1, replicas + 1))
    config = {"retention.ms": "-1", "min.insync.replicas": "2"} | topic_config(kind) | config
    return Topic((Partition(1, nodes, nodes),) * partitions, config)


def healthy_topics(stream: Stream, **changed: Topic) -> dict[str, Topic]:
    made = {kind: stamped(kind, 1 if kind in UNPARTITIONED else 3) for kind in TOPICS}
    made |= {kind.replace("_", "-"): topic for kind, topic in changed.items()}
    return {stream.topic(kind): topic for kind, topic in made.items()}


@pytest.fixture(scope="module")
def flights() -> Stream:
    return load_stream(ROOT / "schemas", "flights")


def found_in(stream: Stream, topics: dict[str, Topic], nodes: int = 3) -> list[tuple[str, str]]:
    return [said(one) for one in judge(stream, topics, nodes, embedded=False) if one.level != "ok"]


def test_topics_as_the_launcher_makes_them_are_well(flights: Stream) -> None:
    """Nothing is said against them; that there are none yet is no fault, one that is missing is."""
    topics = healthy_topics(flights)
    assert found_in(flights, topics) == []
    assert [level for level, _ in found_in(flights, {})] == ["warning"]
    del topics["flights.models"]
    assert found_in(flights, topics) == [("wrong", "flights.models is missing")]


@pytest.mark.parametrize(
    ("kind", "topic", "level", "says"),
    [
        ("labels", stamped("labels", 4), "wrong", "partition counts of flights differ"),
        ("examples", stamped("examples", 2), "wrong", "flights.examples has 2 partitions"),
        ("models", stamped("models", 1, **{"cleanup.policy": "delete"}), "wrong", "cleanup.policy is delete"),
        ("events", stamped("events", 3, **{"message.timestamp.type": "CreateTime"}), "wrong", "CreateTime"),
        ("features", stamped("features", 3, **{"max.message.bytes": "1048588"}), "wrong", "max.message.bytes"),
        ("events", stamped("events", 3, **{"retention.ms": "604800000"}), "warning", "keeps records for 7 days"),
        ("scored", stamped("scored", 3, **{"unclean.leader.election.enable": "true"}), "wrong", "may lose"),
        ("events", stamped("events", 3, 1, **{"min.insync.replicas": "1"}), "warning", "1 of 3 replicas"),
        ("events", stamped("events", 3, **{"min.insync.replicas": "1"}), "warning", "min.insync.replicas is 1"),
        ("late", Topic((Partition(-1, (1, 2, 3), (1, 2)),), stamped("late", 1).config), "wrong", "has no leader"),
        ("late", Topic((Partition(1, (1, 2, 3), (1, 2)),), stamped("late", 1).config), "warning", "2 of 3 replicas"),
        ("late", Topic((Partition(1, (1, 2, 3), (1,)),), stamped("late", 1).config), "wrong", "1 of 3 replicas"),
        ("late", Topic((Partition(1, (1, 2, 3), (1, 2, 3)),), None), "warning", "the broker does not say"),
    ],
)
def test_a_topic_that_is_not_as_it_should_be(flights: Stream, kind: str, topic: Topic, level: str, says: str) -> None:
    """Each departure from what the launcher makes is named, and nothing else is."""
    found = found_in(flights, healthy_topics(flights, **{kind: topic}))
    assert found
    assert all(level == one and says in words for one, words in found), found


def test_a_clock_that_is_ahead() -> None:
    """A stamp from the future is wrong by as much; an old one says nothing."""
    assert said(clocks(1000.0, 1000.5))[0] == "ok"
    assert said(clocks(0.0, 1000.0))[0] == "ok"
    assert said(clocks(1060.0, 1000.0)) == (
        "wrong",
        "the newest record is stamped 60.0 s ahead of this machine's clock",
    )


# A run


def test_services_that_are_not_ready() -> None:
    """One that is gone or stuck is wrong; one that waits is a warning, with what it waits for."""
    reports = {
        "features": None,
        "labels": Report("labels", "stuck", "the fold of a batch", 70.0),
        "learner": Report("learner", "waiting", "Triton", 12.0),
        "rollout": Report("rollout", "ready"),
    }
    found = troubles(reports)
    assert [(one.level, one.says) for one in found] == [
        ("wrong", "features does not answer"),
        ("wrong", "labels is stuck: the fold of a batch"),
        ("warning", "learner is waiting for 12 s"),
    ]
    assert found[2].do == "it waits for Triton"


def test_triton_that_does_not_answer() -> None:
    """No server at that address is wrong, said within seconds."""
    (port,) = brokers.free_ports(1)
    assert said(triton_ready(f"127.0.0.1:{port}"))[0] == "wrong"
