"""No process outlives the one that started it."""

import os
import subprocess
import sys

import pytest

from tests.support import wait_until

PARENT = """
import subprocess, sys, time
from workers import child
process = subprocess.Popen(child.command([sys.executable, "-c", "import time; time.sleep(600)"]))
print(process.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel can do this")
def test_a_child_ends_when_its_parent_is_killed():
    # given a parent with a child
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        # when the parent is killed without a chance to clean up
        parent.kill()
    # then the child ends
    wait_until(lambda: gone(pid))


def test_the_command_keeps_its_arguments_and_exit_code():
    from workers import child

    done = subprocess.run(
        child.command([sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b", "--c"]),
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stdout.strip()) == (7, "['a b', '--c']")
