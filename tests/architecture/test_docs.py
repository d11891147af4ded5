"""The pages that are made from code are fresh, and name every key that a script touches."""

import re

import pytest

from docs.generate import ACTIONS, FOLDER, PAGES, lua_sources, redis_keys
from mech_queue.model.job import TRANSITIONS

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
