"""Writes the pages of docs/ that are made from code, and Grafana's dashboard: ``make docs``.

A test compares them with what this makes, so they cannot drift.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import yaml

from config.example import default_text
from config.settings import SECTIONS
from docs import dashboard
from mech_queue.model.job import TRANSITIONS, State
from mech_queue.store import keys
from mech_queue.store.rates import PREFIX as RATES

FOLDER = Path(__file__).parent
NOTE = "<!-- Made by `make docs` from {}; do not edit. -->\n\n"

ACTIONS = {
    "start": "a worker takes it: claim, PUT started, or a report on a waiting job",
    "complete": "its worker reports success",
    "fail": "its worker reports a failure, or its `timeout` ran out: another attempt (maybe after a pause), or the end",
    "stall": "its lease ran out: back at once, or the end after `maxStalls`",
    "release": "its worker gives it back unfinished",
    "expire": "nobody started it within `expiresIn`",
    "promote": "its time came, its parents completed, or somebody asked",
    "postpone": "somebody gave it a later time",
    "orphan": "a job that it depends on failed",
    "cancel": "somebody asked; its worker learns it at its next write",
    "retry": "somebody asked; attempts are counted anew",
}


def states() -> str:
    """docs/states.md"""
    lines = [NOTE.format("mech_queue/model/job.py"), "# States of a job\n\n```mermaid\nstateDiagram-v2\n"]
    lines += ["    [*] --> waiting: submit\n", "    [*] --> delayed: submit (later, or after parents)\n"]
    edges: dict[tuple[State, State], list[str]] = {}
    for action, table in TRANSITIONS.items():
        for before in table:
            for after in sorted(table[before]):
                edges.setdefault((before, after), []).append(action)
    lines += [f"    {before} --> {after}: {', '.join(actions)}\n" for (before, after), actions in edges.items()]
    lines += [f"    {state} --> [*]: retention, delete\n" for state in State if state.ended]
    lines.append("```\n\n| state | meaning |\n|---|---|\n")
    meanings = dict(re.findall(r'= "(\w+)"  # (.+)', inspect.getsource(State)))
    lines += [f"| {state} | {meanings[state.value]} |\n" for state in State]
    lines.append("\n| action | when | from → to |\n|---|---|---|\n")
    for action, table in TRANSITIONS.items():
        ways = "; ".join(f"{before} → {' or '.join(sorted(table[before]))}" for before in table)
        lines.append(f"| {action} | {ACTIONS[action]} | {ways} |\n")
    lines.append(
        "\nWaiting and delayed jobs may also be deleted. A state changes only in `transition` of "
        "`store/lua/lib/job.lua`, which gets this table from Python and refuses everything else; "
        "each change writes its event and its counters in the same script.\n"
    )
    return "".join(lines)


OUTSIDE = (
    (keys.META.decode(), "hash", "schema, store id, number of shards"),
    (keys.API_KEYS.decode(), "hash", "digest of an API key → application and key id"),
    (keys.APPLICATIONS.decode(), "zset", "creation (ms) → application"),
    (keys.HTTP_COUNTERS.decode(), "hash", "HTTP counters of all API processes, by sample"),
    (f"{RATES.decode()}<key>", "string", "rate limit: requests taken in the present window; expires with it"),
    ("mq:wake:<NN>", "channel", "“there is startable work in this queue”, “this job ended”"),
    ("jobs.<application>.<queue>", "list", "wake-ups of a queue, read by native Celery workers"),
    ("subscriptions.<NN>, webhooks.<NN>", "list", "wake-ups of the stages"),
)
_ENTRY = re.compile(r"(?:^|\s{2,})(?=<(?:[PS]|prefix)>)")
_KEY = re.compile(r"((?:<[^>]*>|[^\s<])+)\s*(.*)")


def lua_sources() -> Iterator[tuple[str, str]]:
    """(name, text) of every Lua file, shared parts first."""
    folder = files("mech_queue.store").joinpath("lua")
    for place in (folder.joinpath("lib"), folder):
        for entry in sorted(place.iterdir(), key=lambda one: one.name):
            if entry.name.endswith(".lua"):
                name = f"lib/{entry.name}" if place != folder else entry.name
                yield name, entry.read_text(encoding="utf-8")


def keys_of(source: str) -> list[tuple[str, str]]:
    """(key, what it holds) from the comment that opens a Lua file."""
    found: list[str] = []
    open_entry = False
    for line in source.splitlines():
        if not line.startswith("--"):
            break
        text = line[2:].rstrip()
        if text.lstrip().startswith("<"):
            found += [part for part in _ENTRY.split(text.strip()) if part]
            open_entry = True
        elif open_entry and text.startswith("     "):  # goes on
            found[-1] += " " + text.strip()
        else:
            open_entry = False
    pairs = [match.groups() for match in map(_KEY.fullmatch, found) if match]
    return [(key.replace("<prefix>", "<P>").replace("<S><application>:", "<P>"), what) for key, what in pairs]


KEYS_HEAD = """\
# Keys of the store

