"""A Valkey cluster of local processes, started by the test."""

import redis

from tests.support.valkey import USER, ValkeyServer, free_port
from tests.support.waiting import wait_until

SLOTS = 16_384
NODE_TIMEOUT_MS = 1_500  # a node that is silent for longer is taken for dead by the others


class ValkeyCluster:
    """``primaries`` own the slots in equal parts; ``replicas[n]`` copies ``primaries[n]``, if asked for. Close it."""

    def __init__(self, primaries: int = 3, *, replicas: bool = False, persistent: bool = False) -> None:
        count = primaries * (2 if replicas else 1)
        self.servers = [self._node(persistent) for _ in range(count)]
        self.primaries, self.replicas = self.servers[:primaries], self.servers[primaries:]

    @staticmethod
    def _node(persistent: bool) -> ValkeyServer:
        # a part that is away must not take the others with it
        options = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]
        options += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-port", str(free_port())]
        return ValkeyServer(*options, persistent=persistent)

    @property
    def url(self) -> str:
        """The redis+cluster:// address, for USER."""
        return f"redis+cluster://{USER}:password@" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def start(self) -> "ValkeyCluster":
        """Start all, let them meet, and wait until each knows the whole map."""
        for server in self.servers:
            server.start()
        for number, server in enumerate(self.primaries):
            first = number * SLOTS // len(self.primaries)
            last = (number + 1) * SLOTS // len(self.primaries) - 1
            self.ask(server, "CLUSTER ADDSLOTSRANGE", first, last)
        bus = [int(server.options[server.options.index("--cluster-port") + 1]) for server in self.servers]
        for number, server in enumerate(self.servers):  # all of them, so that nobody waits for gossip
            for other in range(number + 1, len(self.servers)):
                self.ask(server, "CLUSTER MEET", "127.0.0.1", self.servers[other].port, bus[other])
        wait_until(self._whole, 30, "the cluster is whole")
        for number, server in enumerate(self.replicas):
            self.ask(server, "CLUSTER REPLICATE", self.id_of(self.primaries[number]))
        wait_until(lambda: all(self._replicates(server) for server in self.replicas), 30, "the replicas are in step")
        return self

    def ask(self, server: ValkeyServer, *command: object) -> object:
        """One command at one node."""
        with server.client() as client:
            return client.execute_command(*command)

    def id_of(self, server: ValkeyServer) -> str:
        """The id by which the cluster knows it."""
        found = self.ask(server, "CLUSTER MYID")
        return found.decode() if isinstance(found, bytes) else str(found)

    def keys(self) -> dict[int, set[bytes]]:
        """The keys of each primary, by its number."""
        found = {}
        for number, server in enumerate(self.primaries):
            with server.client() as client:
                found[number] = set(client.keys("*"))
        return found

    def flush(self) -> None:
        """Forget all data."""
        for server in self.primaries:
            self.ask(server, "FLUSHALL")

    def close(self) -> None:
        """Stop all and remove their folders."""
        for server in self.servers:
            server.close()

    def _whole(self) -> bool:
        for server in self.servers:
            try:
                info = self.ask(server, "CLUSTER INFO")
            except redis.RedisError:
                return False
            assert isinstance(info, dict)
            if info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) != len(self.servers):
                return False
            if int(info["cluster_slots_ok"]) != SLOTS or int(info["cluster_size"]) != len(self.primaries):
                return False
        return True

    def _replicates(self, server: ValkeyServer) -> bool:
        with server.client() as client:
            found = client.info("replication")
        return bool(found["role"] == "slave" and found["master_link_status"] == "up")
