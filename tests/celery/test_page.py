"""docs/native-worker.md names every setting with its true default; docs/deployment.md what /stats has."""

import re
from dataclasses import fields

from api.schemas.queues import StatsAnswerSchema
from mech_queue.celery.options import ENVIRONMENT_PREFIX, Options
from tests.celery.support import ROOT

PAGE = ROOT / "docs" / "native-worker.md"


def test_every_setting_stands_there_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(MECH_QUEUE_\w+)` \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    told = {name: value.strip() for name, value in rows.items()}
    expected = {
        ENVIRONMENT_PREFIX + field.name.upper(): _text(field.default)
        for field in fields(Options)
        if field.name not in ("applications", "queues")
    }
    assert told == expected


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_autoscaler_reads_a_number_that_is_there() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (location,) = re.findall(r"valueLocation: (\w+)", page)
    assert location in StatsAnswerSchema().fields
