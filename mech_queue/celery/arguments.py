"""From a job's data to the arguments of a plain task, and back for ``self.retry`` with new ones.

The rule (docs/native-worker.md): an object becomes keyword arguments if the task's signature accepts
them, else it is the one positional argument; an array becomes the positional arguments; anything else
is the one positional argument, and ``null`` or ``{}`` for a task without parameters is no argument.
"""

import inspect
import json
import weakref
from typing import Any

from mech_queue.celery.held import json_bytes

_signatures: "weakref.WeakKeyDictionary[Any, inspect.Signature | None]" = weakref.WeakKeyDictionary()


def call_arguments(task: Any, data: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The (args, kwargs) with which ``task`` runs a job. Raises ValueError for data that is no JSON."""
    value = json.loads(data)
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        if _accepts(task, [], value):
            return [], value
        # Where neither fits, keywords: the error then names the wrong one.
        return ([value], {}) if _accepts(task, [value], {}) else ([], value)
    if value is None and not _accepts(task, [None], {}) and _accepts(task, [], {}):
        return [], {}
    return [value], {}


def data_for(task: Any, args: Any, kwargs: Any) -> bytes:
    """The data that ``call_arguments`` turns into these arguments again, for the next attempt.

    Raises TypeError or ValueError when no JSON data can say it.
    """
    args, kwargs = list(args or ()), dict(kwargs or {})
    if not kwargs:
        return json_bytes(args)
    if args:
        signature = _signature(task)
        if signature is None:
            raise TypeError("positional and keyword arguments together need a task whose signature is known")
        kwargs = _by_name(signature, args, kwargs)
    if not _accepts(task, [], kwargs):
        raise TypeError(f"the task does not accept the keyword arguments {', '.join(kwargs)}")
    return json_bytes(kwargs)


def _by_name(signature: inspect.Signature, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Positional and keyword arguments together as keyword arguments alone."""
    named: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            named[name] = value
    if len(named) != len(args) + len(kwargs):  # *args or positional-only parameters
        raise TypeError("these positional and keyword arguments cannot be kept as JSON data of a job")
    return named


def _accepts(task: Any, args: list[Any], kwargs: dict[str, Any]) -> bool:
    signature = _signature(task)
    if signature is None:  # a builtin: nothing to look at, let it decide
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _signature(task: Any) -> inspect.Signature | None:
    # task.run: bound for bind=True, so `self` is not among the parameters.
    if task not in _signatures:
        try:
            _signatures[task] = inspect.signature(task.run)
        except (TypeError, ValueError):
            _signatures[task] = None
    return _signatures[task]
