"""An event loop in a thread, whose requests run in greenlets as those of the API do."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mech_queue.store.greenlets import Greenlets

T = TypeVar("T")


class LoopThread:
    """Runs until it is closed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.threads = ThreadPoolExecutor(4)
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop")
        self._thread.start()
        self.greenlets: Greenlets = self.call(lambda: Greenlets(self.loop, self.threads))

    def call(self, function: Callable[[], T]) -> T:
        """Call it in the loop's thread, outside of any request."""

        async def work() -> T:
            return function()

        return self.wait_for(work())

    def run(self, function: Callable[..., T], *args: Any, **more: Any) -> T:
        """Run it as a request; its outcome."""

        async def work() -> T:
            return await self.greenlets.run(function, *args, **more)

        return self.wait_for(work())

    def wait_for(self, work: Awaitable[T]) -> T:
        """The outcome of a coroutine of the loop."""
        return self.start(work).result(20)

    def start(self, work: Awaitable[T]) -> "Future[T]":
        """Let a coroutine run in the loop."""
        return asyncio.run_coroutine_threadsafe(_awaited(work), self.loop)

    def close(self) -> None:
        """End the loop and its threads."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.threads.shutdown()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work
