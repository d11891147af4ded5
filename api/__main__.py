"""``python -m api``: the API server. Settings come from the environment."""

import socket
import sys
from _thread import start_new_thread

from granian.server import MPServer

from api import serve  # here, so that a worker process has it at its start
from config import logging as log_config
from config.server import granian_options
from config.settings import Settings, load
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.store import Store


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings = load()
    log_config.configure(settings, "api")
    _refuse_taken_port(settings)
    _refuse_other_store(settings)
    Main(f"{serve.__name__}:{serve.make.__name__}", factory=True, **granian_options(settings)).serve()


class Main(MPServer):
    """The process above the workers. It hears signals any number of times.

    The kernel tells a child of the end of each thread of its parent (workers/child.py), and people press Ctrl-C twice.
    granian's handlers take a lock, which the thread that they interrupt may hold; here a thread of its own takes it.
    """

    def signal_handler_interrupt(self, *_: object, **__: object) -> None:
        """End."""
        self.interrupt_signal = True
        start_new_thread(self.main_loop_interrupt.set, ())

    def signal_handler_reload(self, *_: object, **__: object) -> None:
        """Start all workers anew, one after the other."""
        self.reload_signal = True
        start_new_thread(self.main_loop_interrupt.set, ())


def _refuse_taken_port(settings: Settings) -> None:
    """granian shares its port with others of its kind (SO_REUSEPORT), so a second start would go unnoticed."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            sentence = f"PORT {settings.port} on {settings.host} cannot be used: {error.strerror}."
            print(f"mech-queue cannot start: {sentence}", file=sys.stderr)
            raise SystemExit(1) from None


def _refuse_other_store(settings: Settings) -> None:
    """A store that this release cannot serve ends the start; one that does not answer yet does not."""
    store = Store.open(settings.redis_url)
    try:
        store.greet(initialise=True)
    except StoreStopped as stopped:
        print(f"mech-queue cannot start: {stopped}", file=sys.stderr)
        raise SystemExit(1) from None
    except Refusal:
        pass
    finally:
        store.close()


if __name__ == "__main__":
    main()
