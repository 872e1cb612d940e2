"""The list of what may be unpickled: it has what River's models need, and nothing that reaches beyond them."""

import ast
import functools
import importlib
import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import river
from river import base, ensemble, forest, linear_model, naive_bayes, preprocessing, stats

from services.learner.model import build_model
from services.runtime.clip import Clip
from services.runtime.errors import ConfigError, Stop
from services.runtime.unpickling import NAMES, PACKAGES, WITHOUT, load

RIVER = Path(river.__file__).parent
REACHES_OUT = {
    *("asyncio", "ctypes", "http", "importlib", "multiprocessing", "os", "pathlib", "pickle", "requests", "runpy"),
    *("shutil", "signal", "socket", "subprocess", "tempfile", "urllib", "zipfile"),
}
NOT_SERVED = {  # they keep NumPy's RandomState, which Triton's NumPy can't unpickle, or a call of `copy.deepcopy`
    *("FFMClassifier", "FMClassifier", "FwFMClassifier", "HOFMClassifier", "LDA", "SoftmaxRegression"),
}
DRAWN = np.random.default_rng(3).standard_normal((150, 3)) * [1, 5, 0.1]
ROWS = [dict(zip("xyz", row, strict=True)) for row in DRAWN.tolist()]


def nameable() -> Iterator[tuple[str, base.Estimator]]:
    """Yield what a step can be, of every class of River's that is made without more, or as its own tests make it."""
    for package in sorted(PACKAGES - {"_river_rust", "base"}):
        for name, kind in sorted(vars(importlib.import_module(f"river.{package}")).items()):
            if not (isinstance(kind, type) and issubclass(kind, (base.Classifier, base.Transformer))):
                continue
            try:
                ways = [kind(**given) for given in itertools.islice(kind._unit_test_params(), 2)]
            except (TypeError, ValueError, NotImplementedError):
                continue
            yield from ((f"{package}.{name}", made) for made in ways)


def taught(model: Any) -> Any:
    """Return it with something learned; None for one that takes other things than numbers and two classes."""
    try:
        for row in ROWS:
            label = row["x"] > 0
            if isinstance(model, base.Classifier) or model._supervised:
                model.learn_one(row, label)
            else:
                model.learn_one(row)
            said(model, row)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
    return model


def said(model: Any, row: dict[str, float]) -> Any:
    return model.predict_proba_one(row) if isinstance(model, base.Classifier) else model.transform_one(row)


MODELS = [(name, model) for name, made in nameable() if (model := taught(made)) is not None]


def test_there_are_models() -> None:
    """Of all kinds: else what follows shows nothing."""
    assert len({name for name, _ in MODELS}) > 45
    assert {type(model).__name__ for _, model in MODELS} >= {"ARFClassifier", "GaussianNB", *NOT_SERVED}


@pytest.mark.parametrize(("name", "model"), MODELS, ids=[name for name, _ in MODELS])
def test_a_model_of_river_s_is_unpickled_or_never_begun_with(name: str, model: Any) -> None:
    """What was learned comes back as it was, also pickled again; what can't is refused where the pipeline is made."""
    state = pickle.dumps(model, protocol=5)
    if type(model).__name__ in NOT_SERVED:
        with pytest.raises(Stop, match="is not on the list"):
            load(state)
        with pytest.raises(ConfigError, match=r"can't be stored and loaded again, so not served: .* not on the list"):
            build_model([name] if isinstance(model, base.Classifier) else [name, "naive_bayes.GaussianNB"])
        return
    assert type(load(state)) is type(model)
    assert pickle.dumps(load(state), protocol=5) == pickle.dumps(pickle.loads(state), protocol=5)  # noqa: S301 - ours


def test_clip_and_numbers_of_numpy_s() -> None:
    """What is ours, arrays and scalars come back."""
    given = {
        "clip": Clip(2.0).at,
        "array": np.arange(3.0),
        "scalar": np.float64(0.5),
        "objects": np.array([{}, ()], dtype=object),
    }
    found = load(pickle.dumps(given, protocol=5))
    assert {name: str(value) for name, value in found.items()} == {name: str(value) for name, value in given.items()}
    assert load(pickle.dumps(Clip(2.0))).at == 2.0


@pytest.mark.parametrize("package", sorted(PACKAGES - {"_river_rust"}))
def test_no_class_of_the_list_can_reach_out(package: str) -> None:
    """No module of a package that is on it imports what opens files, starts processes or speaks to others."""
    for path in (RIVER / package).rglob("*.py") if (RIVER / package).is_dir() else [RIVER / f"{package}.py"]:
        module = "river." + ".".join(path.relative_to(RIVER).with_suffix("").parts).removesuffix(".__init__")
        if "test" in path.name or any(module == name or module.startswith(f"{name}.") for name in WITHOUT):
            continue
        defines = any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(path.read_text())))
        assert not (defines and imported(path) & REACHES_OUT), module


