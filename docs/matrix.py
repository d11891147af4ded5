"""Writes the page of the matrix from what its tests saw: ``python -m docs.matrix build/matrix.jsonl``.

A line of the file is one cell: broker, pool, fault, what it is about, and what was seen.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parent / "native-matrix.md"

HEAD = """# Native workers: each pool meets each fault

Written by `make matrix` from one run of its tests (`tests/celery/test_matrix.py`) in which every cell passed; Celery
{celery}, kombu {kombu}. Leases last three seconds, or a minute where no job may have to wait for one.

A cell says how the jobs ended. Every test also looks at the store's events, from which webhooks are made (one end for
each job, a start for each attempt), and at what monitors such as Flower get (never two endings for one attempt, none
that contradicts the job, no wake-ups). `stalled`: attempts that were lost with their worker and made again. `ran
again`: bodies that started more than once. In italics: what Celery itself has not in this pool. `–`: not in this run.
"""


def page(rows: list[dict[str, str]]) -> str:
    """The page as Markdown."""
    pools = list(dict.fromkeys(row["pool"] for row in rows))
    seen = {(row["broker"], row["fault"], row["pool"]): row["said"] for row in rows}
    text = [HEAD.format(celery=version("celery"), kombu=version("kombu"))]
    for broker in dict.fromkeys(row["broker"] for row in rows):
        text.append(f"## {broker} as the broker\n")
        text.append(f"| | {' | '.join(pools)} |\n|---|{'---|' * len(pools)}")
        faults = {row["fault"]: row["about"] for row in rows if row["broker"] == broker}
        for fault, about in faults.items():
            cells = [_cell(seen.get((broker, fault, pool), "–")) for pool in pools]
            text.append(f"| {about.splitlines()[0].rstrip('.').replace('``', '`')} | {' | '.join(cells)} |")
        text.append("")
    return "\n".join(text)


def _cell(said: str) -> str:
    return said if said[:1].isdigit() or said == "–" else f"*{said}*"


def main() -> None:
    """Write the page and print it."""
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    PAGE.write_text(page(rows))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
