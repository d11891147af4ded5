"""Collects what is wrong with a request, so that one answer names every field."""

from collections.abc import Iterable
from typing import Any

from mech_queue.model.errors import Code, Refusal


class Problems:
    """Field path -> sentences (each continues the field's name: "must be a string")."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def add(self, path: str, sentence: str) -> None:
        """Remember one more."""
        self.found.setdefault(path, []).append(sentence)

    def object(self, path: str, value: Any, names: tuple[str, ...]) -> dict[str, Any]:
        """``value`` if it is an object, with only its members of these names; ``{}`` when it is none."""
        if not isinstance(value, dict):
            self.add(path, "must be an object")
            return {}
        for name in value:
            if name not in names:
                self.add(join(path, name), unknown(name, names))
        return {name: value[name] for name in value if name in names}

    def integer(self, path: str, value: Any, least: int, most: int) -> int:
        """``value`` if it is an integer within the range; ``least`` when it is none."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.add(path, f"must be an integer from {least} to {most}")
            return least
        return value

    def texts(self, path: str, value: Any, most: int) -> list[str]:
        """``value`` if it is a list of at most ``most`` strings; without those that are none."""
        if not isinstance(value, list) or len(value) > most:
            self.add(path, f"must be a list of at most {most} strings")
            return []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.add(f"{path}.{index}", "must be a string")
        return [item for item in value if isinstance(item, str)]

    def __bool__(self) -> bool:
        return bool(self.found)

    def refusal(self) -> Refusal:
        """All of it as one INVALID."""
        return Refusal(Code.INVALID, sentence_of(self.found), dict(self.found))

    def raise_any(self) -> None:
        """Raise the refusal when something was found."""
        if self.found:
            raise self.refusal()


def unknown(name: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The sentence about a name that does not exist here, and the one that was meant.

    That is one of the same letters (``run_at`` for runAt), also ``elsewhere``, by its path (``options.delay``).
    """
    letters = name.replace("_", "").replace("-", "").lower()
    meant = next((one for one in (*known, *elsewhere) if one.rpartition(".")[2].lower() == letters), None)
    return f"is not a known name here{f', but {meant} is' if meant else ''}; known are: {', '.join(known) or 'none'}"


def join(path: str, name: str) -> str:
    """The path of a member."""
    return f"{path}.{name}" if path else name


def invalid(path: str, sentence: str) -> Refusal:
    """One problem as a refusal."""
    return Refusal(Code.INVALID, sentence_of({path: [sentence]}), {path: [sentence]})


def sentence_of(found: dict[str, list[str]]) -> str:
    """``queue is required; options.priority must be an integer.`` (at most three fields)."""
    parts = [f"{path or 'the body'} {sentences[0]}" for path, sentences in list(found.items())[:3]]
    more = len(found) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "") + "."
