"""The machine's rules for jobs that know of others: dedupe keys and parents."""

import functools
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import rule

from mech_queue.model.errors import Refusal
from mech_queue.model.ids import job_id_text
from tests.store.engine import APPLICATION
from tests.store.hands import NAMES, Hands
from tests.store.model import ENDED
from tests.store.sameness import DEDUPE, KEYS

HOUR_MS = 3_600_000  # of the store's real time, by which keys expire: longer than any sequence takes

queue_names = st.sampled_from(NAMES)
places = st.integers(0, 10**6)  # which of the jobs that qualify
delays = st.sampled_from([0, 0, 500])


def step(**given: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule that takes 1 ms; what breaks in it leaves the machine unsound, so that no drain is tried."""

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def run(self: Hands, **values: Any) -> None:
            self.sound = False
            self.engine.now += 1
            function(self, **values)

        return rule(**given)(run)

    return decorate


class Options(Hands):
    """Submits with options; what follows from them is the model's and the store's affair."""

    @step(
        queue=queue_names,
        key=st.sampled_from(["", *KEYS]),
        lasts=st.booleans(),
        debounce=st.sampled_from([None, "replace", "extend"]),
        delay=delays,
    )
    def submit_once(
        self, queue: str, key: str, lasts: bool, debounce: Literal["replace", "extend"] | None, delay: int
    ) -> None:
        self._submit_once(queue, key, lasts=lasts, debounce=debounce, delay=delay)

    @step(
        queue=queue_names,
        picks=st.lists(places, min_size=1, max_size=3),
        runs_anyway=st.booleans(),
        delay=delays,
        expires=st.sampled_from([0, 0, 400]),
    )
    def submit_child(self, queue: str, picks: list[int], runs_anyway: bool, delay: int, expires: int) -> None:
        everything = list(self.model.jobs)
        parents = list({everything[place % len(everything)] for place in picks}) if everything else []
        self._submit_child(queue, parents, runs_anyway=runs_anyway, delay=delay, expires=expires)

    def _submit_once(
        self,
        queue: str,
        key: str,
        *,
        lasts: bool,
        debounce: Literal["replace", "extend"] | None = None,
        delay: int = 0,
    ) -> None:
        ttl = HOUR_MS if lasts else None
        job, spec = self._new(queue, key, delay=delay, dedupe_key=DEDUPE, dedupe_ttl_ms=ttl, debounce=debounce)
        job.deduped = True
        holder = self.model.dedupe.get(queue, (b"", False))[0]
        first = self.model.jobs.get(holder)
        if not holder or not (lasts or (first and first.state not in ENDED)):
            self.model.dedupe[queue] = job.id, lasts
            self._submit_jobs([(job, spec)])
            return
        answer = self.store.jobs.submit(APPLICATION, [spec], ids=[job.id])[0]
        assert not isinstance(answer, Refusal)
        assert (answer.job_id, answer.deduplicated) == (job_id_text(holder), True)
        if first is None or debounce is None or first.state not in "wd":
            return
        if debounce == "replace":
            first.data, first.label = job.data, key
        if delay:
            first.state, first.due = "d", self.engine.now + delay
            self.model.tidy(queue)

    def _submit_child(
        self, queue: str, parents: list[bytes], *, runs_anyway: bool = False, delay: int = 0, expires: int = 0
    ) -> None:
        # without a key: the children of one parent are told in no particular order, so their turns would differ
        job, spec = self._new(
            queue,
            "",
            delay=delay,
            expires=expires,
            depends_on=tuple(map(job_id_text, parents)),
            on_parent_failure="run" if runs_anyway else "fail",
        )
        job.runs_anyway = runs_anyway
        states = {parent: self.model.jobs[parent].state for parent in parents}
        for parent, state in states.items():
            if state not in ENDED:
                job.awaited += 1
                self.model.children.setdefault(parent, set()).add(job.id)
        if job.awaited:
            job.state = "d"
        self._submit_jobs([(job, spec)])
        if not runs_anyway and {"f", "x"} & set(states.values()):
            self.model.end(job, "f", self.engine.now, "failed")
