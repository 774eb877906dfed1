"""The worker accounts for every tick at every moment, whatever the model and the consumer do."""

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.clock import ManualClock
from agent.embedding.model import Embedded
from agent.embedding.requests import Pictures, Sound, Texts
from agent.embedding.worker import MAX_JOBS, Accounting, Done, ModelGone, ModelHung, Worker, WorkerError
from agent.policy import LIVE, LOSSLESS
from agent.windows.window import Tick, Window
from drivers.driver import Modality

DEADLINE_S = 10.0


def tick(index: int) -> Tick:
    return Tick(index, index * 500_000_000, {}, 0)


def exact(accounting: Accounting) -> bool:
    return accounting.produced == accounting.delivered + sum(accounting.shed.values()) + accounting.in_flight


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "the awaited condition never came true"
        time.sleep(0.001)


class Model:
    """An embedder that can be held up, and that fails on chosen ticks or on batches that are too large."""

    def __init__(self, *, fails_on: Sequence[int] = (), largest: int = 1000, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()
        self.modality: Modality | None = None
        """That texts were last asked for."""
        self.on_request: Callable[[Any], Any] = len
        """Answers requests, by the texts, pictures or sounds that they hold."""
        self._fails_on, self._largest = frozenset(fails_on), largest
        if not held:
            self.released.set()

    def embed(self, ticks: Sequence[Tick]) -> list[Embedded]:
        self.batches.append([t.index for t in ticks])
        self.entered.release()
        assert self.released.wait(DEADLINE_S)
        if len(ticks) > self._largest:
            raise MemoryError(f"{len(ticks)} ticks")
        if any(t.index in self._fails_on for t in ticks):
            raise RuntimeError("device failed")
        return [Embedded(t, {}, {}, None, 0.0, {}) for t in ticks]

    def embed_texts(self, texts: Sequence[str], modality: Modality | None) -> Any:
        self.modality = modality
        return self.on_request(texts)

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        return self.on_request(images)

    def embed_audio(self, recordings: Sequence[Sound]) -> Any:
        return self.on_request(recordings)

    def read(self, text: str) -> Any:
        return self.on_request(text)

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=DEADLINE_S)


class Delivered:
    """A consumer that keeps the indices of what it got."""

    def __init__(self) -> None:
        self.indices: list[int] = []

    def __call__(self, embedded: Embedded) -> None:
        self.indices.append(embedded.tick.index)


def at_once(consume: Callable[[Embedded], object]) -> Callable[[Embedded, Done], None]:
    """A next stage that is done before the worker goes on."""

    def take(embedded: Embedded, done: Done) -> None:
        try:
            consume(embedded)
        except ValueError as error:
            done(error)
        else:
            done(None)

    return take


def test_live_the_oldest_waiting_ticks_are_shed_and_counted() -> None:
    model, delivered = Model(held=True), Delivered()
    worker = Worker(model, at_once(delivered), LIVE, max_pending=2)
    worker.submit(tick(0))
    model.wait_entered()
    for i in range(1, 6):
        worker.submit(tick(i))
        assert exact(worker.accounting())
    assert worker.accounting() == Accounting(6, 0, {"behind": 3}, 3)
    model.released.set()
    assert worker.drain(DEADLINE_S)
    assert delivered.indices == [0, 4, 5]
    assert worker.accounting() == Accounting(6, 3, {"behind": 3}, 0)
    worker.stop()


def test_lossless_submit_waits_and_nothing_is_lost() -> None:
    model, delivered = Model(held=True), Delivered()
    worker = Worker(model, at_once(delivered), LOSSLESS, max_pending=2)
    producer = threading.Thread(target=lambda: [worker.submit(tick(i)) for i in range(10)])
    producer.start()
    # One runs, two wait, and the producer is held up with the fourth.
    until(lambda: worker.accounting().produced == 4)
    assert worker.accounting() == Accounting(4, 0, {}, 4)
    model.released.set()
    producer.join(DEADLINE_S)
    assert worker.drain(DEADLINE_S)
    assert delivered.indices == list(range(10))
    assert worker.accounting() == Accounting(10, 10, {}, 0)
    worker.stop()


