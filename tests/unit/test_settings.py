"""Settings: nothing is needed, everything is checked, and a typing mistake is not passed over."""

from pathlib import Path

import msgspec
import pytest

from services.runtime.errors import ConfigError
from services.runtime.secret import Secret
from services.runtime.settings import SERVICES, Settings


class Ingestion(Settings, frozen=True, kw_only=True):
    """A service with a setting of its own."""

    port: int = 8000


def test_defaults() -> None:
    """Locally no variable is needed; data and schemas stand beside `services`."""
    settings = Settings.load("features", {})
    assert settings == Settings()
    assert (settings.stream, settings.broker) == ("flights", "127.0.0.1:9092")
    assert settings.schemas == SERVICES.parent / "schemas"
    assert (settings.schemas / "flights" / "pipeline.toml").is_file()
    assert settings.data == SERVICES.parent / ".run"


def test_frozen() -> None:
    """Settings do not change once read."""
    with pytest.raises(AttributeError):
        Settings().batch = 1  # type: ignore[misc]


def test_kinds() -> None:
    """Each value is read as its field's kind."""
    settings = Settings.load(
        "features",
        {
            "THALWEG_STREAM": "bikes",
            "THALWEG_BATCH": "17",
            "THALWEG_POLL_S": "0.5",
            "THALWEG_SNAPSHOT_EVERY_S": "3",
            "THALWEG_DATA": "/var/lib/thalweg",
            "PATH": "/bin",
        },
    )
    assert (settings.stream, settings.batch, settings.poll_s, settings.snapshot_every_s) == ("bikes", 17, 0.5, 3.0)
    assert isinstance(settings.snapshot_every_s, float)
    assert settings.data == Path("/var/lib/thalweg")
    assert settings.broker == Settings().broker


def test_every_setting_has_a_variable() -> None:
    """Each shared field is `THALWEG_` and its name; numbers are taken for text where text is wanted."""
    given = {f"THALWEG_{name.upper()}": "7" for name in Settings.__struct_fields__}
    settings = Settings.load("features", given)
    plain = [v.reveal() if isinstance(v, Secret) else str(v) for v in msgspec.structs.asdict(settings).values()]
    assert set(plain) == {"7", "7.0"}


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("THALWEG_BATCH", "many", "int"),
        ("THALWEG_BATCH", "1.5", "int"),
        ("THALWEG_POLL_S", "soon", "float"),
    ],
)
def test_wrong_values(variable: str, value: str, expected: str) -> None:
    """A value of the wrong kind is an error that names the service, the setting and the kind."""
    with pytest.raises(ConfigError) as error:
        Settings.load("features", {variable: value})
    assert "features" in str(error.value)
    assert variable.removeprefix("THALWEG_").lower() in str(error.value).lower()
    assert f"`{expected}`" in str(error.value)


@pytest.mark.parametrize("variable", ["THALWEG_DATA", "THALWEG_STREAM", "THALWEG_BATCH", "THALWEG_INGESTION_PORT"])
def test_an_empty_value_is_none(variable: str) -> None:
    """A variable that is set to nothing is an error that names it: as a path it would be the current folder."""
    with pytest.raises(ConfigError, match=f"environment of ingestion: {variable}: found nothing"):
        Ingestion.load("ingestion", {variable: ""})


def test_own() -> None:
    """A service's own setting carries its name, and is not one without it."""
    assert Ingestion.load("ingestion", {"THALWEG_INGESTION_PORT": "80"}).port == 80
    with pytest.raises(ConfigError, match="THALWEG_PORT: no such setting"):
        Ingestion.load("ingestion", {"THALWEG_PORT": "80"})


@pytest.mark.parametrize("variable", ["THALWEG_BACTH", "THALWEG_", "THALWEG_FEATURES_BATCH", "THALWEG_FEATURES_"])
def test_unknown(variable: str) -> None:
    """A variable with our prefix that nobody reads is an error that says which there are."""
    with pytest.raises(ConfigError) as error:
        Settings.load("features", {variable: "1", "THALWEG_BATCH": "5"})
    assert str(error.value).startswith(f"{variable}: no such setting. features knows THALWEG_BATCH, THALWEG_BROKER")


def test_all_unknown_at_once() -> None:
    """All unknown variables are named at once."""
    with pytest.raises(ConfigError, match="THALWEG_A, THALWEG_B: no such setting"):
        Settings.load("features", {"THALWEG_B": "", "THALWEG_A": ""})


def test_others() -> None:
    """What belongs to another service, or has no prefix of ours, is none of this service's business."""
    others = {
        "THALWEG_INFERENCE_ANYTHING": "x",
        "THALWEG_INGESTION_PORT": "no number",
        "BATCH": "x",
        "thalweg_batch": "x",
    }
    assert Settings.load("features", others) == Settings()
