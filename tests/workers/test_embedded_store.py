"""The embedded store and its folder: what was written survives, strangers stay out, one at a time."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import redis

from config.settings import Settings
from tests.support import wait_until
from tests.support.valkey import free_port
from workers import child
from workers.credentials import Credentials
from workers.data_dir import DataDir, DataDirTaken
from workers.valkey import EmbeddedStore

HOLDER = """
import sys, time
from pathlib import Path
from workers.data_dir import DataDir
folder = DataDir(Path(sys.argv[1])); folder.lock(); print("locked", flush=True); time.sleep(600)
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[DataDir]:
    folder = DataDir(tmp_path / "data")
    folder.lock()
    yield folder
    folder.release()


def start(store: EmbeddedStore) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(child.command(store.command()), stdout=subprocess.DEVNULL)
    wait_until(store.answers)
    return process


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_written_survives(data_dir: DataDir, ending: signal.Signals):
    # given a store that has taken a write, and written it down even if its disk is busy
    fsync: Literal["always", "everysec"] = "always" if ending == signal.SIGKILL else "everysec"
    store = EmbeddedStore(Settings(store_port=free_port(), store_fsync=fsync), data_dir, "secret")
    process = start(store)
    with redis.Redis.from_url(store.url) as client:
        client.set("a", "1")
    # when it ends in either way and is started again
    process.send_signal(ending)
    process.wait()
    process = start(store)
    # then the write is there
    with redis.Redis.from_url(store.url) as client:
        assert client.get("a") == b"1"
        policy = client.config_get("maxmemory-policy")
        assert client.config_get("appendfsync") == {"appendfsync": fsync}
    assert policy == {"maxmemory-policy": "noeviction"}
    process.kill()
    process.wait()


def test_strangers_stay_out(data_dir: DataDir):
    store = EmbeddedStore(Settings(store_port=free_port(), store_fsync="always"), data_dir, "secret")
    process = start(store)
    try:
        with redis.Redis(port=store.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis.from_url(store.url) as client:
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
        assert "secret" not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert stat.S_IMODE((data_dir.path / "valkey.conf").stat().st_mode) == 0o600
        assert stat.S_IMODE(data_dir.path.stat().st_mode) == 0o700
    finally:
        process.kill()
        process.wait()


def test_the_port_stays_the_same_from_start_to_start(data_dir: DataDir):
    first = EmbeddedStore(Settings(), data_dir, "secret").port
    assert EmbeddedStore(Settings(), data_dir, "secret").port == first


def test_a_second_start_on_the_folder_is_refused_in_one_sentence(tmp_path: Path):
    # given a process that holds the folder
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        # when another wants it
        second = DataDir(tmp_path)
        with pytest.raises(DataDirTaken, match=rf"already runs on .* \(process {holder.pid}\)"):
            second.lock()
        # then only its end makes room
        holder.kill()
    second.lock()
    second.release()


def test_a_store_that_outlives_its_supervisor_keeps_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # given a lock that a process inherited whose supervisor is gone
    folder = DataDir(tmp_path)
    folder.lock()
    os.pwrite(folder.lock_fd, b"999999999\n", 0)
    waits = [sys.executable, "-c", "input()"]
    heir = subprocess.Popen(waits, stdin=subprocess.PIPE, pass_fds=(folder.lock_fd,))
    folder.release()
    # then a start waits for it, and gives up in words
    monkeypatch.setattr("workers.data_dir.INHERITED_WAIT_S", 0.2)
    with pytest.raises(DataDirTaken):
        DataDir(tmp_path).lock()
    # and begins when it has ended
    heir.communicate(b"\n")
    folder.lock()
    folder.release()


def test_credentials_are_made_once_and_are_private(data_dir: DataDir):
    made = Credentials(data_dir)
    made.complete()
    again = Credentials(data_dir)
    again.complete()
    assert again.values == made.values
    assert set(made.values) == {"MASTER_API_KEY", "SECRETS_KEY", "STORE_PASSWORD", "FLOWER_BASIC_AUTH"}
    assert stat.S_IMODE((data_dir.path / "credentials.env").stat().st_mode) == 0o600


def test_the_environment_wins_over_what_was_made(data_dir: DataDir):
    made = Credentials(data_dir)
    made.complete()
    chosen = Settings(master_api_key="mine")
    assert set(made.environment(chosen)) == {"SECRETS_KEY", "FLOWER_BASIC_AUTH"}
    strong: dict[str, Any] = {name.lower(): text for name, text in made.environment(Settings()).items()}
    assert Settings(**strong).warnings == []