def test_lossless_batches_do_not_depend_on_timing() -> None:
    model, delivered = Model(), Delivered()
    worker = Worker(model, at_once(delivered), LOSSLESS, max_pending=8, batch=4)
    for i in range(10):
        worker.submit(tick(i))
        until(lambda: not worker.accounting().in_flight >= 4)  # however slow the producer is
    assert worker.accounting() == Accounting(10, 8, {}, 2)
    assert worker.drain(DEADLINE_S)
    assert model.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert delivered.indices == list(range(10))
    worker.stop()


def test_live_a_batch_takes_what_waits() -> None:
    model = Model(held=True)
    worker = Worker(model, at_once(Delivered()), LIVE, max_pending=8, batch=4)
    worker.submit(tick(0))
    model.wait_entered()
    for i in range(1, 7):
        worker.submit(tick(i))
    model.released.set()
    assert worker.drain(DEADLINE_S)
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6]]
    worker.stop()


def test_a_batch_that_does_not_fit_is_halved_and_loses_nothing() -> None:
    model, delivered = Model(largest=2), Delivered()
    worker = Worker(model, at_once(delivered), LOSSLESS, max_pending=8, batch=8)
    for i in range(8):
        worker.submit(tick(i))
    assert worker.drain(DEADLINE_S)
    assert delivered.indices == list(range(8))
    assert worker.accounting() == Accounting(8, 8, {}, 0)
    worker.stop()


def test_ticks_of_a_model_whose_process_has_ended_are_shed_for_that_and_are_no_failures() -> None:
    class Gone(Model):
        def embed(self, ticks: Sequence[Tick]) -> list[Embedded]:  # noqa: ARG002
            raise ModelGone("the model has lost its process")

    worker = Worker(Gone(), at_once(Delivered()), LOSSLESS, max_pending=4, batch=4)
    for i in range(6):
        worker.submit(tick(i))
    assert worker.drain(DEADLINE_S)
    assert worker.accounting() == Accounting(6, 0, {"model process ended": 6}, 0)
    assert worker.progress().failures == 0
    worker.stop()


def test_ticks_that_fail_alone_are_shed_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    model, delivered = Model(fails_on=(2, 5, 6)), Delivered()
    with caplog.at_level(logging.ERROR):
        worker = Worker(model, at_once(delivered), LOSSLESS, max_pending=8, batch=8)
        for i in range(8):
            worker.submit(tick(i))
        assert worker.drain(DEADLINE_S)
        worker.stop()
    assert delivered.indices == [0, 1, 3, 4, 7]
    assert worker.accounting() == Accounting(8, 5, {"model error": 3}, 0)
    assert [r.message for r in caplog.records] == ["the model failed on tick 2, which is shed: device failed"]


def test_a_consumer_that_fails_costs_its_tick_only(caplog: pytest.LogCaptureFixture) -> None:
    delivered = Delivered()

    def consume(embedded: Embedded) -> None:
        if embedded.tick.index == 1:
            raise ValueError("no room")
        delivered(embedded)

    worker = Worker(Model(), at_once(consume), LOSSLESS, max_pending=4)
    for i in range(3):
        worker.submit(tick(i))
    assert worker.drain(DEADLINE_S)
    worker.stop()
    assert delivered.indices == [0, 2]
    assert worker.accounting() == Accounting(3, 2, {"delivery error": 1}, 0)
    assert "no room" in caplog.text


