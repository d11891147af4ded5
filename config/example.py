"""Writes ``.env.example`` from the settings: ``python -m config.example > .env.example``."""

import textwrap

from pydantic.fields import FieldInfo

from config.settings import SECTIONS

HEAD = """\
# Every setting of mech-queue, with its default and its reason; made from config/sections.py by
#   python -m config.example > .env.example
# All lines are comments, so a plain copy to .env changes nothing: uncomment what you want to change.
# A secret NAME may also be given as NAME_FILE, the path of a file that holds it. An empty value is no value.
"""


def render() -> str:
    """The whole file."""
    parts = [HEAD]
    for section in SECTIONS:
        parts.append(f"\n# ---- {section.__doc__} ----\n")
        parts += [_entry(name, field) for name, field in section.model_fields.items()]
    return "".join(parts)


def _entry(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    reason = textwrap.wrap(field.description or "", 104)
    value = default_text(field.default)
    if not value:
        reason.append("Default: empty.")
        value = str(extra["example"])
    lines = "".join(f"# {line}\n" for line in reason)
    return f"\n{lines}#{name.upper()}={value}\n"


def default_text(value: object) -> str:
    """A default as the environment would say it; empty: none."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    print(render(), end="")
