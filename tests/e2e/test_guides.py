"""The guides: every page is followed to its end, as a reader would."""

from pathlib import Path

import pytest

from tests.e2e.guides import FOLDER, Reader, blocks, same
from tests.support.service import MASTER_KEY, Service

INDEX = FOLDER / "README.md"
PAGES = [*sorted((FOLDER / "guides").glob("*.md")), FOLDER / "schedules.md"]


def reader(service: Service, folder: Path) -> Reader:
    """Somebody with an application of their own, who did what the index says."""
    application = service.application()
    credentials = {
        "MECH_QUEUE_URL": service.url,
        "MASTER_API_KEY": MASTER_KEY,
        "APPLICATION_ID": application.id,
        "APPLICATION_API_KEY": application.api_key,
    }
    (folder / ".mech-queue").mkdir()
    lines = [f"{name}={value}\n" for name, value in credentials.items()]
    (folder / ".mech-queue" / "credentials.env").write_text("".join(lines))
    ((_, text),) = blocks(INDEX)
    return Reader(folder, text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(service: Service, tmp_path: Path, page: Path) -> None:
    assert reader(service, tmp_path).follow(page) > 0, "the page shows no answer"


@pytest.mark.parametrize(
    ("expected", "found", "good"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": "…"}, {"a": None}, True),
        ({"a": "not before …"}, {"a": "not before 12:00"}, True),
        ([1, 2], [1], False),
        ({"a": True}, {"a": 1}, False),
    ],
)
def test_an_answer_is_compared_as_the_pages_say(expected: object, found: object, good: bool) -> None:
    assert same(expected, found) is good


def test_the_index_names_every_page() -> None:
    index = INDEX.read_text(encoding="utf-8")
    assert [page.name for page in PAGES if f"({page.relative_to(FOLDER)})" not in index] == []
