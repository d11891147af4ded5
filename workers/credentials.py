"""What `make run` makes once and keeps in ``DATA_DIR/credentials.env`` (mode 0600).

The same lines are printed at every start. What the environment sets (MASTER_API_KEY, SECRETS_KEY,
FLOWER_BASIC_AUTH) is used instead and never written down here.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.fernet import Fernet
from dotenv import dotenv_values

from config.settings import Settings
from workers.data_dir import DataDir

FILE = "credentials.env"
APPLICATION_NAME = "first application"

_HEAD = """\
# Made by `make run`; keep it secret. The environment wins over MASTER_API_KEY, SECRETS_KEY and
# FLOWER_BASIC_AUTH. MECH_QUEUE_URL and STORE_URL are for programs and native Celery workers on this machine.
"""

_MAKERS: dict[str, Callable[[], str]] = {
    "MASTER_API_KEY": lambda: secrets.token_urlsafe(32),
    "SECRETS_KEY": lambda: Fernet.generate_key().decode(),
    "STORE_PASSWORD": lambda: secrets.token_urlsafe(24),
    "FLOWER_BASIC_AUTH": lambda: f"admin:{secrets.token_urlsafe(12)}",
}


@dataclass(frozen=True)
class FirstApplication:
    """The application whose key the start prints."""

    id: str
    api_key: str
    webhook_secret: str


class Credentials:
    """The file as a dictionary; every change is on disk before it is used."""

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        path = data_dir.path / FILE
        stored = dotenv_values(path) if path.exists() else {}
        self.values = {name: text for name, text in stored.items() if text}

    def complete(self) -> None:
        """Make what is missing."""
        self.update({name: make() for name, make in _MAKERS.items() if name not in self.values})

    def update(self, changes: dict[str, str]) -> None:
        """Change some lines and write the file."""
        if all(self.values.get(name) == text for name, text in changes.items()):
            return
        self.values.update(changes)
        lines = "".join(f"{name}={text}\n" for name, text in self.values.items())
        self._data_dir.write_private(FILE, _HEAD + lines)

    def environment(self, settings: Settings) -> dict[str, str]:
        """What the children need of it, as far as the environment has not set it."""
        wanted = ("MASTER_API_KEY", "SECRETS_KEY", "FLOWER_BASIC_AUTH")
        return {name: self.values[name] for name in wanted if not getattr(settings, name.lower())}

    def first_application(self, settings: Settings, redis_url: str) -> FirstApplication:
        """The first application of this store: the one in the file if the store knows it, else a new one.

        Opening the store here also initialises it, before any other process asks.
        """
        from mech_queue.services import applications
        from mech_queue.store import Store

        store = Store.open(redis_url)
        store.secrets_key = settings.secrets_key or self.values["SECRETS_KEY"]
        try:
            store.greet(initialise=True, defaults=settings.job_defaults)
            known = self._known()
            caller = applications.authenticate(store, known.api_key) if known else None
            if known and caller and caller.application_id == known.id:
                return known
            created = applications.create(store, APPLICATION_NAME)
            made = FirstApplication(created.application.id, created.api_key, created.webhook_secret)
        finally:
            store.close()
        self.update(
            {
                "APPLICATION_ID": made.id,
                "APPLICATION_API_KEY": made.api_key,
                "APPLICATION_WEBHOOK_SECRET": made.webhook_secret,
            }
        )
        return made

    def _known(self) -> FirstApplication | None:
        names = ("APPLICATION_ID", "APPLICATION_API_KEY", "APPLICATION_WEBHOOK_SECRET")
        if not all(name in self.values for name in names):
            return None
        return FirstApplication(*(self.values[name] for name in names))
