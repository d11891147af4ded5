"""Logs: one JSON object a line when nobody watches, with process and request id in it."""

import json
import os
import subprocess
import sys

PROGRAM = """
import logging, structlog
from config import logging as logs
from config.settings import Settings
logs.configure(Settings(), "api")
logs.bind_request("r-1")
structlog.stdlib.get_logger("x").info("job taken", job="j-1")
logging.getLogger("celery").warning("plain %s", "words")
logs.unbind_request()
try:
    raise ValueError("bad")
except ValueError:
    logging.getLogger("y").exception("went wrong")
"""


def lines(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PATH": os.environ["PATH"], "MASTER_API_KEY": "8c1f0a5b7d3e49f2a6b8c0d1e2f30415", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_lines_are_json_with_process_and_request_id():
    taken, plain, wrong = (json.loads(line) for line in lines())
    assert (taken["event"], taken["job"], taken["request_id"], taken["process"]) == (
        "job taken",
        "j-1",
        "r-1",
        "api",
    )
    assert (plain["event"], plain["level"], plain["request_id"]) == ("plain words", "warning", "r-1")
    assert "ValueError: bad" in wrong["exception"]
    assert "request_id" not in wrong


def test_the_level_is_honoured():
    assert [json.loads(line)["event"] for line in lines(LOG_LEVEL="error")] == ["went wrong"]


def test_lines_for_people():
    assert "job taken" in lines(LOG_FORMAT="console")[0]
    assert not lines(LOG_FORMAT="console")[0].startswith("{")
