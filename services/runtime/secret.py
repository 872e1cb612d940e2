"""A password or a token: whoever needs the text says so, and nothing else shows it."""


class Secret:
    """Text that no `repr`, `str`, format, pickle or traceback shows; `reveal` does."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> tuple[type["Secret"], tuple[()]]:
        """Let settings without one go to another process."""
        if self._text:
            raise TypeError("a secret is not written anywhere")
        return Secret, ()
