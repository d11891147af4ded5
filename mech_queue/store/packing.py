"""MessagePack as Lua's cmsgpack reads and writes it: strings are bytes, and there is no ``bin`` type."""

from typing import Any

import msgpack


def pack(value: Any) -> bytes:
    """Text and bytes alike become msgpack strings."""
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def unpack(raw: bytes) -> Any:
    """Every string comes back as bytes."""
    return msgpack.unpackb(raw, raw=True, strict_map_key=False)


def unpack_all(raw: bytes) -> list[Any]:
    """Values packed one after the other."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=max(len(raw), 1))
    unpacker.feed(raw)
    return list(unpacker)
