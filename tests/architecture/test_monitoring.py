"""Alert rules and dashboard: well formed, explained, understood by Prometheus. That what they ask for is really served
shows tests/e2e/test_schedules_and_metrics.py."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate import FOLDER

ROOT = FOLDER.parent
ALERTS = ROOT / "deploy" / "alerts.yml"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
PROMTOOL = shutil.which("promtool")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["labels"].keys() == {"severity"} and rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "what_to_do"}
    sentence = re.fullmatch(r"[A-Z].+ \((docs/[\w./-]+\.md)#([\w-]+)\)\.", rule["annotations"]["what_to_do"])
    assert sentence, "one sentence that ends in the page and section to read"
    page, section = sentence.groups()
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert section in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_every_rule_has_a_name_of_its_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_understands_rules_and_dashboard(tmp_path: Path) -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    recorded = [
        {"record": f"panel:{n}", "expr": text.replace("$__rate_interval", "1m")} for n, text in enumerate(asked)
    ]
    panels = tmp_path / "panels.yml"
    panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    command = [str(PROMTOOL), "check", "rules", str(ALERTS), str(panels)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_compose_mounts_is_there() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = [one for service in compose["services"].values() for one in service.get("volumes", ())]
    files = [one.partition(":")[0] for one in mounts if one.startswith(".")]
    assert len(files) == 5 and [one for one in files if not (ROOT / one).is_file()] == []
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    assert prometheus["rule_files"] == [ALERTS.name]
