"""Collects what is wrong with a request, so that one answer names every field."""

from mech_queue.model.errors import Code, Refusal


class Problems:
    """Field path -> sentences (each continues the field's name: "must be a string")."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def add(self, path: str, sentence: str) -> None:
        """Remember one more."""
        self.found.setdefault(path, []).append(sentence)

    def __bool__(self) -> bool:
        return bool(self.found)

    def refusal(self) -> Refusal:
        """All of it as one INVALID."""
        return Refusal(Code.INVALID, sentence_of(self.found), dict(self.found))

    def raise_if_any(self) -> None:
        """Raise the refusal when something was found."""
        if self.found:
            raise self.refusal()


def invalid(path: str, sentence: str) -> Refusal:
    """One problem as a refusal."""
    return Refusal(Code.INVALID, sentence_of({path: [sentence]}), {path: [sentence]})


def sentence_of(found: dict[str, list[str]]) -> str:
    """``queue is required; options.priority must be an integer.`` (at most three fields)."""
    parts = [f"{path or 'the body'} {sentences[0]}" for path, sentences in list(found.items())[:3]]
    more = len(found) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "") + "."
