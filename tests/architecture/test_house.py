"""Rules of the house that no linter knows."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from config.example import render
from config.settings import SECTIONS
from workers.commands import ROLES

ROOT = Path(__file__).parents[2]

CONTRACT_NAMES = """
REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_DB MASTER_API_KEY PORT ENABLE_PROMETHEUS_METRICS METRICS_PORT
RATE_LIMIT_WINDOW_MS RATE_LIMIT_MAX_REQUESTS LOG_LEVEL DEFAULT_JOB_ATTEMPTS DEFAULT_JOB_BACKOFF_DELAY
REMOVE_COMPLETED_JOBS_AFTER REMOVE_FAILED_JOBS_AFTER REDIS_URL BROKER_URL HOST TRUSTED_PROXY_HOPS
CORS_ORIGINS WEBHOOK_ALLOWED_CIDRS SECRETS_KEY APP_ENV WEBHOOK_ENDPOINT_SLOTS MAX_WAITERS DATA_DIR FLOWER_PORT
""".split()


def test_env_example_is_made_from_the_settings():
    assert (ROOT / ".env.example").read_text() == render(), "run: python -m config.example > .env.example"


def test_env_example_changes_nothing_when_copied():
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


@pytest.mark.parametrize("name", CONTRACT_NAMES)
def test_every_promised_setting_exists(name):
    assert any(name.lower() in section.model_fields for section in SECTIONS)
    assert re.search(rf"^#{name}=", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_locks_hold_exact_versions_and_no_address():
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / name).read_text().splitlines()
        assert lines
        assert [line for line in lines if not re.match(r"^[a-z0-9._-]+(\[[a-z,]+\])?==[\w.!+-]+( ; .+)?$", line)] == []


def test_the_development_lock_agrees_with_the_lock():
    pinned = set((ROOT / "requirements.lock").read_text().splitlines())
    assert pinned <= set((ROOT / "requirements-dev.lock").read_text().splitlines())


def test_procfile_compose_and_image_know_the_same_roles():
    singles = set(ROLES) - {"all"}
    procfile = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert set(procfile) == singles
    assert all(procfile[name] == " ".join(["python", *ROLES[name]]) for name in singles)
    compose = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"^    command: \[(\w+)\]$", compose, re.MULTILINE)) == singles
    entrypoint = (ROOT / "deploy" / "entrypoint").read_text()
    assert set(ROLES) == set(re.findall(r"^    (all \|[^)]+)\)", entrypoint, re.MULTILINE)[0].split(" | "))


def test_the_wheel_holds_the_library_alone(tmp_path: Path):
    # given the sources of a clone (building in the checkout would leave folders behind)
    files = subprocess.run(
        ["git", "ls-files", "mech_queue", "pyproject.toml", "api", "tasks", "workers", "config"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    source = tmp_path / "source"
    for name in files:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    (source / "README.md").write_text("# mech-queue\n")
    # when the wheel is built
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build, str(tmp_path)],
        cwd=source,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("mech_queue-*.whl")
    # then it holds every file of the library, scripts included, and nothing else
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == {name for name in files if name.startswith("mech_queue/") and not name.endswith(".md")}


def test_make_help_lists_every_command():
    text = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)[0].split()
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z]+)", listed, re.MULTILINE)) == set(commands)
