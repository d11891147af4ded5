"""Decorators of the Flask routes: which key may use them."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from flask import g

from api import auth
from mech_queue.model.application import MASTER, Scope

P = ParamSpec("P")
R = TypeVar("R")

SCOPE = "_scope"
"""Attribute under which a guarded view keeps what it demands, for the documentation and the tests."""


def requires(scope: Scope) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Only keys with this scope."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            auth.demand(g.caller, scope)
            return view(*args, **kwargs)

        setattr(guarded, SCOPE, scope)
        return guarded

    return decorate


def master_only(view: Callable[P, R]) -> Callable[P, R]:
    """Only the master key."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        auth.demand_master(g.caller)
        return view(*args, **kwargs)

    setattr(guarded, SCOPE, MASTER)
    return guarded


def any_key(view: Callable[P, R]) -> Callable[P, R]:
    """Any valid key, whatever its scopes."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if g.caller is None:
            raise auth.unauthenticated()
        return view(*args, **kwargs)

    setattr(guarded, SCOPE, "")
    return guarded
