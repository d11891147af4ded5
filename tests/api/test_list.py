"""GET /api/jobs: filters, order, pages."""

from urllib.parse import quote

import pytest

from tests.api.conftest import Api


def _ids(api: Api, query: str) -> list[str]:
    answer = api.get(f"/api/jobs?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json["count"] == len(answer.json["jobs"])
    return [job["id"] for job in answer.json["jobs"]]


def test_the_seeds_filter_finds_the_job(api: Api) -> None:
    wanted = api.submit(metadata={"priority": "high", "customerId": "cust-123"})
    api.submit(metadata={"priority": "high", "customerId": "cust-1"})
    api.submit(metadata={"priority": "low", "customerId": "cust-123"})
    api.submit("other", metadata={"priority": "high", "customerId": "cust-123"})
    query = "queue=email&status=waiting&metadata.priority=high&metadata.customerId=cust-123"
    assert _ids(api, query) == [wanted]


@pytest.mark.parametrize(
    ("value", "query", "found"),
    [
        (3, "3", True),
        ("3", "3", True),
        (3.0, "3", True),
        (3, "3.0", True),
        (3, '"3"', False),
        ("3", '"3"', True),
        ("03", "03", True),
        (3, "03", False),
        (True, "true", True),
        ("true", "true", True),
        (1, "true", False),
        (True, "1", False),
        (None, "null", False),
        ("null", "null", True),
        ("日本", "日本", True),
        ("a b&c=d", "a b&c=d", True),
        ("A", "a", False),
        (10**20, "100000000000000000000", True),
        (1e21, "1000000000000000000000", True),
        ("", "", True),
        ("[]", "[]", True),
        ([], "[]", False),
    ],
)
def test_metadata_values_compare_by_their_type(api: Api, value: object, query: str, found: bool) -> None:
    job_id = api.submit(metadata={"k": value})
    assert _ids(api, f"metadata.k={quote(query)}") == ([job_id] if found else [])


def test_nested_metadata_is_found_by_path_and_a_literal_key_wins(api: Api) -> None:
    nested = api.submit(metadata={"a": {"b": 1}})
    literal = api.submit(metadata={"a.b": 1, "a": {"b": 2}})
    assert _ids(api, "metadata.a.b=1&order=asc") == [nested, literal]
    assert _ids(api, "metadata.a.b=2") == []


def test_several_statuses_are_any_of_them(api: Api) -> None:
    waiting, done, delayed = api.submit(), api.submit(), api.submit(options={"delay": 60_000})
    api.put(f"/api/jobs/{done}", {"status": "completed"})
    assert _ids(api, "status=completed,delayed") == [delayed, done]
    assert _ids(api, "status=waiting") == [waiting]


@pytest.mark.parametrize("queues", [3, 40])
def test_a_status_is_found_in_all_queues_however_many(api: Api, queues: int) -> None:
    ids = [api.submit(f"q{at}", metadata={"even": at % 2 == 0}) for at in range(queues)]
    for job_id in ids[1::2]:
        api.put(f"/api/jobs/{job_id}", {"status": "failed"})

    assert _ids(api, "status=waiting&order=asc&limit=30") == ids[::2]
    assert _ids(api, "status=failed") == ids[1::2][::-1]
    assert _ids(api, "status=failed,waiting") == ids[::-1]
    assert _ids(api, "status=completed") == []
    assert _ids(api, "status=waiting&metadata.even=true&order=asc") == ids[::2]
    assert _ids(api, "status=waiting&metadata.even=false") == []
    assert _ids(api, f"status=failed&task=q{queues // 2 * 2 - 1}") == [ids[queues // 2 * 2 - 1]]


def test_newest_first_unless_asked_otherwise(api: Api) -> None:
    jobs = [api.submit() for _ in range(3)]
    assert _ids(api, "") == jobs[::-1]
    assert _ids(api, "order=asc") == jobs


def test_one_queue_and_waiting_comes_as_workers_will_get_it(api: Api) -> None:
    first, second, urgent = api.submit(), api.submit(), api.submit(options={"priority": 1})
    assert _ids(api, "queue=email&status=waiting") == [urgent, first, second]
    assert _ids(api, "queue=email&status=waiting&order=desc") == [urgent, second, first]


def test_pages_follow_each_other_without_gap_or_double(api: Api) -> None:
    jobs = [api.submit(metadata={"odd": n % 2}) for n in range(9)]
    for query, wanted in (
        ("order=asc", jobs),
        ("metadata.odd=1", jobs[1::2][::-1]),
        ("queue=email&status=waiting", jobs),
    ):
        found: list[str] = []
        path = f"/api/jobs?limit=2&{query}"
        while True:
            page = api.get(path).json
            assert len(page["jobs"]) <= 2
            found += [job["id"] for job in page["jobs"]]
            if page["nextCursor"] is None:
                break
            path = f"/api/jobs?limit=2&{query}&cursor={page['nextCursor']}"
        assert found == wanted, query


def test_times_bound_the_submission(api: Api) -> None:
    job_id = api.submit()
    submitted = api.job(job_id)["timestamps"]["submitted"]
    assert _ids(api, f"submittedAfter={submitted}") == [job_id]
    assert _ids(api, f"submittedBefore={submitted}") == []
    assert _ids(api, "submittedAfter=2000-01-01T00:00:00%2B01:00") == [job_id]
    assert _ids(api, "submittedAfter=2000-01-01T00:00:00+01:00") == [job_id]


def test_task_finds_native_tasks_and_the_queues_own(api: Api) -> None:
    native, plain = api.submit(task="mails.send"), api.submit()
    assert _ids(api, "task=mails.send") == [native]
    assert _ids(api, "task=email") == [plain]


def test_lists_leave_the_history_out(api: Api) -> None:
    job_id = api.submit()
    listed = api.get("/api/jobs").json["jobs"][0]
    assert set(api.job(job_id)) - set(listed) == {"history"}


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("bogus=1", "bogus"),
        ("metadata.=1", "metadata."),
        ("metadata=1", "metadata"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=%2B5", "limit"),
        ("status=done", "status"),
        ("status=", "status"),
        ("queue=", "queue"),
        ("queue=a%20b", "queue"),
        ("order=up", "order"),
        ("submittedAfter=yesterday", "submittedAfter"),
        ("submittedBefore=2024-01-01", "submittedBefore"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("cursor=" + "A" * 500, "cursor"),
        ("task=", "task"),
        ("queue=a&queue=b", "queue"),
        ("metadata.k=%ff", "query"),
        ("%ff=1", "query"),
    ],
)
def test_a_bad_query_is_422_and_names_it(api: Api, query: str, path: str) -> None:
    answer = api.get(f"/api/jobs?{query}")
    assert (answer.status_code, list(answer.json["details"])) == (422, [path]), answer.text


def test_quotes_in_a_filter_are_json_strings(api: Api) -> None:
    job_id = api.submit(metadata={"k": '"x"'})
    assert _ids(api, "metadata.k=" + quote('"\\"x\\""')) == [job_id]


def test_many_filters_are_bounded(api: Api) -> None:
    query = "&".join(f"metadata.k{n}=1" for n in range(21))
    assert api.get(f"/api/jobs?{query}").status_code == 422
