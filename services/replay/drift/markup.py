"""HTML and SVG, made so that nothing from the log gets in unescaped: whatever is no `Markup` is text."""

import html
from typing import TypeAlias


class Markup(str):
    """What is markup already."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | None"
_VOID = ("meta", "br", "col")
_NAMES = {"class_": "class", "for_": "for"}


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element. An attribute's `_` stands for `-`; one that is None is left out, as is such a child."""
    given = "".join(
        f' {_NAMES.get(key, key.replace("_", "-"))}="{html.escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children if child))


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
