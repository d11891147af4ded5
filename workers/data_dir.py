"""The folder of `make run`: one supervisor at a time, and what it made stays there.

Two stores on one folder would both start and silently interleave one log, so the folder is locked
(``flock``). The embedded store inherits the lock: when a supervisor is killed, the folder is free
only after its store has ended, too.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

INHERITED_WAIT_S = 10.0
"""How long a start waits for the store of a killed supervisor to end."""


class DataDirTaken(Exception):
    """Somebody else runs on this folder; the message is the sentence to show."""


class DataDir:
    """A locked folder, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_fd = -1

    def lock(self) -> None:
        """Make the folder and take it; raises DataDirTaken at once when its supervisor lives."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataDirTaken(f"DATA_DIR {self.path} cannot be used: {error.strerror}.") from None
        end = time.monotonic() + INHERITED_WAIT_S
        while not _try_lock(fd):
            holder = _pid_in(fd)
            if _alive(holder) or time.monotonic() > end:
                os.close(fd)
                raise DataDirTaken(
                    f"mech-queue already runs on {self.path} (process {holder}); stop it, or choose another "
                    "folder and ports: DATA_DIR, PORT, METRICS_PORT, FLOWER_PORT."
                )
            time.sleep(0.05)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self.lock_fd = fd

    def write_private(self, name: str, text: str) -> Path:
        """Write a file of mode 0600 in one step: a kill leaves the old or the new one, never half."""
        target, part = self.path / name, self.path / f"{name}.part"
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        return target

    def release(self) -> None:
        """Give the folder back."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
