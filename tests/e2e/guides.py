"""Runs a page of docs/guides: its requests and programs in order, and compares what the page shows with what comes.

Code blocks: ``bash`` is run as it stands, and what it prints must fit the ``json`` block behind it; ``python`` is run
as a program and must print what the ``text`` block behind it says. In an expected answer ``…`` stands for anything,
and members that are not shown do not matter. ``$JOB`` and the like are what the answers before showed.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

PATIENCE_S = 15

SHOWN: dict[str, tuple[tuple[str | int, ...], ...]] = {
    "JOB": (("jobId",), ("job", "id"), ("jobs", 0, "id"), ("results", 0, "jobId")),
    "TOKEN": (("leaseToken",), ("jobs", 0, "leaseToken")),
    "CURSOR": (("nextCursor",),),
    "OPERATION": (("operationId",),),
    "SCHEDULE": (("schedule", "id"),),
    "NEW_KEY": (("data", "apiKey"),),
    "ID": (("data", "id"),),
}
"""Variables, and where in an answer their values stand."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every code block of a page."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


class Reader:
    """Somebody who tries a page out, in a folder of their own. ``preparation``: what to do in the shell before."""

    def __init__(self, folder: Path, preparation: str) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        names = "URL", "KEY", "ADMIN", "MASTER_API_KEY"
        shown = self._shell(f"{preparation}\n" + "".join(f'echo "${name}"\n' for name in names))
        self.environment |= dict(zip(names, shown.split(), strict=True))

    def follow(self, page: Path) -> int:
        """Run the whole page; returns how many answers were compared."""
        found = blocks(page)
        compared = 0
        for (language, text), (after, expected) in zip(found, [*found[1:], ("", "")], strict=True):
            if language == "bash":
                compared += after == "json"
                self._request(text, expected if after == "json" else None)
            elif language == "python":
                assert after == "text", "a program needs the text that it prints"
                compared += 1
                printed = self._process(sys.executable, "-c", text)
                assert fits(expected.strip(), printed.strip()), f"{text}\nprinted\n{printed}\nnot\n{expected}"
            else:
                assert language in ("json", "text"), language
        return compared

    def _request(self, text: str, expected: str | None) -> None:
        """One command after the other; the answer of the last one counts."""
        *first, last = re.split(r"^(?=curl )", text.strip(), flags=re.MULTILINE)[1:]
        for command in first:
            self._run(command)
        if expected is None:
            self._run(last)
            return
        wanted = json.loads(expected)
        answer = self._run(last)
        if "--json" not in last and "-X" not in last:  # it only reads: the service may still be at work
            until = time.monotonic() + PATIENCE_S
            while not same(wanted, answer) and time.monotonic() < until:
                answer = self._run(last)
        shown = json.dumps(answer, indent=1, ensure_ascii=False)
        assert same(wanted, answer), f"{last}\nanswered\n{shown}\nnot\n{expected}"

    def _run(self, command: str) -> Any:
        answer = json.loads(self._shell(command))
        for name, places in SHOWN.items():
            for place in places:
                value = inside(answer, place)
                if isinstance(value, str):
                    self.environment[name] = value
                    break
        return answer

    def _shell(self, text: str) -> str:
        return self._process("bash", "-euo", "pipefail", "-c", text)

    def _process(self, *arguments: str) -> str:
        run = subprocess.run(
            arguments, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, f"{arguments[-1]}\n{run.stdout}{run.stderr}"
        return run.stdout


def inside(value: Any, place: tuple[str | int, ...]) -> Any:
    """What stands at a place of an answer, or None."""
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def same(expected: Any, found: Any) -> bool:
    """Whether an answer is what the page shows."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(name in found and same(expected[name], found[name]) for name in expected)
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, expected, found))
    if expected == "…":
        return True
    if isinstance(expected, str) and isinstance(found, str):
        return fits(expected, found)
    return isinstance(expected, bool) is isinstance(found, bool) and bool(expected == found)


def fits(pattern: str, text: str) -> bool:
    """Whether a text is the pattern, where ``…`` stands for anything on one line."""
    return re.fullmatch("[^\n]*".join(map(re.escape, pattern.split("…"))), text) is not None
