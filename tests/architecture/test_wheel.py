"""The wheel, built and installed alone in a fresh environment, as a user of the library gets it.

Tests stay on this machine: what the wheel requires is copied from the suite's own environment, which has
the versions of the lock.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
UV = [sys.executable, "-m", "uv", "--quiet", "--offline"]
OF_THE_BASE = {"certifi", "charset-normalizer", "idna", "requests", "urllib3"}


def run(*command: str, cwd: Path) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def required(requirements: list[str] | None) -> set[str]:
    """Names of what is required without any extra, and of what that requires."""
    found: set[str] = set()
    for requirement in map(Requirement, requirements or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found |= {requirement.name} | required(metadata.requires(requirement.name))
    return found


def site_packages(environment: Path) -> Path:
    """Where an environment has its packages."""
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def copy_into(folder: Path, name: str) -> None:
    """Put an installed distribution into another environment's site-packages."""
    for file in metadata.files(name) or []:
        if ".." not in file.parts:  # commands in bin
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(str(file.locate())).read_bytes())


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and what it asks for, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in run("git", "ls-files", "mech_queue", "pyproject.toml", "README.md", "LICENSE", cwd=ROOT).splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    run(sys.executable, "-W", "ignore", "-c", build, str(folder), cwd=source)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    run(*UV, "venv", "--python", sys.executable, str(environment), cwd=folder)
    found = environment / "bin" / "python"
    run(*UV, "pip", "install", "--no-deps", "--python", str(found), str(wheel), cwd=folder)
    (installed,) = metadata.distributions(name="mech-queue", path=[str(site_packages(environment))])
    for name in required(installed.requires):
        copy_into(site_packages(environment), name)
    run(*UV, "pip", "check", "--python", str(found), cwd=folder)
    return found


def test_it_needs_requests_only(python: Path) -> None:
    listed = run(*UV, "pip", "freeze", "--python", str(python), cwd=python.parent)
    names = set(re.findall(r"^([\w-]+)(?:==| @)", listed, re.MULTILINE))
    assert names == {"mech-queue", *OF_THE_BASE}


@pytest.mark.parametrize("name", ["mech_queue", "mech_queue.client", "mech_queue.worker", "mech_queue.webhooks"])
def test_the_base_is_importable(python: Path, name: str) -> None:
    run(str(python), "-W", "error", "-I", "-c", f"import {name}", cwd=python.parent)


@pytest.mark.parametrize("name", ["api", "tasks", "workers", "config", "tests", "docs", "benchmarks", "deploy"])
def test_nothing_of_the_service_is_importable(python: Path, name: str) -> None:
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    run(str(python), "-I", "-c", look, cwd=python.parent)


def test_a_webhook_is_checked_with_it(python: Path) -> None:
    script = """
import base64, hashlib, hmac, time
from mech_queue.webhooks import verify
secret, body, now = "whsec_" + base64.b64encode(b"k" * 32).decode(), b"{}", str(int(time.time()))
digest = hmac.new(b"k" * 32, b"id." + now.encode() + b"." + body, hashlib.sha256).digest()
signature = "v1," + base64.b64encode(digest).decode()
verify({"webhook-id": "id", "webhook-timestamp": now, "webhook-signature": signature}, body, secret)
"""
    run(str(python), "-I", "-c", script, cwd=python.parent)


def test_the_celery_part_says_what_it_misses(python: Path) -> None:
    done = subprocess.run([str(python), "-I", "-c", "import mech_queue.celery"], capture_output=True, text=True)
    assert done.returncode and "install mech-queue[celery]" in done.stderr
