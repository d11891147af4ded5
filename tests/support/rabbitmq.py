"""A real RabbitMQ on free loopback ports, with a node name, a folder and a port mapper (epmd) of its own."""

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import trustme
from kombu.connection import Connection

from tests.support.valkey import free_port
from tests.support.waiting import wait_until
from workers import child

COMMAND = "rabbitmq-server"
LIBRARY = Path("/usr/lib/rabbitmq/bin") / COMMAND
"""Debian's command in PATH changes to a user of its own; the one behind it runs as whoever calls it."""

START_S = 90.0
MISSING = "RabbitMQ is not installed"


def installed() -> bool:
    """Whether this machine has RabbitMQ."""
    return shutil.which(COMMAND, path=f"{os.environ['PATH']}:/usr/sbin") is not None and LIBRARY.exists()


def say_what_was_skipped(reporter: Any) -> None:
    """One line at the end of pytest's output, in colour, when tests were skipped for want of RabbitMQ."""
    skipped = [report for report in reporter.stats.get("skipped", []) if MISSING in str(report.longrepr)]
    if skipped:
        line = f"{MISSING}: {len(skipped)} TESTS OVER IT WERE SKIPPED (apt-get install rabbitmq-server)"
        reporter.write_line(line, yellow=True, bold=True)


class RabbitServer:
    """One node. ``start`` and ``kill`` may be called again and again (same port, same data)."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="rabbitmq-", ignore_cleanup_errors=True)
        self.port, self.tls_port, self._node_port, self._map_port = (free_port() for _ in range(4))
        self._name = f"mq-{uuid.uuid4().hex[:12]}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.authority = Path(self.folder.name) / "authority.pem"
        self._make_certificate()

    @property
    def url(self) -> str:
        """The amqp:// address."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def tls_url(self) -> str:
        """The amqps:// address; its certificate is of ``authority``."""
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}//"

    def start(self) -> "RabbitServer":
        """Start and wait until a client can log in."""
        # Erlang's port mapper first, as a child: else the node would start one that outlives it.
        self._launch(["epmd", "-port", str(self._map_port), "-address", "127.0.0.1"])
        self._launch([str(LIBRARY)])
        try:
            wait_until(self._answers, START_S, "RabbitMQ answers")
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self._log.read_text()[-3000:]}") from None
        return self

    def kill(self) -> None:
        """SIGKILL; what was confirmed stays in the folder."""
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def connection(self) -> Connection:
        """A new connection. Close it."""
        return Connection(self.url, connect_timeout=2)

    def close(self) -> None:
        """Stop and remove the folder."""
        self.kill()
        self.folder.cleanup()

    @property
    def _log(self) -> Path:
        return Path(self.folder.name) / "log"

    def _launch(self, command: list[str]) -> None:
        with self._log.open("ab") as log:
            environment = self._environment()
            process = subprocess.Popen(
                child.command(command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._processes.append(process)

    def _answers(self) -> bool:
        node = self._processes[-1]
        assert node.poll() is None, "RabbitMQ ended"
        try:
            with self.connection() as connection:
                connection.connect()
            return True
        except Exception:  # a node that starts refuses in many ways
            return False

    def _make_certificate(self) -> None:
        folder, authority = Path(self.folder.name), trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(str(folder / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))

    def _environment(self) -> dict[str, str]:
        folder = Path(self.folder.name)
        (folder / "plugins").write_text("[].")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            f"listeners.ssl.default = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.certfile = {folder}/certificate.pem\nssl_options.keyfile = {folder}/key.pem\n"
            "log.console = true\nlog.file = false\n"
        )
        erlang = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
        return {
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "HOME": self.folder.name,
            "ERL_EPMD_PORT": str(self._map_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "true",  # become the node, instead of a shell that watches it
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
            "RABBITMQ_GENERATED_CONFIG_DIR": self.folder.name,
            "RABBITMQ_LOG_BASE": self.folder.name,
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_NODENAME": f"{self._name}@localhost",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang,
        }
