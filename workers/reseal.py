"""``make reseal``: every stored secret rewritten under the first key of SECRETS_KEY; then the older keys may go.

It takes one record at a time and may run beside everything else. Stopped half way, it goes on when it is
started again: what is under the first key already costs one read.
"""

import sys
from pathlib import Path

from config.settings import Settings, load
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.model.secretbox import SecretsKeyError
from mech_queue.services import secrets
from mech_queue.store import Store
from workers.credentials import Credentials
from workers.data_dir import DataDir
from workers.dev import read_env_file


def where(settings: Settings) -> tuple[str, str]:
    """Address of the store and SECRETS_KEY: the environment's, else those of `make run` in DATA_DIR."""
    made = Credentials(DataDir(Path(settings.data_dir))).values
    url = settings.redis_url if settings.has_store else made.get("STORE_URL", settings.redis_url)
    return url, settings.secrets_key or made.get("SECRETS_KEY", "")


def main() -> None:
    """Entry point: one line on success, one sentence and exit code 1 otherwise."""
    read_env_file()
    url, key = where(load())
    if not key:
        sys.exit("SECRETS_KEY is not set: there is no key to write secrets under.")
    store = Store.open(url)
    store.secrets_key = key
    try:
        store.greet()
        done = secrets.reseal(store)
    except (SecretsKeyError, StoreStopped) as error:
        sys.exit(str(error))
    except Refusal as refusal:
        sys.exit(refusal.message)
    finally:
        store.close()
    print(f"{done.rewritten} secrets rewritten, {done.current} were under the first key already.")


if __name__ == "__main__":
    main()
