"""The scripts as the server gets them: loadable, bounded, and only for libraries that speak the store's protocol."""

import re
from pathlib import Path

import pytest
import redis

from mech_queue.model.errors import Code, Refusal, StoreStopped
from mech_queue.model.job import Report, State
from mech_queue.services import jobs, queues
from mech_queue.store import Store, keys, library
from mech_queue.store.library import PREFIX, PROTOCOL, entry_points, joined
from mech_queue.store.scripts import loaded
from tests.store.engine import APPLICATION, Engine

FOLDER = Path(library.__file__).parent / "lua"


@pytest.mark.parametrize("name", entry_points())
def test_a_joined_script_keeps_all_that_it_calls_and_drops_what_it_does_not(name: str) -> None:
    sources = "".join(path.read_text() for path in FOLDER.rglob("*.lua"))
    known = set(re.findall(r"^local function (\w+)", sources, re.MULTILINE))
    code = re.sub(r"'[^'\n]*'|--[^\n]*", "", joined(name))

    called = set(re.findall(r"(?<![\w.:])(\w+)\(", re.sub(r"^local function \w+", "", code, flags=re.MULTILINE)))
    defined = set(re.findall(r"^ *local function (\w+)", code, re.MULTILINE))

    assert called & known <= defined
    constants = set(re.findall(r"\w+", " ".join(re.findall(r"^local ([^=\n]+)", code, re.MULTILINE))))
    assert set(re.findall(r"\b[A-Z][A-Z_]+\b", code)) <= constants
    assert all(len(re.findall(rf"\b{function}\b", code)) > 1 for function in defined)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("local now = 1\nlocal SOON = {now}\n", "held by a constant ['now']"),
        ("local now = 1\nlocal function now() end\n", "defined twice ['now']"),
        ("local SEEN = {}\n", "filled by calls ['SEEN']"),
    ],
)
def test_what_would_outlive_its_call_is_refused(source: str, complaint: str) -> None:
    part = library._part(source)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        library._check("job_get", part.variables, part.definitions)


@pytest.mark.parametrize("name", entry_points())
def test_no_script_walks_the_whole_store_or_touches_json(name: str) -> None:
    text = joined(name)
    code = "\n".join(line.partition("--")[0] for line in text.splitlines())

    assert not re.findall(r"'(KEYS|SCAN|FLUSHDB|FLUSHALL|SORT)'", code)
    for walk in re.findall(r"'[HSZ]SCAN'.*", code):
        assert "'COUNT'" in walk
    assert "cjson" not in code  # it turns [] into {} and rounds long integers


@pytest.mark.parametrize(("lowest", "highest"), [(PROTOCOL + 1, PROTOCOL + 2), (PROTOCOL - 1, PROTOCOL - 1)])
def test_another_protocol_is_refused_in_words(engine: Engine, lowest: int, highest: int) -> None:
    meta = keys.shard_prefix(engine.shard) + b"meta"
    engine.store.redis.hset(meta, mapping={"protocol_min": lowest, "protocol_max": highest})
    before = engine.dump()

    with pytest.raises(StoreStopped) as stopped:
        engine.submit()

    assert f"speaks protocol {lowest} to {highest}" in str(stopped.value)
    assert f"this library speaks {PROTOCOL}" in str(stopped.value)
    assert engine.dump() == before


def test_a_store_that_nobody_initialised_is_refused_in_words(redis_url: str) -> None:
    store = Store.open(redis_url)
    with pytest.raises(StoreStopped, match="not initialised"):
        Engine(store).submit()
    with pytest.raises(StoreStopped, match="empty"):
        store.greet()
    assert store.redis.dbsize() == 0
    store.close()


def test_the_start_of_the_service_loads_every_function_and_drops_those_of_other_releases(engine: Engine) -> None:
    # given a store with a function of another release
    engine.store.redis.function_load(
        f"#!lua name={PREFIX}job_get_old\nredis.register_function('{PREFIX}job_get_old', function() return 1 end)"
    )
    # when the service starts, then those that it calls are there, each under a name made from its text
    engine.store.greet(initialise=True)
    assert loaded(engine.store.redis) == {library.library(name).name.encode() for name in entry_points()}


def test_a_store_that_lost_its_functions_gets_them_again(engine: Engine) -> None:
    engine.submit()
    engine.store.redis.function_flush()
    assert engine.get(engine.submit())


@pytest.mark.parametrize("name", entry_points())
def test_a_full_store_runs_as_a_script_what_it_cannot_load(name: str, redis_url: str, admin: redis.Redis) -> None:
    assert admin.script_load(library.library(name).script)


def test_work_ends_in_a_full_store_that_lost_its_functions(engine: Engine, admin: redis.Redis) -> None:
    engine.submit("mail")
    [job] = jobs.claim(engine.store, APPLICATION, ["mail"], lease_ms=5_000).jobs
    admin.function_flush()
    admin.config_set("maxmemory", 1)
    try:
        engine.store.scripts.load()
        reported = jobs.report(engine.store, APPLICATION, Report(job.id, "complete", job.lease_token))
        assert reported.state is State.COMPLETED
        with pytest.raises(Refusal) as refused:
            engine.submit("mail")
        assert refused.value.code is Code.STORE_FULL
    finally:
        admin.config_set("maxmemory", 0)


def test_a_call_begins_anew_also_behind_one_that_failed(engine: Engine) -> None:
    # given a submit that breaks off in the middle, with counters that it has not written
    log = keys.prefix(APPLICATION) + b"ev"
    engine.store.redis.set(log, "no stream")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        engine.submit("mail")
    engine.store.redis.delete(log)
    # when the same function is called again
    engine.submit("mail")
    # then it counts its own job only
    assert queues.get(engine.store, APPLICATION, "mail").counts["waiting"] == 1


def test_reading_scripts_cannot_write() -> None:
    for name in ("job_get", "job_search", "job_next"):
        assert "flags = {'no-writes'}" in joined(name)


def test_finishing_work_is_possible_in_a_full_store_and_submitting_is_not() -> None:
    finishing = {name for name in entry_points() if "flags = {'allow-oom'}" in joined(name)}
    assert {"job_report", "job_exchange", "job_renew", "job_cancel", "job_delete", "due_run"} <= finishing
    assert "job_submit" not in finishing


def test_a_script_is_run_in_the_shard_of_its_application(engine: Engine) -> None:
    engine.submit()
    own = keys.shard_prefix(engine.shard)
    written = {key for key in engine.store.redis.scan_iter(b"mq:{*") if not key.endswith(b":meta")}
    assert written and all(key.startswith(own) for key in written)
    assert keys.prefix(APPLICATION).startswith(own)
