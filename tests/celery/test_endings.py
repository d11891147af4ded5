"""How a body ends, and what the job is then: the same for every pool, but for time limits."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mech_queue.model.job import Backoff, JobRecord
from tests.celery.conftest import OpenShop
from tests.celery.support import APPLICATION, QUEUE, Shop
from tests.support import wait_until

POOLS = {"prefork": 2, "threads": 4, "gevent": 4, "solo": 1}
AT_ONCE = Backoff("fixed", 10)


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shop(pool: str, open_shop: OpenShop) -> Iterator[Shop]:
    with open_shop() as opened:
        opened.worker(pool, POOLS[pool])
        yield opened


def error_of(job: JobRecord) -> dict[str, Any]:
    assert job.error is not None
    error: dict[str, Any] = json.loads(job.error)
    return error


def test_the_return_value_is_the_result_under_the_jobs_id(shop: Shop) -> None:
    job = shop.run("add", {"x": 3, "y": 4})
    assert job.state == "completed" and job.attempt == 1
    assert json.loads(job.result or b"") == {
        "sum": 7,
        "id": job.id,
        "retries": 0,
        "routing_key": f"jobs.{APPLICATION}.{QUEUE}",
    }


@pytest.mark.parametrize("data", [[3, 4], {"x": 3, "y": 4}, 7], ids=["array", "object", "number"])
def test_data_becomes_arguments(shop: Shop, data: Any) -> None:
    job = shop.run("add", data)
    assert json.loads(job.result or b"")["sum"] == 7


def test_an_object_that_is_no_keyword_arguments_is_the_one_argument(shop: Shop) -> None:
    big = {"to": "a@b", "n": 12345678901234567890123, "empty": [], "☃": None}
    assert json.loads(shop.run("echo", big).result or b"") == big


def test_wrong_arguments_fail_with_their_name(shop: Shop) -> None:
    error = error_of(shop.run("send", {"to": "a@b", "subjct": "hi"}))
    assert error["type"] == "TypeError" and "'subjct'" in error["message"]


def test_the_body_knows_its_job_and_reports_progress(shop: Shop) -> None:
    job = shop.run("context", priority=7, metadata=b'{"userId":"42"}')
    assert json.loads(job.progress or b"") == {"percent": 50}
    assert json.loads(job.result or b"") == {
        "id": job.id,
        "application": APPLICATION,
        "queue": QUEUE,
        "attempt": 1,
        "priority": 7,
        "metadata": {"userId": "42"},
    }


def test_update_state_is_progress(shop: Shop) -> None:
    job = shop.run("progress")
    assert job.state == "completed" and json.loads(job.progress or b"") == {"done": 1, "of": 2}


def test_an_exception_fails_the_job_with_its_traceback(shop: Shop) -> None:
    job = shop.run("boom")
    assert job.state == "failed" and job.attempt == 1
    error = error_of(job)
    assert error["type"] == "ValueError" and error["message"] == "boom ☃"
    assert 'raise ValueError("boom ☃")' in error["traceback"]


def test_attempts_are_the_jobs(shop: Shop) -> None:
    before = len(shop.notes("boom"))
    job = shop.run("boom", attempts=3, backoff=AT_ONCE)
    assert job.state == "failed" and job.attempt == 3 and job.failures == 3
    assert len(shop.notes("boom")) - before == 3
    assert [line.outcome for line in job.history if line.kind == "attempt"][:2] == ["retrying", "retrying"]


def test_self_retry_is_granted_up_to_max_retries(shop: Shop) -> None:
    job = shop.run("flaky", [2])
    assert job.state == "completed" and job.result == b"2" and job.attempt == 3


def test_self_retry_ends_at_max_retries(shop: Shop) -> None:
    before = len(shop.notes("stubborn"))
    job = shop.run("stubborn")
    assert job.state == "failed" and error_of(job)["message"] == "never"
    assert len(shop.notes("stubborn")) - before == 3


def test_attempts_of_the_job_bound_self_retry(shop: Shop) -> None:
    job = shop.run("flaky", [4], attempts=2)
    assert job.state == "failed" and job.attempt == 2


def test_autoretry(shop: Shop) -> None:
    before = len(shop.notes("auto"))
    job = shop.run("auto")
    assert job.state == "failed" and error_of(job)["type"] == "KeyError"
    assert len(shop.notes("auto")) - before == 3


def test_retry_with_new_arguments(shop: Shop) -> None:
    job = shop.run("retry_with", {"n": 0, "word": "a"})
    assert job.result == b'"2 axx"'


def test_retry_without_throwing(shop: Shop) -> None:
    job = shop.run("retry_quietly")
    assert job.result == b'"after 1"' and job.attempt == 2


def test_ignore_completes_without_result(shop: Shop) -> None:
    job = shop.run("ignore")
    assert job.state == "completed" and job.result in (None, b"null")


def test_reject_is_final(shop: Shop) -> None:
    job = shop.run("reject", attempts=3, backoff=AT_ONCE)
    assert job.state == "failed" and job.attempt == 1 and error_of(job)["message"] == "not me"


def test_reject_and_requeue_tries_again(shop: Shop) -> None:
    job = shop.run("reject", [True], attempts=2, backoff=AT_ONCE)
    assert job.state == "failed" and job.attempt == 2


def test_a_result_that_is_no_json_fails_once_with_a_clear_error(shop: Shop) -> None:
    before = len(shop.notes("not_json"))
    job = shop.run("not_json", attempts=3, backoff=AT_ONCE)
    error = error_of(job)
    assert job.state == "failed" and error["type"] == "ResultNotJson"
    assert "the result of the task 'not_json' is not JSON" in error["message"]
    assert len(shop.notes("not_json")) - before == 1


def test_replace_is_refused_in_words(shop: Shop) -> None:
    error = error_of(shop.run("replace"))
    assert "Task.replace cannot be used" in error["message"]


def test_an_unknown_task_fails_after_some_returns(shop: Shop) -> None:
    job = shop.run("nobody_has_this")
    assert job.state == "failed" and job.error_code == "UNKNOWN_TASK"
    assert "nobody_has_this" in error_of(job)["message"]


def test_an_application_that_nobody_made_is_named_once(shop: Shop) -> None:
    sentence = f"There is no application '{APPLICATION}' in this store"  # the tests take it without making it
    wait_until(lambda: sentence in shop.workers[0].log())
    shop.run("noop")
    assert shop.workers[0].log().count(sentence) == 1


def test_celerys_own_tasks_are_not_for_submitters(shop: Shop) -> None:
    assert shop.run("celery.backend_cleanup").error_code == "UNKNOWN_TASK"


def test_soft_time_limit(shop: Shop, pool: str) -> None:
    if pool == "prefork":  # the other pools have none, as in Celery itself
        assert shop.run("soft").result == b'"caught"'


def test_hard_time_limit(shop: Shop, pool: str) -> None:
    job = shop.run("hard")
    if pool in ("prefork", "gevent"):
        assert job.state == "failed" and job.error_code == "TIMEOUT"
        assert error_of(job)["type"] == "TimeLimitExceeded"
    else:
        assert job.result == b'"not limited"'


def test_sys_exit_fails_the_job_and_not_the_worker(shop: Shop, pool: str) -> None:
    if pool == "solo":
        return  # it is the worker's own process: Celery leaves too
    job = shop.run("exit")
    assert job.state == "failed" and error_of(job)["type"] == "SystemExit"
    assert shop.run("add", [1]).state == "completed"


def test_a_killed_child_is_a_stall_with_its_own_limit(shop: Shop, pool: str) -> None:
    if pool == "prefork":
        job = shop.run("die", max_stalls=1)
        assert job.state == "failed" and job.error_code == "STALLED" and job.stalls == 2
        assert shop.run("add", [1]).state == "completed"
