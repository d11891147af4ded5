"""From data to arguments and back, and the settings of a native worker."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from mech_queue.celery.arguments import call_arguments, data_for
from mech_queue.celery.options import Options, options_from

app = Celery("arguments", set_as_current=False)


def task_of(function: Callable[..., Any], **options: Any) -> Any:
    made = app.task(name=function.__name__, **options)(function)
    return app.tasks[made.name]


def two(x: int, y: int = 0) -> None: ...
def none() -> None: ...
def one(payload: Any) -> None: ...
def bound(self: Any, x: int) -> None: ...
def stars(*args: Any, **kwargs: Any) -> None: ...
def by_name(*, to: str) -> None: ...


TWO, NONE, ONE, STARS, BY_NAME = (task_of(function) for function in (two, none, one, stars, by_name))
BOUND = task_of(bound, bind=True)


@pytest.mark.parametrize(
    ("task", "data", "args", "kwargs"),
    [
        (TWO, {"x": 1, "y": 2}, [], {"x": 1, "y": 2}),
        (TWO, [1, 2], [1, 2], {}),
        (TWO, 1, [1], {}),
        (ONE, {"x": 1}, [{"x": 1}], {}),
        (ONE, {"payload": 1}, [], {"payload": 1}),
        (ONE, [[1, 2]], [[1, 2]], {}),
        (ONE, None, [None], {}),
        (ONE, "text", ["text"], {}),
        (NONE, None, [], {}),
        (NONE, {}, [], {}),
        (NONE, [], [], {}),
        (BOUND, {"x": 1}, [], {"x": 1}),
        (BOUND, 5, [5], {}),
        (STARS, {"a": 1}, [], {"a": 1}),
        (BY_NAME, {"to": "x"}, [], {"to": "x"}),
        (BY_NAME, {"ot": "x"}, [], {"ot": "x"}),
    ],
)
def test_the_documented_rule(task: Any, data: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    assert call_arguments(task, json.dumps(data).encode()) == (args, kwargs)


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "same_as"),
    [
        (TWO, (1, 2), {}, {"x": 1, "y": 2}),
        (TWO, (1,), {"y": 2}, {"x": 1, "y": 2}),
        (TWO, (), {"x": 1}, {"x": 1}),
        (ONE, ({"x": 1},), {}, {"payload": {"x": 1}}),
        (BOUND, (1,), {}, {"x": 1}),
        (STARS, (1, 2), {}, None),
    ],
)
def test_retry_arguments_come_back(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], same_as: dict[str, Any] | None
) -> None:
    import inspect

    again_args, again_kwargs = call_arguments(task, data_for(task, args, kwargs))
    bound = inspect.signature(task.run).bind(*again_args, **again_kwargs)
    if same_as is None:
        assert bound.args == args
    else:
        assert dict(bound.arguments) == same_as


def test_arguments_that_no_json_can_say_are_refused() -> None:
    with pytest.raises(TypeError):
        data_for(STARS, (1,), {"a": 2})
    with pytest.raises(TypeError):
        data_for(TWO, (object(),), {})
    with pytest.raises(ValueError):
        data_for(TWO, (float("nan"),), {})


def test_options_come_from_arguments_then_environment_then_defaults() -> None:
    environment = {"MECH_QUEUE_LEASE_SECONDS": "9", "MECH_QUEUE_SHOW_METADATA": "false", "REDIS_URL": "redis://a"}
    options = options_from({"chain_ms": 0, "applications": ("app-1",)}, environment)
    assert options.lease_seconds == 9 and options.renew_seconds == 3 and options.chain_ms == 0
    assert options.show_metadata is False and options.store_url == "redis://a"
    assert options.applications == ("app-1",) and options.queues == ("*",)
    assert options_from({}, {}) == Options()


@pytest.mark.parametrize(
    ("given", "environment", "sentence"),
    [
        ({"leese_seconds": 3}, {}, "knows no option leese_seconds"),
        ({}, {"MECH_QUEUE_LEASE_SECONDS": "soon"}, "must be a number"),
        ({}, {"MECH_QUEUE_SHOW_METADATA": "perhaps"}, "must be true or false"),
        ({"lease_seconds": 30, "renew_seconds": 29}, {}, "at most half"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    given: dict[str, Any], environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        options_from(given, environment)