def test_no_tick_is_begun_while_more_than_a_batch_waits_for_the_next_stage() -> None:
    model, handed = Model(), list[tuple[int, Done]]()
    worker = Worker(model, lambda e, done: handed.append((e.tick.index, done)), LIVE, max_pending=3)
    for i in range(8):
        worker.submit(tick(i))
        until(lambda: len(model.batches) == min(2, len(handed)) and len(handed) == min(2, worker.accounting().produced))
    assert model.batches == [[0], [1]]
    assert worker.accounting() == Accounting(8, 0, {"behind": 3}, 5)
    assert worker.progress().running == "what follows from tick 0"
    assert worker.ask(Texts(["a dog"])).result(DEADLINE_S) == 1
    handed[0][1](None)
    handed[1][1](ValueError("no room"))
    until(lambda: len(handed) == 4)
    assert [index for index, _ in handed] == [0, 1, 5, 6]
    assert worker.accounting() == Accounting(8, 1, {"behind": 3, "delivery error": 1}, 3)
    worker.stop()
    assert worker.accounting() == Accounting(8, 1, {"behind": 3, "delivery error": 1, "stopped": 1}, 2)


def test_drain_gives_up_when_the_model_hangs() -> None:
    model = Model(held=True)
    worker = Worker(model, at_once(Delivered()), LIVE, max_pending=2)
    worker.submit(tick(0))
    assert not worker.drain(0.01)
    model.released.set()
    assert worker.drain(DEADLINE_S)
    worker.stop()


def test_stop_sheds_what_waits_and_finishes_what_runs() -> None:
    model, delivered = Model(held=True), Delivered()
    worker = Worker(model, at_once(delivered), LIVE, max_pending=4)
    worker.submit(tick(0))
    model.wait_entered()
    worker.submit(tick(1))
    job = worker.ask(Texts(["a dog"]))
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(lambda: bool(worker.accounting().shed))
    worker.submit(tick(2))
    assert worker.accounting() == Accounting(3, 0, {"stopped": 2}, 1)
    model.released.set()
    stopping.join(DEADLINE_S)
    worker.stop()
    assert delivered.indices == [0]
    assert worker.accounting() == Accounting(3, 1, {"stopped": 2}, 0)
    assert job.cancelled()
    with pytest.raises(WorkerError, match="stopping"):
        worker.ask(Texts(["a dog"]))


def test_stop_releases_a_producer_that_waits() -> None:
    model = Model(held=True)
    worker = Worker(model, at_once(Delivered()), LOSSLESS, max_pending=1)
    producer = threading.Thread(target=lambda: [worker.submit(tick(i)) for i in range(3)])
    producer.start()
    until(lambda: worker.accounting().produced == 3)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    producer.join(DEADLINE_S)
    assert not producer.is_alive()
    model.released.set()
    stopping.join(DEADLINE_S)
    assert worker.accounting() == Accounting(3, 1, {"stopped": 2}, 0)


def test_jobs_run_between_ticks_on_the_same_thread_and_give_their_result_or_error() -> None:
    threads: list[int] = []
    model = Model()
    worker = Worker(
        model, at_once(lambda _: threads.append(threading.get_ident())), LOSSLESS, max_pending=4, clock=ManualClock()
    )
    worker.submit(tick(0))
    model.on_request = lambda _: threading.get_ident()
    assert worker.ask(Texts(["a dog"])).result(DEADLINE_S) == threads[0]
    model.on_request = lambda given: 1 // (len(given) - 2)
    failing = worker.ask(Texts(["a", "b"]))
    assert isinstance(failing.exception(DEADLINE_S), ZeroDivisionError)
    assert worker.ask(Texts(["a", "b", "c"], "audio")).result(DEADLINE_S) == 1
    assert model.modality == "audio"
    worker.stop()


def test_ticks_go_before_jobs_but_an_overloaded_worker_does_one_job_a_second() -> None:
    clock = ManualClock()
    order: list[str] = []
    model = Model(held=True)

    def consume(embedded: Embedded) -> None:
        order.append(f"tick {embedded.tick.index}")
        clock.sleep_until(clock.now_ns() + 400_000_000)  # a tick takes 0.4 s of the run's clock

    worker = Worker(model, at_once(consume), LIVE, max_pending=20, clock=clock)
    worker.submit(tick(0))
    model.wait_entered()
    model.on_request = lambda texts: order.append(f"job {texts[0]}")
    for name in ("a", "b"):
        worker.ask(Texts([name]))
    for i in range(1, 9):
        worker.submit(tick(i))
    model.released.set()
    assert worker.drain(DEADLINE_S)
    worker.stop()
    jobs = [order.index("job a"), order.index("job b")]
    # Due at 1.0 s and a second after that; ticks end at 0.4, 0.8, 1.2 ...
    assert jobs == [3, 7]


