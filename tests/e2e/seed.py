"""Lifts the examples out of docs/seed.md, which is the original promise word for word.

Nothing of the seed stands in the tests themselves, so the tests cannot drift from it. What may be
replaced is listed in ``adapt``; everything else runs as it is written there.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = Path(__file__).parents[2] / "docs" / "seed.md"
SHA256 = "16163948bb40ae3f3e1e38090866f3633fff17f5b2ec2f795b44324646c930df"
"""The seed is quoted, never edited: whoever changes it breaks the promise that it stands for."""

BASE = "http://localhost:3003"
WEBHOOK_HOST = "https://myapp.com"
NOBODY = "http://127.0.0.1:49151"
"""Where webhooks go when a test does not look at them: nothing listens there."""

KEYS = ("your-api-key", "worker-api-key")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A request of the API part: what is sent and, where the seed shows it, what comes back."""

    method: str
    path: str
    body: Any
    answer: Any


def text() -> str:
    """The seed."""
    raw = SEED.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == SHA256, "docs/seed.md was changed"
    return raw.decode()


def blocks(language: str) -> list[str]:
    """All code blocks of one language, in order."""
    return [body for name, body in _BLOCK.findall(text()) if name == language]


def javascript(containing: str) -> str:
    """The one JavaScript block that contains this text."""
    found = [block for block in blocks("javascript") if containing in block]
    assert len(found) == 1, f"{len(found)} blocks contain {containing!r}"
    return found[0]


def adapt(source: str, url: str, api_key: str, webhook_host: str = NOBODY) -> str:
    """The seed's code for this service: base address, keys and the hosts of webhook URLs. Nothing else."""
    source = source.replace(BASE, url).replace(WEBHOOK_HOST, webhook_host)
    for key in KEYS:
        source = source.replace(key, api_key)
    return source


def example(heading: str) -> Example:
    """The request under a heading such as ``Submit a Job``."""
    part = text().split(f"#### {heading}\n", 1)[1]
    found = _BLOCK.search(part)
    assert found is not None
    block = found.group(2).replace(WEBHOOK_HOST, NOBODY)
    head = re.match(r"(GET|POST|PUT) (\S+)", block)
    assert head is not None
    return Example(head.group(1), head.group(2), _json_after("Body:", block), _json_after("Response:", block))


def requests_lines() -> list[str]:
    """The paths of every ``GET /…`` line of the seed's blocks."""
    return re.findall(r"^GET (/\S+)$", "\n".join(blocks("bash")), re.MULTILINE)


def loads(block: str) -> Any:
    """JSON as the seed writes it: ``//`` comments, ``{ ... }`` and ``[...]`` are taken out."""
    plain = re.sub(r"\s+//[^\n]*$", "", block, flags=re.MULTILINE)
    plain = re.sub(r"\{ ?\.\.\. ?\}", "{}", plain).replace("[...]", "[]")
    return json.loads(re.sub(r",(\s*[}\]])", r"\1", plain))


def _json_after(word: str, block: str) -> Any:
    found = re.search(rf"^{word}\n(\{{.*?^\}})", block, re.MULTILINE | re.DOTALL)
    return None if found is None else loads(found.group(1))
