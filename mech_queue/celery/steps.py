"""Boot steps and worker signals: what happens at the start, after a reconnect, and at the end."""

import sys
import time
from typing import Any

from celery import bootsteps, signals
from celery.utils.log import get_logger
from celery.utils.text import str_to_list
from celery.worker import state as worker_state
from celery.worker.consumer.tasks import Tasks
from kombu.utils.compat import detect_environment

from mech_queue.celery import quitting, reconnect
from mech_queue.celery.broker import is_amqp
from mech_queue.celery.consumers import Consumers, consumed, define_queues
from mech_queue.celery.endings import error_json
from mech_queue.celery.flush import count_running_slots, ids_in_pool, keep_sent_jobs
from mech_queue.celery.held import WAKE_UP_PREFIX, Place
from mech_queue.celery.leases import LeaseThread
from mech_queue.celery.monitors import keep_events
from mech_queue.celery.runtime import Runtime, installed, runtime_of
from mech_queue.celery.series import give_back_untold
from mech_queue.celery.slots import wake_loop_at_free_slots
from mech_queue.celery.tasks import adapt
from mech_queue.model.errors import Code, Refusal, StoreStopped
from mech_queue.model.job import Report
from mech_queue.services import jobs

logger = get_logger("mech_queue")

SILENCE = {"socket_timeout": 5, "health_check_interval": 5, "socket_keepalive": True}
"""Transport options of a Redis broker, in seconds: one that is silent for longer is connected to anew. Longer than
the second that Celery's own blocking reads take."""


def connect() -> None:
    """Connect the worker signals; a second call changes nothing."""
    signals.celeryd_init.connect(before_start, weak=False, dispatch_uid="mech_queue.before_start")
    signals.worker_shutdown.connect(give_back_all, weak=False, dispatch_uid="mech_queue.give_back_all")


def before_start(instance: Any = None, conf: Any = None, options: Any = None, **_: Any) -> None:
    """A worker is about to start: is it welcome at the store, and does it prefetch too much?"""
    if not installed(instance.app):
        return
    runtime = runtime_of(instance.app)
    try:
        _greet(runtime)
        _compare_brokers(runtime)
    except StoreStopped as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(1) from None
    except ValueError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except Refusal as refusal:  # the worker may come up before its store
        logger.warning("The store does not answer yet: %s", refusal)
    told = str_to_list((options or {}).get("queues")) or ()
    for name in told:
        if name.startswith(WAKE_UP_PREFIX) and Place.of(name) is None:
            _warn(f"-Q {name} names no application and brings no jobs; jobs.<application id>.<queue> does.")
    define_queues(instance.app, told)
    if not _is_redis(conf):
        conf.worker_disable_prefetch = False  # Celery can do it with Redis alone, and warns; the multiplier stays
    _live_through_outages(conf)


def _greet(runtime: Runtime) -> None:
    """Raises StoreStopped when this library version is not served. The protocol is judged by the scripts, so
    one of them is run: for a job that cannot exist."""
    runtime.store.greet(initialise=False)
    try:
        jobs.get(runtime.store, "master", "00000000-0000-0000-0000-000000000000")
    except Refusal as refusal:
        if refusal.code is not Code.NOT_FOUND:
            raise


def _compare_brokers(runtime: Runtime) -> None:
    """Wake-ups go through one broker; a worker at another one would wait for ever, and not say why."""
    redis_broker = not is_amqp(runtime.app.connection_for_read())
    if runtime.store.counts_wakeups():
        if runtime.app.conf.broker_url == runtime.store.url:
            _warn("The service sends wake-ups through another broker (its BROKER_URL): this app needs the same.")
    elif not redis_broker:
        _warn("The service sends wake-ups through its store; this app has another broker. Set BROKER_URL there.")


def _warn(sentence: str) -> None:
    """Logging is not set up yet."""
    print(f"WARNING: {sentence}", file=sys.stderr)


def _is_redis(conf: Any) -> bool:
    return str(conf.broker_url or "").startswith(("redis", "valkey", "sentinel"))


def no_prefetching() -> dict[str, Any]:
    """Defaults of the app's configuration: wake-ups in a busy worker's memory wake nobody; the store's repair finds
    out, but only after a while. Not with green threads, where prefetching is half of the speed.

    They must be there when the command line is read: ``celery worker`` takes its own defaults from them.
    """
    if detect_environment() != "default":  # type: ignore[no-untyped-call]
        return {}
    return {"worker_disable_prefetch": True, "worker_prefetch_multiplier": 1}