def test_jobs_take_a_tenth_of_the_time_while_ticks_wait() -> None:
    clock = ManualClock()
    took = {"tick": 0, "job": 0}
    shares: list[float] = []
    model = Model(held=True)

    def pass_time(what: str, ns: int) -> None:
        took[what] += ns
        clock.sleep_until(clock.now_ns() + ns)
        shares.append(took["job"] / sum(took.values()))

    model.on_request = lambda _: pass_time("job", 300_000_000)
    worker = Worker(model, at_once(lambda _: pass_time("tick", 400_000_000)), LIVE, max_pending=200, clock=clock)
    worker.submit(tick(0))
    model.wait_entered()
    for _ in range(60):
        worker.ask(Texts(["a dog"]))
    for i in range(1, 100):
        worker.submit(tick(i))
    model.released.set()
    assert worker.drain(DEADLINE_S)
    worker.stop()
    # 99 ticks and what ran between them; the first job of all is paid for by the ticks that follow it.
    assert 0.07 <= min(shares[60:100]) <= max(shares[60:100]) <= 0.11


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Nothing is freed but what nobody holds."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def refuse(pictures: list[NDArray[np.uint8]]) -> None:
    def look(picture: NDArray[np.uint8]) -> None:
        raise ValueError(f"{picture.shape} is too small")

    try:
        look(pictures[0])
    except ValueError as error:
        raise RuntimeError("cannot be embedded") from error


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(("function", "fails"), [(len, False), (refuse, True)])
def test_what_a_job_was_given_is_free_once_it_is_answered(
    function: Callable[[list[NDArray[np.uint8]]], object], fails: bool
) -> None:
    model = Model()
    model.on_request = function
    worker = Worker(model, at_once(Delivered()), LIVE, max_pending=2)
    pictures = [np.zeros((4, 4), np.uint8) for _ in range(3)]
    sent = [weakref.ref(picture) for picture in pictures]
    answer = worker.ask(Pictures(pictures))
    del pictures
    error = answer.exception(DEADLINE_S)
    assert (error is not None) == fails
    # The places that the error passed are known still, though not what was there.
    assert error is None or (error.__traceback__ and error.__traceback__.tb_next)
    assert not any(picture() is not None for picture in sent)
    ended = weakref.ref(answer)
    del answer, error
    until(lambda: ended() is None)
    worker.stop()


@pytest.mark.usefixtures("no_collection")
def test_a_tick_is_free_once_it_is_delivered() -> None:
    worker = Worker(Model(), at_once(Delivered()), LIVE, max_pending=2)
    picture = np.zeros((2, 4, 4, 3), np.uint8)
    seen = weakref.ref(picture)
    worker.submit(Tick(0, 0, {"eye": Window("eye", "vision", picture, 0.0, 0, "")}, 0))
    del picture
    assert worker.drain(DEADLINE_S)
    until(lambda: seen() is None)
    worker.stop()


def test_jobs_beyond_the_bound_are_refused() -> None:
    model = Model(held=True)
    worker = Worker(model, at_once(Delivered()), LIVE, max_pending=2)
    worker.submit(tick(0))
    model.wait_entered()
    jobs = [worker.ask(Texts(["a dog"])) for _ in range(MAX_JOBS)]
    with pytest.raises(WorkerError, match="ask again later"):
        worker.ask(Texts(["a dog"]))
    model.released.set()
    assert [job.result(DEADLINE_S) for job in jobs] == [1] * MAX_JOBS
    worker.stop()


