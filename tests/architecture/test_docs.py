"""The pages that are made from code are fresh, and name every key that a script touches."""

import re
import time
from typing import Any

import pytest

from docs.generate import ACTIONS, FOLDER, PAGES, lua_sources, redis_keys
from mech_queue.model import strict_json
from mech_queue.model.delivery import ErrorCode
from mech_queue.model.event import EventType
from mech_queue.model.job import TRANSITIONS
from mech_queue.model.problems import Problems
from mech_queue.model.signing import new_secret, sign
from mech_queue.model.submission import parse_submission
from mech_queue.model.subscription import parse_subscription

ROOT = FOLDER.parent
LINKED = sorted(str(path.relative_to(ROOT)) for path in FOLDER.rglob("*.md") if path.name != "seed.md")
"""All pages but the seed's text, which was written for another place."""


@pytest.mark.parametrize("page", PAGES)
def test_a_made_page_is_fresh(page: str) -> None:
    assert (FOLDER / page).read_text(encoding="utf-8") == PAGES[page](), "run `make docs` and commit what changed"


def test_every_action_is_explained() -> None:
    assert ACTIONS.keys() == TRANSITIONS.keys()


def test_every_key_of_the_scripts_is_on_the_map() -> None:
    described = set(re.findall(r"^\| `<([PS])>([a-z_]+)", redis_keys(), re.MULTILINE))
    used = {
        (place, family, name)
        for name, source in lua_sources()
        for place, family in re.findall(r"\b([PS]) \.\. '([a-z_]+):?'", source)
    }
    assert used, "the scripts name their keys otherwise now; adapt this test"
    missing = sorted((name, family) for place, family, name in used if (place, family) not in described)
    assert not missing, "say in the header comment of a Lua file what these hold"


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page: str) -> None:
    place = ROOT / page
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", place.read_text(encoding="utf-8"))
    assert not [link for link in links if not (place.parent / link).exists()]


WEBHOOKS = FOLDER / "events-and-webhooks.md"


def test_the_page_of_webhooks_names_every_event_and_error() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", WEBHOOKS.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == {one.value for one in (*EventType, *ErrorCode)}


def test_the_examples_of_the_page_of_webhooks_are_valid() -> None:
    page = WEBHOOKS.read_text(encoding="utf-8")
    examples = dict(re.findall(r"```json (\w+)\n(.*?)```", page, re.DOTALL))
    job = strict_json.parse(examples["job"].encode())
    assert set(parse_submission(job.value, job.members).webhooks) == {"completed", "failed"}
    problems = Problems()
    assert parse_subscription(strict_json.load(examples["subscription"].encode()), problems).filters.queues
    assert not problems.found


def test_the_receiver_of_the_page_checks_signatures() -> None:
    code = re.search(r"```python\n(.*?)```", WEBHOOKS.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(compile(code.group(1), "events-and-webhooks.md", "exec"), names)
    secret, body = new_secret(), b'{"jobId":"1","status":"completed"}'
    headers = sign([secret], "msg_1", int(time.time()), body)
    assert names["handle"](headers, body, secret) == 204
    assert names["handle"](headers, body + b" ", secret) == 400
