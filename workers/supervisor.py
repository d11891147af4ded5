"""Keeps processes running: started in order, restarted when they die, drained in order, none orphaned.

Each child is a session of its own, so that Ctrl-C on the terminal reaches only the supervisor, which
then decides the order. A child dies with the supervisor even when that is killed (workers/child.py),
and when a child has ended, what is left of its session is killed, so that its port is free again.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from workers import child as tied

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
STEADY_AFTER_S = 60.0
"""A child that lived this long and dies is restarted after the first pause again."""

LOOK_S = 0.1
"""How often the supervisor looks at its children when nothing wakes it."""


@dataclass
class Child:
    """One process to keep running. ``stage`` orders the end: lower stages are stopped first."""

    name: str
    command: list[str]
    environment: dict[str, str]
    stage: int = 0
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    started: float = 0
    restart_at: float = 0
    pause_s: float = FIRST_PAUSE_S
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=5))

    @property
    def running(self) -> bool:
        """Whether its process has not ended."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """``start`` children one by one, then ``watch``. Signals only count; the loops here act on them."""

    def __init__(self, say: Callable[[str, str], None], drain_s: float) -> None:
        self.children: list[Child] = []
        self.stops = 0
        self._say = say
        self._drain_s = drain_s
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM, SIGHUP (count) and SIGCHLD (wake) over for the block."""
        names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {name: signal.signal(name, self._count) for name in names}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        old_fd = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for name, handler in before.items():
                signal.signal(name, handler)

    def start(self, child: Child) -> None:
        """Start a child and keep it from now on."""
        self.children.append(child)
        self._launch(child)

    def wait_for(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        """Keep the children running until the condition holds, the time is over, or a stop is asked for."""
        end = time.monotonic() + deadline_s
        while not self.stops:
            if condition():
                return True
            if time.monotonic() > end:
                return False
            self._look()
        return False

    def watch(self) -> None:
        """Keep the children running until a stop is asked for."""
        while not self.stops:
            self._look()

    def stop(self) -> None:
        """Drain stage after stage, and the last one (the store) last. A second signal kills at once."""
        asked = max(self.stops, 1)
        for stage in sorted({child.stage for child in self.children}):
            last = stage == max(child.stage for child in self.children)
            members = [child for child in self.children if child.stage == stage]
            self._stop_stage(members, asked, patient=last)
        for child in self.children:
            if child.reader is not None:
                child.reader.join(timeout=1)

    def _stop_stage(self, members: list[Child], asked: int, *, patient: bool) -> None:
        running = [child for child in members if child.running]
        for child in running:
            _signal(child, signal.SIGTERM)
        end = time.monotonic() + self._drain_s
        while any(child.running for child in running) and time.monotonic() < end:
            if self.stops > asked and not patient:
                break
            if self.stops > asked + 1:
                break
            self._sleep(LOOK_S)
        for child in running:
            if child.running:
                self._say("supervisor", f"{child.name} did not end in time: killed")
            _kill_session(child)

    def _launch(self, child: Child) -> None:
        child.started = time.monotonic()
        child.process = subprocess.Popen(
            tied.command(child.command),
            env=child.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=child.pass_fds,
        )
        child.reader = threading.Thread(target=self._read, args=(child, child.process), daemon=True)
        child.reader.start()

    def _read(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                text = line.decode("utf-8", "replace").rstrip()
                child.last_lines.append(text)
                self._say(child.name, text)

    def _look(self) -> None:
        """Sleep until something happens, then restart what has ended and whose pause is over."""
        self._sleep(LOOK_S)
        now = time.monotonic()
        for child in self.children:
            if child.running or self.stops:
                continue
            if not child.restart_at:
                self._note_end(child, now)
            elif now >= child.restart_at:
                child.restart_at = 0
                self._launch(child)

    def _note_end(self, child: Child, now: float) -> None:
        _kill_session(child)
        if now - child.started > STEADY_AFTER_S:
            child.pause_s = FIRST_PAUSE_S
        child.restart_at = now + child.pause_s
        code = child.process.returncode if child.process else None
        self._say("supervisor", f"{child.name} ended ({_reason(code)}); again in {child.pause_s:g} s")
        child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)

    def _sleep(self, seconds: float) -> None:
        ready, _, _ = select.select([self._wake_read], [], [], seconds)
        if ready:
            os.read(self._wake_read, 4096)

    def _count(self, *_: object) -> None:
        self.stops += 1


def _signal(child: Child, number: signal.Signals) -> None:
    if child.running and child.process is not None:
        child.process.send_signal(number)


def _kill_session(child: Child) -> None:
    """Kill what is left of the child and of the processes it started (they share its group)."""
    if child.process is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()


def _reason(code: int | None) -> str:
    if code is None:
        return "unknown"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def printer() -> Callable[[str, str], None]:
    """A printer of prefixed lines, one at a time, coloured on a terminal."""
    out = sys.stderr
    lock = threading.Lock()
    colours = [36, 33, 35, 32, 34, 31, 96, 93]
    names: dict[str, int] = {}

    def say(name: str, text: str) -> None:
        with lock, suppress(OSError, ValueError):
            number = names.setdefault(name, len(names))
            label = f"{name:<13}|"
            if out.isatty():
                label = f"\x1b[{colours[number % len(colours)]}m{label}\x1b[0m"
            out.write(f"{label} {text}\n")
            out.flush()

    return say
