"""``python -m workers.reseal`` against a real store, as an operator runs it."""

import os
import subprocess
import sys

from cryptography.fernet import Fernet

from mech_queue.services import applications
from mech_queue.store import Store
from tests.support.service import ROOT

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def reseal(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "workers.reseal"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_old_key_may_go_afterwards(store: Store, redis_url: str) -> None:
    # given secrets under an old key
    store.secrets_key = OLD
    made = applications.create(store, "test")
    # when the new one is the first and the command has run
    done = reseal(REDIS_URL=redis_url, SECRETS_KEY=f"{NEW},{OLD}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 secrets rewritten, 1 were under the first key already.\n"
    # then the new one is enough, and a second run finds nothing to do
    store.secrets_key = NEW
    assert [one.text for one in store.applications.secrets(made.application.id)] == [made.webhook_secret]
    assert reseal(REDIS_URL=redis_url, SECRETS_KEY=NEW).stdout.startswith("0 secrets rewritten")


def test_what_make_run_keeps_is_found_in_its_folder(store: Store, redis_url: str, tmp_path) -> None:
    (tmp_path / "credentials.env").write_text(f"SECRETS_KEY={NEW}\nSTORE_URL={redis_url}\n")
    applications.create(store, "test")  # before there was a key
    assert reseal(DATA_DIR=str(tmp_path)).stdout.startswith("1 secrets rewritten")


def test_a_lost_key_and_a_missing_one_are_said_in_a_sentence(store: Store, redis_url: str, tmp_path) -> None:
    store.secrets_key = OLD
    applications.create(store, "test")
    for key, sentence in ((NEW, "No key in SECRETS_KEY opens"), ("", "SECRETS_KEY is not set")):
        failed = reseal(REDIS_URL=redis_url, SECRETS_KEY=key, DATA_DIR=str(tmp_path))
        assert failed.returncode == 1
        assert failed.stderr.startswith(sentence) and failed.stderr.count("\n") == 1