def test_progress_tells_what_runs_and_what_failed_in_a_row() -> None:
    clock = ManualClock()
    model = Model(held=True, fails_on=(0, 1))
    worker = Worker(model, at_once(Delivered()), LIVE, max_pending=9, clock=clock)
    assert (worker.progress().running, worker.progress().failures) == ("", 0)
    worker.submit(tick(0))
    model.wait_entered()
    began_ns = clock.now_ns()
    clock.sleep_until(began_ns + 7_000_000_000)
    progress = worker.progress()
    assert (progress.running, progress.running_ticks) == ("tick 0", 1)
    assert progress.now_ns - progress.running_since_ns == 7_000_000_000
    model.released.set()
    worker.submit(tick(1))
    assert worker.drain(DEADLINE_S)
    progress = worker.progress()
    assert (progress.failures, progress.failing_since_ns, progress.fault) == (2, clock.now_ns(), "device failed")
    worker.submit(tick(2))  # it holds nothing, and says nothing of the model
    assert worker.drain(DEADLINE_S)
    assert worker.progress().failures == 2
    worker.submit(Tick(3, 0, {"eye": Window("eye", "vision", np.zeros((2, 1, 1, 3), np.uint8), 0.0, 0, "")}, 0))
    assert worker.drain(DEADLINE_S)
    assert worker.progress().failures == 0
    worker.stop()


def test_jobs_are_refused_while_the_model_hangs_also_those_that_wait_and_the_one_that_runs() -> None:
    held, entered = threading.Event(), threading.Event()

    def hang(texts: Sequence[str]) -> int:
        entered.set()
        assert held.wait(DEADLINE_S)
        return len(texts)

    model = Model()
    model.on_request = hang
    worker = Worker(model, at_once(Delivered()), LIVE, max_pending=2)
    running = worker.ask(Texts(["a dog"]))
    assert entered.wait(DEADLINE_S)
    waiting = worker.ask(Texts(["a cat"]))
    worker.refuse_requests("it hangs")
    for refused in (running, waiting):
        assert isinstance(refused.exception(DEADLINE_S), ModelHung)
    with pytest.raises(ModelHung, match="it hangs"):
        worker.ask(Texts(["a bird"]))
    held.set()
    worker.refuse_requests("")
    assert worker.ask(Texts(["one", "two"])).result(DEADLINE_S) == 2
    worker.stop()


def test_a_batch_larger_than_what_may_wait_is_refused() -> None:
    with pytest.raises(ValueError, match="batch is 4"):
        Worker(Model(), at_once(Delivered()), LOSSLESS, max_pending=2, batch=4)


@settings(max_examples=20, deadline=None)
@given(
    fails_on=st.sets(st.integers(0, 39)), lossless=st.booleans(), max_pending=st.integers(4, 9), batch=st.integers(1, 4)
)
def test_the_accounting_is_exact_at_every_moment(
    fails_on: set[int], lossless: bool, max_pending: int, batch: int
) -> None:
    logging.getLogger("agent.embedding.worker").setLevel(logging.CRITICAL)
    delivered = Delivered()
    worker = Worker(
        Model(fails_on=sorted(fails_on)),
        at_once(delivered),
        policy=LOSSLESS if lossless else LIVE,
        max_pending=max_pending,
        batch=batch,
    )
    seen: list[Accounting] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.is_set():
            seen.append(worker.accounting())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(40):
        worker.submit(tick(i))
    assert worker.drain(DEADLINE_S)
    watching.set()
    watcher.join(DEADLINE_S)
    worker.stop()
    assert all(exact(a) for a in seen)
    end = worker.accounting()
    assert exact(end)
    assert (end.produced, end.in_flight) == (40, 0)
    assert end.delivered == len(delivered.indices)
    assert delivered.indices == sorted(delivered.indices)
    if lossless:
        assert end.shed.get("model error", 0) == len(fails_on)
        assert set(delivered.indices) == set(range(40)) - fails_on