def imported(path: Path) -> set[str]:
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_every_name_of_the_list_is_needed() -> None:
    """By a model of River's, by an array or a scalar, by `Clip`, or by what they keep in sets, lists and texts."""
    needed = {("services.runtime.clip", "Clip")} | {("builtins", name) for name in ("frozenset", "list", "str")}
    needed |= {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")}
    needed |= {(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")} | {("numpy", "ndarray")}

    class Naming(pickle._Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            needed.add((module, name))
            return super().find_class(module, name)

    import io  # noqa: PLC0415

    for _, model in MODELS:
        Naming(io.BytesIO(pickle.dumps(model, protocol=5))).load()
    assert not NAMES - needed


# What stands in for a function


PARTIALS = {
    "a class": (functools.partial(stats.EWMean, 0.3), None),
    "a function": (functools.partial(print, "x"), "builtins.print"),
    "a bound method of a model": (
        functools.partial(linear_model.Perceptron().clone),
        "functools.partial of <bound method",
    ),
}


@pytest.mark.parametrize("name", PARTIALS)
def test_a_partial_waits_to_call_a_class_alone(name: str) -> None:
    """And is a partial when it is pickled again."""
    given, refused = PARTIALS[name]
    if refused is None:
        assert pickle.dumps(load(pickle.dumps(given))) == pickle.dumps(given)
        return
    with pytest.raises(Stop, match="is not on the list") as raised:
        load(pickle.dumps(given))
    assert refused in str(raised.value)


def test_a_partial_that_is_changed_once_it_is_made() -> None:
    """Its state is held against the list as well: it could name another function."""
    changed = functools.partial(float)
    state = pickle.dumps(changed)
    place = state.index(b"\x8c\x05float")
    first = state.index(b"R", place)
    forged = state[: first + 1] + b"(\x8c\x03odd)}Nt" + b"b."
    with pytest.raises(Stop, match=r"functools\.partial of 'odd'"):
        load(forged)


@pytest.mark.parametrize("method", ["__init__", "__class__", "_get_params", "steps", "learn_one"])
def test_no_other_method_is_had(method: str) -> None:
    """Of a model's attributes only the methods that River's own pickles name."""
    class_ = b"criver.linear_model.perceptron\nPerceptron\n"
    with pytest.raises(Stop, match=f"builtins.getattr of Perceptron and '{method}'"):
        load(b"cbuiltins\ngetattr\n(" + class_ + b"(tRS'" + method.encode() + b"'\ntR.")
    assert callable(load(b"cbuiltins\ngetattr\n(" + class_ + b"(tRS'clone'\ntR."))


@pytest.mark.parametrize(
    "name",
    [
        *("river.compose.func FuncTransformer", "river.datasets.base RemoteDataset", "river.stream.cache Cache"),
        *("river.misc.zstd_clf ZstdClassifier", "river.linear_model.perceptron Perceptron.learn_one"),
        *("river.linear_model.perceptron math", "river.linear_model.perceptron linear_model", "riverrun Perceptron"),
        *("river.tree.utils do_naive_bayes_prediction", "builtins bytearray", "numpy load", "numpy.testing assert_"),
        *("collections namedtuple", "river.base.base collections", "services.runtime.signing Signer", "river os"),
    ],
)
def test_what_is_not_on_the_list(name: str) -> None:
    """Functions, modules, what modules import, what a class of the list is called elsewhere, and the rest of ours."""
    module, what = name.split()
    with pytest.raises(Stop, match=r"is not on the list|are no pickle of a model"):
        load(f"c{module}\n{what}\n.".encode())


def test_a_model_that_was_taught_scores_as_before() -> None:
    """A forest, a bagging of trees and a naive Bayes behind a scaler, unpickled, predict bit for bit as they did."""
    for model in (
        forest.ARFClassifier(n_models=3, seed=1),
        ensemble.LeveragingBaggingClassifier(
            preprocessing.StandardScaler() | linear_model.LogisticRegression(), 3, seed=1
        ),
        preprocessing.StandardScaler() | naive_bayes.GaussianNB(),
    ):
        for row in ROWS:
            model.learn_one(row, row["x"] > 0)
        copy = load(pickle.dumps(model, protocol=5))
        for row in ROWS:
            assert copy.predict_proba_one(row) == model.predict_proba_one(row)
            model.learn_one(row, row["y"] > 0)
            copy.learn_one(row, row["y"] > 0)


def test_nothing_else_unpickles() -> None:
    """Under services/ and infra/ pickles are opened here alone, and PyTorch's as weights alone."""
    root = Path(__file__).parents[2]
    for path in sorted(path for folder in ("services", "infra") for path in (root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            called = ast.unparse(node.func)
            assert called not in {"pickle.loads", "pickle.load", "joblib.load", "marshal.loads", "np.load"}, path
            if called == "torch.load":
                assert "weights_only=True" in ast.unparse(node), path
