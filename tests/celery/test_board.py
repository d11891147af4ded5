"""What the processes of a pool run, in memory that they share."""

import multiprocessing
from types import SimpleNamespace

import pytest

from mech_queue.celery.board import ENTRY_BYTES, PROCESSES, Board, Entry

ENTRIES = [
    Entry("app-one", "mail", "1" * 36, "a" * 24, 4711, begun=True),
    Entry("app-another-one", "q", "22", "b", 5, begun=False),
]


def test_an_entry_is_what_its_process_wrote_last() -> None:
    board = Board()
    assert board.read(0) is None and board.all() == []

    for entry in ENTRIES:
        assert board.write(0, entry) and board.write(PROCESSES - 1, entry)

    assert board.read(0) == board.read(PROCESSES - 1) == ENTRIES[1]
    assert board.read(1) is None
    assert board.all() == [ENTRIES[1]] * 2

    board.clear(0)
    assert board.read(0) is None


def test_what_a_process_left_behind_is_not_its_successors() -> None:
    board = Board()
    board.write(3, ENTRIES[0])
    pool = SimpleNamespace(_pool=SimpleNamespace(_pool=[SimpleNamespace(index=3, pid=ENTRIES[0].pid)]))
    assert board.running(pool) == [ENTRIES[0]]
    pool._pool._pool = [SimpleNamespace(index=3, pid=ENTRIES[0].pid + 1)]
    assert board.running(pool) == []
    assert board.all() == [ENTRIES[0]]


@pytest.mark.parametrize("number", [0, PROCESSES])
def test_what_has_no_room_is_not_there(number: int) -> None:
    board = Board()
    board.write(0, ENTRIES[0])
    too_long = Entry("app-one", "q" * ENTRY_BYTES, "1", "a", 1, begun=True)
    assert not board.write(number, too_long if number == 0 else ENTRIES[0])
    assert board.read(number) is None


def test_a_reader_never_sees_half_of_an_entry() -> None:
    # given a process that writes one entry over the other all the time
    board = Board()
    process = multiprocessing.get_context("fork").Process(target=_write_by_turns, args=(board,))
    process.start()
    seen = set()
    while process.is_alive():
        seen.add(board.read(7))
        seen.update(board.all())
    process.join()
    assert seen - {None} <= set(ENTRIES)
    assert seen - {None}, "and what it wrote is seen here"


def test_processes_see_whether_they_may_go_on() -> None:
    board = Board()
    assert not board.open
    process = multiprocessing.get_context("fork").Process(target=setattr, args=(board, "open", True))
    process.start()
    process.join()
    assert board.open


def _write_by_turns(board: Board) -> None:
    for _ in range(20_000):
        for entry in ENTRIES:
            board.write(7, entry)
