"""The store's address: one server, the primary that Sentinels name, or a cluster.

``redis://``, ``rediss://``, ``unix://``; ``redis+sentinel://user:password@host:26379,host2:26379/name/0`` (the
login is the store's; ``?sentinel_username=…&sentinel_password=…`` is that of the Sentinels);
``redis+cluster://user:password@host:7000,host2:7000``. ``rediss+…`` is TLS to every one of the hosts and nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

from mech_queue.store.cluster import ClusterNodes
from mech_queue.store.connection import COMMAND_TIMEOUT_S, connect, connect_by_sentinels
from mech_queue.store.nodes import Nodes, OneServer
from mech_queue.store.sentinels import NamedPrimary

SENTINEL_PORT = 26379


def open_nodes(url: str, *, timeout_s: float = COMMAND_TIMEOUT_S, aside: Callable[..., Any] | None = None) -> Nodes:
    """The servers at an address; nothing is connected yet.

    ``timeout_s``: of each command. ``aside``: calls what blocks, where that would hold up others (see greenlets.py).
    """
    address = Address.parse(url)
    if address.kind == "cluster":
        return ClusterNodes(address.urls, timeout_s, aside)
    if address.kind == "sentinel":
        return NamedPrimary(connect_by_sentinels(address.urls, address.service, address.login, timeout_s=timeout_s))
    return OneServer(connect(url, timeout_s=timeout_s))


@dataclass(frozen=True, slots=True)
class Address:
    """``urls``: of the server, the Sentinels or the nodes known beforehand, one each, for redis-py.

    ``service``: what the Sentinels call the primary. ``login``: of the Sentinels, username and password.
    """

    kind: Literal["server", "sentinel", "cluster"]
    urls: tuple[str, ...]
    service: str = ""
    login: tuple[str | None, str | None] = (None, None)

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises ValueError with a sentence that shows no secret."""
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if not kind:
            if scheme not in ("redis", "rediss", "unix"):
                raise ValueError("the store's address must start with redis://, rediss:// or unix://")
            return cls("server", (url,))
        login, _, hosts = parts.netloc.rpartition("@")
        login += "@" if login else ""
        if scheme not in ("redis", "rediss") or kind not in ("sentinel", "cluster") or not all(hosts.split(",")):
            raise ValueError("the store's address must be redis+sentinel://host,host/name or redis+cluster://host,host")
        if kind == "cluster":
            if parts.path.strip("/") not in ("", "0"):
                raise ValueError("a cluster has one database only, 0")
            query = f"?{parts.query}" if parts.query else ""
            return cls("cluster", tuple(f"{scheme}://{login}{host}{query}" for host in hosts.split(",")))
        return cls._of_sentinels(f"{scheme}://{login}", hosts.split(","), parts.path, parts.query)

    @classmethod
    def _of_sentinels(cls, start: str, hosts: list[str], path: str, text: str) -> "Address":
        service, _, database = path.strip("/").partition("/")
        if not service:
            raise ValueError("an address of Sentinels ends in the name that they give to the primary: /mymaster")
        query = {name: values[0] for name, values in parse_qs(text).items()}
        login = query.pop("sentinel_username", None), query.pop("sentinel_password", None)
        end = f"/{database or 0}" + (f"?{urlencode(query)}" if query else "")
        return cls("sentinel", tuple(f"{start}{_with_port(host)}{end}" for host in hosts), service, login)


def _with_port(host: str) -> str:
    return host if urlsplit(f"//{host}").port else f"{host}:{SENTINEL_PORT}"
