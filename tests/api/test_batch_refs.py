"""Items of a batch that depend on each other by ref."""

from typing import Any

from mech_queue.services import maintenance
from tests.api.conftest import Api, World
from tests.support import wait_until


def _item(ref: str | None = None, *parents: str) -> dict[str, Any]:
    item: dict[str, Any] = {"queue": "q", "data": 1}
    if ref is not None:
        item["ref"] = ref
    if parents:
        item["options"] = {"dependsOn": list(parents)}
    return item


def _submit(api: Api, *items: dict[str, Any]) -> list[dict[str, Any]]:
    answer = api.post("/api/jobs/batch", {"jobs": list(items)})
    assert answer.status_code == 200, answer.text
    return list(answer.json["results"])


def _wait_for_its_turn(api: Api, world: World, job_id: str) -> None:
    def waits() -> bool:
        maintenance.tick(world.store)
        return bool(api.job(job_id)["status"] == "waiting")

    wait_until(waits)


def test_an_item_waits_for_those_it_names_wherever_they_stand(api: Api, world: World) -> None:
    child, first, second, free = _submit(api, _item(None, "#a", "#b"), _item("a"), _item("b", "#a"), _item())
    assert api.job(child["jobId"])["dependsOn"] == [first["jobId"], second["jobId"]]
    states = [api.job(one["jobId"])["status"] for one in (child, first, second, free)]
    assert states == ["delayed", "waiting", "delayed", "waiting"]
    for one in (first, second, child):
        _wait_for_its_turn(api, world, one["jobId"])
        assert api.put(f"/api/jobs/{one['jobId']}", {"status": "completed", "result": 7}).status_code == 200
    assert api.job(child["jobId"])["parents"] == {first["jobId"]: 7, second["jobId"]: 7}


def test_unknown_doubled_and_bad_names_fail_alone(api: Api) -> None:
    results = _submit(api, _item(None, "#nobody"), _item("x"), _item("x"), _item(""), _item("ok"))
    assert [one["success"] for one in results] == [False, False, False, False, True]
    assert "options.dependsOn.0" in results[0]["details"]
    assert results[1]["details"] == results[2]["details"] == {"ref": ["names two items of this batch"]}


def test_what_depends_on_itself_is_refused(api: Api) -> None:
    results = _submit(api, _item("a", "#c"), _item("b", "#a"), _item("c", "#b"), _item("d", "#d"), _item("e"))
    assert [one["success"] for one in results] == [False] * 4 + [True]
    assert api.get("/api/jobs").json["count"] == 1


def test_a_child_of_a_refused_item_is_refused(api: Api) -> None:
    bad = {**_item("a"), "queue": "a b"}
    assert [one["success"] for one in _submit(api, bad, _item(None, "#a"))] == [False, False]


def test_a_chain_may_be_as_long_as_a_batch(api: Api) -> None:
    items = [_item(f"n{number}", *([f"#n{number + 1}"] if number < 999 else [])) for number in range(1000)]
    results = _submit(api, *items)
    assert all(one["success"] for one in results)
    assert api.job(results[999]["jobId"])["status"] == "waiting"
    assert api.job(results[0]["jobId"])["status"] == "delayed"


def test_refs_are_for_batches_only(api: Api) -> None:
    assert api.post("/api/jobs", _item("a")).status_code == 422
    assert api.post("/api/jobs", _item(None, "#a")).status_code == 422
