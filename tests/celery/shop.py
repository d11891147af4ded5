"""A user's Celery app, as an existing project has it: plain tasks, one import and one line for jobs."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery, current_task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

import mech_queue.celery

app = Celery("shop", broker=os.environ.get("BROKER_URL", os.environ.get("REDIS_URL", "")))
app.conf.broker_connection_retry_on_startup = True
app.conf.task_ignore_result = True
app.conf.worker_soft_shutdown_timeout = float(os.environ.get("SHOP_SOFT_SHUTDOWN_S", "0"))
if os.environ.get("SHOP_PREFETCHES"):
    app.conf.worker_disable_prefetch = False
if visibility_s := os.environ.get("SHOP_VISIBILITY_S"):
    app.conf.broker_transport_options = {"visibility_timeout": float(visibility_s), "unacked_restore_interval": 0.1}

mech_queue.celery.install(app, application=os.environ.get("SHOP_APPLICATION") or None)


def note(*words: object) -> None:
    """Tell the test: one line of the file it reads."""
    with Path(os.environ["SHOP_NOTES"]).open("a") as notes:
        notes.write(" ".join(map(str, words)) + "\n")


@app.task(name="hold_up")
def hold_up(_seconds: float, runs_s: float = 0) -> None:
    """Its receipt keeps the worker's main loop busy for so many seconds."""
    note("start", current_task.request.id)
    time.sleep(runs_s)


@signals.task_received.connect
def hold_the_main_loop_up(request: Any = None, **_: Any) -> None:
    """A receiver of the user's that takes long."""
    if request.name == "hold_up":
        note("held", request.id)
        time.sleep(request.args[0])


@app.task(name="late", acks_late=True)
def late(seconds: float) -> None:
    """An ordinary task whose message stays with the broker until it has ended."""
    note("start", "late")
    time.sleep(seconds)


@app.task(name="noop")
def noop() -> None:
    """Nothing."""


@app.task(name="add", bind=True)
def add(self: Any, x: int, y: int = 0) -> dict[str, Any]:
    request = self.request
    note("add", request.id)
    return {
        "sum": x + y,
        "id": request.id,
        "retries": request.retries,
        "routing_key": request.delivery_info["routing_key"],
    }


@app.task(name="echo")
def echo(payload: Any) -> Any:
    return payload


@app.task(name="send")
def send(to: str, subject: str) -> str:
    return f"{to}: {subject}"


@app.task(name="context")
def context() -> dict[str, Any] | None:
    job = mech_queue.celery.current_job()
    if job is None:
        note("no job")
        return None
    job.progress({"percent": 50})
    job.check_cancelled()
    return {
        "id": job.id,
        "application": job.application_id,
        "queue": job.queue,
        "attempt": job.attempt,
        "priority": job.priority,
        "metadata": job.metadata,
    }


@app.task(name="boom")
def boom() -> None:
    note("boom")
    raise ValueError("boom ☃")


@app.task(name="flaky", bind=True, max_retries=5)
def flaky(self: Any, failures: int) -> int:
    note("flaky", self.request.retries)
    if self.request.retries < failures:
        raise self.retry(countdown=0.05, exc=OSError("again"))
    return int(self.request.retries)


@app.task(name="stubborn", bind=True, max_retries=2, default_retry_delay=0.05)
def stubborn(self: Any) -> None:
    note("stubborn", self.request.retries)
    raise self.retry(exc=OSError("never"))


@app.task(name="auto", autoretry_for=(KeyError,), retry_kwargs={"max_retries": 2, "countdown": 0.05})
def auto() -> None:
    note("auto")
    raise KeyError("k")


@app.task(name="retry_with", bind=True)
def retry_with(self: Any, n: int, word: str = "") -> str:
    if n < 2:
        raise self.retry(args=(n + 1,), kwargs={"word": word + "x"}, countdown=0.01)
    return f"{n} {word}"


@app.task(name="retry_quietly", bind=True)
def retry_quietly(self: Any) -> str:
    if self.request.retries < 1:
        self.retry(countdown=0.01, throw=False)
    return f"after {self.request.retries}"


@app.task(name="ignore")
def ignore() -> None:
    raise Ignore()


@app.task(name="reject")
def reject(requeue: bool = False) -> None:
    note("reject")
    raise Reject("not me", requeue=requeue)


@app.task(name="soft", soft_time_limit=0.5)
def soft() -> str:
    try:
        time.sleep(20)
    except SoftTimeLimitExceeded:
        return "caught"
    return "not limited"


@app.task(name="hard", time_limit=0.5)
def hard() -> str:
    time.sleep(3)
    return "not limited"


@app.task(name="progress", bind=True)
def progress(self: Any) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
    return "ok"


@app.task(name="sleep", bind=True)
def sleep(self: Any, seconds: float) -> None:
    note("start", self.request.id)
    time.sleep(seconds)
    note("end", self.request.id)


@app.task(name="deaf", bind=True)
def deaf(self: Any) -> None:
    """Ignores SIGTERM."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("start", self.request.id, os.getpid())
    time.sleep(20)
    note("end", self.request.id)


@app.task(name="looking", bind=True)
def looking(self: Any) -> None:
    """Looks whether it was cancelled."""
    job = mech_queue.celery.current_job()
    assert job is not None
    note("start", self.request.id)
    for _ in range(400):
        time.sleep(0.05)
        job.check_cancelled()
    note("end", self.request.id)


@app.task(name="exit")
def leave() -> None:
    sys.exit(3)


@app.task(name="not_json")
def not_json() -> object:
    note("not_json")
    return object()


@app.task(name="die")
def die() -> None:
    note("die", os.getpid())
    os.kill(os.getpid(), 9)


@app.task(name="replace", bind=True)
def replace(self: Any) -> None:
    raise self.replace(add.s(1, 2))
