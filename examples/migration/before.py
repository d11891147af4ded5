"""An existing Celery application: its callers are Python programs that know its broker."""

import os
from pathlib import Path

from celery import Celery

app = Celery("shop", broker=os.environ["REDIS_URL"])
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


@app.task(name="invoices", autoretry_for=(OSError,), max_retries=3, retry_backoff=True)
def make_invoice(order: str, currency: str = "EUR") -> dict[str, str]:
    """Write an invoice into the folder of the shop."""
    path = Path(os.environ["INVOICES"]) / f"{order}.txt"
    path.write_text(f"Order {order}, payable in {currency}\n", encoding="utf-8")
    return {"file": path.name}