def _live_through_outages(conf: Any) -> None:
    """A connection that a firewall forgot brings nothing and never ends; Celery's own defaults wait for it for ever.
    And a Redis that takes no writes for a moment is an outage like any other."""
    if _is_redis(conf):
        reconnect.use(conf)
        conf.broker_transport_options = {**SILENCE, **(conf.broker_transport_options or {})}
        if not conf.value_set_for("broker_channel_error_retry"):
            conf.broker_channel_error_retry = True  # "not enough replicas", "I am loading": else the worker ends


class TasksStep(bootsteps.Step):
    """Worker step: makes all tasks ready for jobs, before the pool forks and Celery builds its tracers."""

    def __init__(self, worker: Any, **_: Any) -> None:
        for task in worker.app.tasks.values():
            adapt(task)
        super().__init__(worker)


class PrefetchStep(bootsteps.Step):
    """Consumer step: the prefetch count holds for each queue by itself, since RabbitMQ lets a quorum queue have
    no other. (What Celery does when it sees such a queue, see broker.py.)"""

    requires = (Tasks,)

    def create(self, consumer: Any) -> None:
        """Before the first connection."""
        if is_amqp(consumer.app.connection_for_read()):
            # Celery 5.6 would lower the count after a reconnect, and could not raise it again; 5.7 knows that.
            consumer.app.conf.worker_enable_prefetch_count_reduction = False
            for step in consumer.steps:
                if isinstance(step, Tasks):
                    step.qos_global = lambda _: False


class JobsStep(bootsteps.StartStopStep):
    """Consumer step: leases, and consumers for what appears; started anew after each broker reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._runtime: Runtime = runtime_of(consumer.app)
        self._leases: LeaseThread | None = None
        self._consumers: Consumers | None = None
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Also called after a reconnect."""
        for task in consumer.app.tasks.values():
            adapt(task)  # tasks that were registered meanwhile
        keep_events(consumer.event_dispatcher)
        wake_loop_at_free_slots(consumer.pool, consumer)
        keep_sent_jobs(consumer.pool, self._runtime.running)
        count_running_slots(consumer.pool, getattr(consumer.controller, "semaphore", None))
        if consumer.pool.uses_semaphore and consumer.hub is not None:
            consumer.hub.on_tick.add(self._turn)
        self._give_back_discarded(consumer.pool)
        if self._leases is None or not self._leases.alive:
            self._leases = LeaseThread(self._runtime, consumer.pool, consumer.hostname, lambda: consumed(consumer))
            self._leases.start()
        if self._consumers is None:
            self._consumers = Consumers(self._runtime, consumer)
            quitting.take_no_more(consumer.controller, self._runtime)
            quitting.handle_where_waiting_is_allowed(consumer.controller, self._runtime)
        self._consumers.start()

    def _turn(self) -> None:
        """What ``control revoke`` names must not start: as long as there is something, the main process starts jobs."""
        self._runtime.turned_at = time.monotonic()
        if worker_state.revoked:
            worker_state.revoked.purge()  # Celery does it when something is added
        self._runtime.board.open = not (worker_state.revoked or self._runtime.quitting)

    def stop(self, consumer: Any) -> None:
        """The leases go on: running bodies are waited for. Not in a cold shutdown: those were stopped, and no signal
        tells of the worker's end."""
        self._runtime.board.open = False
        if self._consumers is not None:
            self._consumers.stop()
        if worker_state.should_terminate not in (None, False):
            give_back_untold(self._runtime, self._runtime.board.all())  # told a main loop that turns no more
            _give_back(self._runtime, consumer.hostname)

    def _give_back_discarded(self, pool: Any) -> None:
        """Prefork: what the pool forgot on losing the broker (see flush.py); the lease thread would renew
        such a job for ever."""
        known = ids_in_pool(pool)
        for request in self._runtime.running.all():
            if request.claimed_in_main and request.time_start is None and request.id not in known:
                state = request.give_back()
                logger.warning("Job %s was discarded by the pool: given back (%s)", request.id, state)


def give_back_all(sender: Any = None, **_: Any) -> None:
    """The worker has stopped. A claimed job that no child accepted goes back at once (a warm shutdown under
    short jobs leaves one nearly every time); a body that was cut is a stall."""
    app = getattr(sender, "app", None)
    if app is None or not installed(app):
        return
    runtime = runtime_of(app)
    _give_back(runtime, sender.hostname)
    runtime.publisher.close()


def _give_back(runtime: Runtime, worker_id: str) -> None:
    for request in runtime.running.take_all():
        if request.time_start is None:
            state = request.close(Report(request.id, "release"))
        elif worker_state.should_terminate not in (None, False):
            continue  # cold: a thread may still be at it, so the lease decides
        else:
            error = error_json("WorkerShutdown", "the worker was stopped while the job ran")
            state = request.close(Report(request.id, "stall", error=error))
        logger.warning("Job %s was not finished at shutdown: given back (%s)", request.id, state)
    runtime.gate.recover(worker_id, older_than_s=0)
