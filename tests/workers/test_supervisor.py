"""The supervisor with real children: restarts, order of the end, force."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import wait_until

PROGRAM = """
import sys
from workers.supervisor import Child, Supervisor, printer
drain_s, *children = sys.argv[1:]
supervisor = Supervisor(printer(), float(drain_s))
with supervisor.signals():
    for text in children:
        name, stage, code = text.split("|", 2)
        supervisor.start(Child(name, [sys.executable, "-u", "-c", code], {}, int(stage)))
    print("up", flush=True)
    supervisor.watch()
    print("stopping", flush=True)
    supervisor.stop()
"""

STEADY = "import os, time; print('pid', os.getpid()); time.sleep(600)"
POLITE = """
import signal, sys, time
def end(*_):
    time.sleep(0.2)
    print('ended')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('ready')
time.sleep(600)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(600)"
WITH_GRANDCHILD = """
import subprocess, sys, time
p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print('grandchild', p.pid)
time.sleep(600)
"""


class Running:
    """A supervisor in a process of its own, and the lines it has printed."""

    def __init__(self, folder: Path, drain_s: float, *children: str) -> None:
        self._path = folder / "lines"
        with self._path.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(drain_s), *children], stdout=out, stderr=subprocess.STDOUT
            )

    def lines(self, part: str = "") -> list[str]:
        text = self._path.read_text()
        lines = [" ".join(line.replace("|", " ").split()) for line in text.splitlines()]
        return [line for line in lines if part in line]

    def wait_for(self, part: str, count: int = 1) -> list[str]:
        return wait_until(lambda: found if len(found := self.lines(part)) >= count else None) or []


@pytest.fixture
def run(tmp_path: Path) -> Iterator:
    started: list[Running] = []

    def start(*children: str, drain_s: float = 10) -> Running:
        started.append(Running(tmp_path, drain_s, *children))
        return started[-1]

    yield start
    for one in started:
        one.process.terminate()  # drains, so that nothing a child has started stays behind
        one.process.wait(30)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_child_comes_back(run):
    # given a running child
    running = run(f"api|0|{STEADY}")
    (first,) = running.wait_for("pid")
    # when it is killed
    os.kill(int(first.split()[-1]), signal.SIGKILL)
    # then the supervisor says so and starts another
    _, second = running.wait_for("pid", 2)
    assert first != second
    assert "api ended (signal SIGKILL); again in 0.5 s" in running.lines("ended")[0]


def test_a_child_that_keeps_failing_is_tried_less_and_less_often(run):
    running = run("api|0|import sys; sys.exit(3)")
    ends = running.wait_for("ended (exit 3)", 3)
    assert [line.rpartition("in ")[2] for line in ends[:3]] == ["0.5 s", "1 s", "2 s"]


def test_one_term_drains_the_lowest_stage_first(run):
    # given a store (last stage), a server and a worker, each slow to end
    running = run(f"store|2|{POLITE}", f"api|1|{POLITE}", f"worker|0|{POLITE}")
    running.wait_for("ready", 3)
    # when the supervisor is told to stop
    running.process.terminate()
    assert running.process.wait(10) == 0
    # then they ended in that order, each in its own time
    assert running.lines("ended") == ["worker ended", "api ended", "store ended"]


def test_a_child_that_does_not_end_in_time_is_killed(run):
    running = run(f"worker|0|{STUBBORN}", f"store|1|{POLITE}", drain_s=1)
    running.wait_for("ready", 2)
    running.process.terminate()
    assert running.process.wait(10) == 0
    assert running.lines("worker did not end in time: killed")
    assert running.lines("store ended") == ["store ended"]


def test_a_second_signal_forces(run):
    # given a worker that ignores the first signal, with a long time to drain
    running = run(f"worker|0|{STUBBORN}", f"store|1|{POLITE}", drain_s=300)
    running.wait_for("ready", 2)
    running.process.send_signal(signal.SIGINT)
    running.wait_for("stopping")
    # when the signal comes again
    running.process.send_signal(signal.SIGINT)
    # then the worker is killed at once, and the store still ends by itself
    assert running.process.wait(10) == 0
    assert running.lines("worker did not end in time: killed")
    assert running.lines("store ended") == ["store ended"]


def test_what_a_killed_child_had_started_is_killed_too(run):
    running = run(f"api|0|{WITH_GRANDCHILD}")
    (line,) = running.wait_for("grandchild")
    grandchild = int(line.split()[-1])
    os.kill(os.getpgid(grandchild), signal.SIGKILL)
    running.wait_for("grandchild", 2)
    wait_until(lambda: not alive(grandchild))
