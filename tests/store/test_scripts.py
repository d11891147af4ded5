"""The scripts as the server gets them: loadable, bounded, and only for libraries that speak the store's protocol."""

import re
from pathlib import Path

import pytest

from mech_queue.model.errors import StoreStopped
from mech_queue.store import Store, keys, scripts
from mech_queue.store.scripts import PROTOCOL, entry_points, joined
from tests.store.engine import APPLICATION, Engine

FOLDER = Path(scripts.__file__).parent / "lua"


@pytest.mark.parametrize("name", entry_points())
def test_every_joined_script_loads(store: Store, name: str) -> None:
    text = joined(name)

    assert text.startswith("#!lua")  # without it a cluster silently writes foreign slots
    assert "@include" not in text
    assert store.redis.script_load(text)


@pytest.mark.parametrize("name", entry_points())
def test_a_joined_script_keeps_all_that_it_calls_and_drops_what_it_does_not(name: str) -> None:
    sources = "".join(path.read_text() for path in FOLDER.rglob("*.lua"))
    known = set(re.findall(r"^local function (\w+)", sources, re.MULTILINE))
    code = re.sub(r"'[^'\n]*'|--[^\n]*", "", joined(name))

    called = set(re.findall(r"(?<![\w.:])(\w+)\(", re.sub(r"^local function \w+", "", code, flags=re.MULTILINE)))
    defined = set(re.findall(r"^ *local function (\w+)", code, re.MULTILINE))

    assert called & known <= defined
    assert all(len(re.findall(rf"\b{function}\b", code)) > 1 for function in defined)


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


def test_a_flushed_script_cache_is_refilled(engine: Engine) -> None:
    engine.submit()
    engine.store.redis.script_flush()
    assert engine.get(engine.submit())


def test_reading_scripts_cannot_write() -> None:
    for name in ("job_get", "job_search", "job_next"):
        assert joined(name).startswith("#!lua flags=no-writes\n")


def test_finishing_work_is_possible_in_a_full_store_and_submitting_is_not() -> None:
    finishing = {name for name in entry_points() if "allow-oom" in joined(name).splitlines()[0]}
    assert {"job_report", "job_exchange", "job_renew", "job_cancel", "job_delete", "due_run"} <= finishing
    assert "job_submit" not in finishing


def test_a_script_is_run_in_the_shard_of_its_application(engine: Engine) -> None:
    engine.submit()
    own = keys.shard_prefix(engine.shard)
    written = {key for key in engine.store.redis.scan_iter(b"mq:{*") if not key.endswith(b":meta")}
    assert written and all(key.startswith(own) for key in written)
    assert keys.prefix(APPLICATION).startswith(own)
