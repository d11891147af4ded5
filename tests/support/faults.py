"""A TCP proxy that breaks connections as networks do: cut, reset, slow, half-open."""

import contextlib
import select
import socket
import struct
import threading

LOOK_S = 0.05
"""How often a connection looks whether it is to be broken."""

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class FaultProxy:
    """Forwards a port of its own to ``target`` on loopback. Close it.

    ``delay_s`` is added to each piece of data. The other faults hit the connections that are open when they
    are called; new ones work.
    """

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self._target = target
        self._fault = ""
        self._generation = 0
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """End what is open, in order (FIN)."""
        self._break("cut")

    def reset(self) -> None:
        """End what is open with a reset (RST)."""
        self._break("reset")

    def half_open(self) -> None:
        """Forward nothing more of what is open, and tell neither side: a firewall forgot these connections."""
        self._break("half-open")

    def close(self) -> None:
        """Stop, and end what is open."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _break(self, fault: str) -> None:
        self._fault = fault
        self._generation += 1

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(near,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        generation = self._generation
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self._target)) as far:
            other = {near: far, far: near}
            while not self._closing.is_set():
                if self._generation != generation:
                    if self._fault == "half-open":
                        self._closing.wait()
                    elif self._fault == "reset":
                        for side in other:
                            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                    return
                for side in select.select([near, far], [], [], LOOK_S)[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    self._closing.wait(self.delay_s)
                    other[side].sendall(data)
