"""Celery 5.6: events of a busy worker with threads that its dispatcher would lose."""

from typing import Any

import celery


def keep_events(dispatcher: Any) -> None:
    """Celery 5.6 publishes its buffer of events and then empties it, with what other threads have added meanwhile.
    5.7 takes out only what it has published; so does this."""
    if dispatcher is None or celery.VERSION >= (5, 7):
        return
    flush = dispatcher.flush

    def flush_what_is_there(errors: bool = True, groups: bool = True) -> None:
        flush(errors=errors, groups=False)
        if groups:
            with dispatcher.mutex:
                for group, events in list(dispatcher._group_buffer.items()):
                    batch = list(events)
                    if batch:
                        dispatcher._publish(batch, dispatcher.producer, f"{group}.multi")
                        del events[: len(batch)]

    dispatcher.flush = flush_what_is_there
