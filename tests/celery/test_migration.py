"""examples/migration: an existing Celery application before and after, as its owner runs it."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from mech_queue.model.job import JobSpec
from mech_queue.services import jobs
from tests.celery.support import APPLICATION, ROOT, Shop, Worker
from tests.support import wait_until
from tests.support.valkey import ValkeyServer

FOLDER = ROOT / "examples" / "migration"


@pytest.fixture
def invoices(tmp_path: Path) -> Path:
    """Where the shop writes."""
    return tmp_path


@pytest.fixture
def shop(valkey_server: ValkeyServer, invoices: Path) -> Iterator[Shop]:
    opened = Shop(valkey_server, INVOICES=str(invoices))
    yield opened
    opened.close()


def serve(shop: Shop, which: str, *queues: str) -> None:
    """A worker of the application as it was, or as it is."""
    app = f"examples.migration.{which}"
    worker = Worker(shop, "prefork", 1, ("-Q", ",".join(("celery", *queues))), {}, app=app)
    shop.workers.append(worker)
    worker.ready()


def call(shop: Shop, order: str) -> None:
    """What the callers do, before and after."""
    with Celery("caller", broker=shop.url, set_as_current=False) as app:
        app.send_task("invoices", [order], ignore_result=True)


def test_what_changes_is_one_import_and_one_line() -> None:
    before, after = ((FOLDER / name).read_text().splitlines()[1:] for name in ("before.py", "after.py"))
    changed = [line for line in difflib.ndiff(before, after) if not line.startswith(" ")]
    assert [line for line in changed if line.strip("+ ")] == [
        "+ import mech_queue.celery",
        "+ mech_queue.celery.install(app)",
    ]


@pytest.mark.parametrize("which", ["before", "after"])
def test_its_callers_are_served_as_ever(shop: Shop, invoices: Path, which: str) -> None:
    serve(shop, which)
    call(shop, "A-1")
    wait_until(lambda: (invoices / "A-1.txt").exists())


def test_after_it_jobs_are_served_too(shop: Shop, invoices: Path) -> None:
    serve(shop, "after", f"jobs.{APPLICATION}.invoices")
    data = json.dumps({"order": "A-2", "currency": "USD"}).encode()
    job = shop.until(jobs.submit(shop.store, APPLICATION, JobSpec(queue="invoices", data=data)).job_id)
    assert (invoices / "A-2.txt").read_text() == "Order A-2, payable in USD\n"
    assert json.loads(job.result or b"null") == {"file": "A-2.txt"}
