"""What may be unpickled: models of River's, and nothing that runs code, whoever signed it.

A pickle is a program that calls what it names. Here it may name classes of those packages of River that models are made
of, containers, numbers, NumPy's arrays and scalars, and `Clip`: to make one of those opens no file and starts nothing.
Functions are not to be had, but for two by name, nor is an attribute of anything, but for the few methods of River's
that its own models keep. `functools.partial` waits to call a class of this list, and nothing else.

The list ends at what those classes do: a pickle that was signed here may hold any weights, take much memory, or set an
attribute of a class on the list. It says what a model answers, and can't reach beyond that.
"""

import functools
import io
import pickle
from types import FunctionType
from typing import Any, Self

from services.runtime.errors import Stop

PACKAGES = frozenset(
    [
        *("_river_rust", "active", "anomaly", "bandit", "base", "cluster", "compose", "drift", "dummy", "ensemble"),
        *("facto", "feature_extraction", "feature_selection", "forest", "imblearn", "linear_model", "metrics"),
        *("model_selection", "multiclass", "naive_bayes", "neighbors", "optim", "preprocessing", "proba", "rules"),
        *("sketch", "stats", "tree", "utils"),
    ]
)
WITHOUT = ("river.compose.func", "river.bandit.datasets", "river.bandit.envs", "river.drift.datasets")  # call, and read
CLIP = ("services.runtime.clip", "Clip")
NAMES = frozenset(
    [
        *(("builtins", name) for name in ("bool", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple")),
        *(("collections", name) for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
        ("random", "Random"),
        *(("numpy", name) for name in ("dtype", "ndarray")),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        ("river.naive_bayes.gaussian", "GaussianNB._make_gaussian"),
        ("river._river_rust.vectordict", "euclidean_distance_tuple"),
        CLIP,
    ]
)
METHODS = frozenset(
    [
        *("clone", "_rand_gauss", "_rand_weights_for_feature", "_random_weights"),
        *(f"_calc_tau_{mode}" for mode in (0, 1, 2)),
        *("_leveraging_bag", "_leveraging_bag_half", "_leveraging_bag_me", "_leveraging_bag_wt", "_leveraging_subag"),
    ]
)


def load(payload: bytes) -> Any:  # noqa: ANN401 - whatever was pickled
    """Return what was pickled; raise Stop where it names what is not on the list, before that is imported or called."""
    try:
        return _Unpickler(io.BytesIO(payload)).load()
    except Stop:
        raise
    except Exception as error:  # a pickle that is none fails in as many ways as there are operations
        raise Stop(f"{len(payload)} bytes are no pickle of a model: {type(error).__name__}: {error}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class, or what stands for a function
        if (module, name) in _STANDING_IN:
            return _STANDING_IN[module, name]
        if (module, name) in NAMES:
            return super().find_class(module, name)
        if _is_of_river(module) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise _refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401 - of any type
        raise _refused(f"a reference to what is outside of it, {str(pid)[:100]!r},")


class _Partial(functools.partial[Any]):
    """A class of the list with some of its arguments; pickled as what it stands in for."""

    def __new__(cls, what: Any, /, *args: Any, **named: Any) -> Self:  # noqa: ANN401 - as in `functools`
        return super().__new__(cls, _class(what), *args, **named)

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - as in `functools`
        _class(state[0])
        super().__setstate__(state)  # type: ignore[misc]  # typeshed lacks it

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (self.func,), (self.func, self.args, self.keywords, None)


def _class(what: Any) -> Any:  # noqa: ANN401 - a class
    if not isinstance(what, type):
        raise _refused(f"functools.partial of {what!r:.100}")
    return what


def _method(owner: Any, name: Any) -> Any:  # noqa: ANN401 - a bound method
    """Return a method that River's models keep, of a model of River's: what `getattr` is named for in their pickles."""
    kind = type(owner)
    if name in METHODS and _is_of_river(kind.__module__) and isinstance(getattr(kind, name, None), FunctionType):
        return getattr(owner, name)
    raise _refused(f"builtins.getattr of {kind.__qualname__} and {name!r:.100}")


_STANDING_IN = {("functools", "partial"): _Partial, ("builtins", "getattr"): _method}


def _is_of_river(module: str) -> bool:
    river, _, rest = module.partition(".")
    without = any(module == name or module.startswith(f"{name}.") for name in WITHOUT)
    return river == "river" and rest.partition(".")[0] in PACKAGES and not without


def _refused(what: str) -> Stop:
    return Stop(f"{what} is not on the list of what a model may be made of: it was not unpickled")