The hash tag of a key is its shard, `{s00}` to `{s15}` (crc32 of the application id mod 16): everything of an
application lies in one Cluster slot, and a script touches one shard only. `<S>` is `mq:{sNN}:`, `<P>` is
`<S><application id>:`. Deliveries live like jobs in the shard's pseudo-application `~`. Ids of jobs in keys and
members are their 16 bytes; seq8 is a sequence as 8 bytes, big-endian, so that the order of the bytes is age.

Read these keys as you like; only the scripts may write them.

## In the shards

| key | holds | described in |
|---|---|---|
"""


def redis_keys() -> str:
    """docs/redis_keys.md"""
    lines = [NOTE.format("the header comments of mech_queue/store/lua"), KEYS_HEAD]
    for name, source in lua_sources():
        lines += [f"| `{key}` | {_cell(what)} | {name} |\n" for key, what in keys_of(source)]
    lines.append("\n## Outside the shards\n\n| key | type | holds |\n|---|---|---|\n")
    lines += [f"| `{key}` | {kind} | {what} |\n" for key, kind, what in OUTSIDE]
    return "".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"<([^>]*)>", r"&lt;\1&gt;", text).replace("|", "\\|")


SETTINGS_HEAD = """\
# Settings

All come from the environment (or a `.env` file beside the Makefile). A secret `NAME` may also be given as
`NAME_FILE`, the path of a file that holds it. An empty value is no value.
"""


def settings() -> str:
    """docs/settings.md"""
    lines = [NOTE.format("config/sections.py"), SETTINGS_HEAD]
    for section in SECTIONS:
        lines.append(f"\n## {section.__doc__}\n\n| name | default | meaning |\n|---|---|---|\n")
        for name, field in section.model_fields.items():
            extra = field.json_schema_extra
            secret = " *Secret.*" if isinstance(extra, dict) and extra["secret"] else ""
            default = default_text(field.default)
            shown = f"`{default}`" if default else "empty"
            lines.append(f"| `{name.upper()}` | {shown} | {_cell(field.description or '')}{secret} |\n")
    return "".join(lines)


ALERTS_HEAD = """\
# Alerts

What to be told of, and what to do then. The rules are [deploy/alerts.yml](../deploy/alerts.yml), for Prometheus, over
the [metrics](metrics.md); how to run them: [deployment.md](deployment.md#prometheus-and-grafana). `critical`:
somebody should get up; `warning`: it can wait for the morning.

Requests are made with a key of the application, or with the master key and the header
`X-Application-Id: <application>`.
"""


def alerts() -> str:
    """docs/alerts.md"""
    (group,) = yaml.safe_load((FOLDER.parent / "deploy" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    lines = [NOTE.format("deploy/alerts.yml"), ALERTS_HEAD]
    for rule in group["rules"]:
        told = rule["annotations"]
        summary = re.sub(r"{{ \$(?:labels\.)?(\w+)[^}]*}}", r"*\1*", told["summary"])
        what_to_do = re.sub(r"docs/([\w./-]+#[\w-]+)", r"[\1](\1)", told["what_to_do"])
        lines.append(f"\n## {rule['alert']}\n\n`{rule['labels']['severity']}`, when it lasts {rule['for']}. {summary}")
        lines.append(f"\n\n```promql\n{rule['expr']}\n```\n\n{what_to_do}\n")
    return "".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "states.md": states,
    "redis_keys.md": redis_keys,
    "settings.md": settings,
    "alerts.md": alerts,
    "../deploy/grafana.json": dashboard.render,
}


def main() -> None:
    """Write all pages."""
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
