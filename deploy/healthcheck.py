"""Health check of a container: ``healthcheck.py [role]``. Exit 0: healthy.

Without argument it is about the role that was started.

Servers are asked over HTTP. Workers have no port; what shows that one lives is that its main
process runs (the container ends with it), so for them this looks at the store instead.
"""

import http.client
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit


def answers(port: int, path: str, accepted: tuple[int, ...] = (200,)) -> bool:
    """Whether a server on this machine answers as it should."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path)
        return connection.getresponse().status in accepted
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def store_reachable() -> bool:
    """Whether the store's port accepts a connection; of several Sentinels or nodes, that of any."""
    url = urlsplit(os.environ.get("REDIS_URL", ""))
    usual = 26379 if url.scheme.endswith("+sentinel") else int(os.environ.get("REDIS_PORT", "6379"))
    for one in url.netloc.rpartition("@")[2].split(","):
        address = urlsplit(f"//{one}")
        host = address.hostname or os.environ.get("REDIS_HOST", "localhost")
        try:
            socket.create_connection((host, address.port or usual), 3).close()
            return True
        except OSError:
            continue
    return False


def started_role() -> str:
    """The role that deploy/entrypoint noted."""
    try:
        return Path("/tmp/mech-queue-role").read_text(encoding="utf-8").strip()
    except OSError:
        return "all"


def main() -> int:
    """0 when the role of this container is healthy."""
    role = sys.argv[1] if len(sys.argv) > 1 else started_role()
    if role in ("all", "api"):
        healthy = answers(int(os.environ.get("PORT", "3003")), "/health")
    elif role == "metrics":
        healthy = answers(int(os.environ.get("METRICS_PORT", "3004")), "/metrics")
    elif role == "flower":
        healthy = answers(int(os.environ.get("FLOWER_PORT", "5555")), "/healthcheck")
    else:
        healthy = store_reachable()
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
