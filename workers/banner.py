"""The lines that `make run` prints when everything answers."""

from pathlib import Path

from config.settings import Settings
from workers.credentials import FILE, FirstApplication

__all__ = ["FirstApplication", "address", "render"]


def address(settings: Settings) -> str:
    """The API's address for programs on this machine."""
    return f"http://{_shown(settings.host)}:{settings.port}"


def render(settings: Settings, data_dir: Path, application: FirstApplication) -> str:
    """How to use what now runs; the curl line works as it stands."""
    base = address(settings)
    lines = [
        "",
        "mech-queue runs. Submit a job:",
        "",
        f"  curl -X POST {base}/api/jobs -H 'x-api-key: {application.api_key}' \\",
        "    -H 'Content-Type: application/json' \\",
        """    -d '{"queue": "hello", "data": {"name": "world"}}'""",
        "",
        f"  API docs     {base}/docs",
    ]
    if settings.enable_prometheus_metrics:
        lines.append(f"  Metrics      http://{_shown(settings.host)}:{settings.metrics_port}/metrics")
    lines += [
        f"  Flower       http://{_shown(settings.flower_address)}:{settings.flower_port}/  (login in {FILE})",
        f"  Application  {application.id}",
        f"  Data         {data_dir.resolve()}  (keys and logins: {data_dir / FILE})",
        "",
        "Ctrl-C stops it: once drains, twice forces. The data stays.",
        "",
    ]
    return "\n".join(lines)


def _shown(host: str) -> str:
    if host in ("", "0.0.0.0", "::", "127.0.0.1"):
        return "localhost"
    return f"[{host}]" if ":" in host else host
