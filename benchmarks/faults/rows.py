"""The table of faults: what is injected, and which command shows what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Row:
    """A fault. A file `rowNN_*.py` beside this one injects and measures it; without one, tests do."""

    number: int
    fault: str
    tests: tuple[str, ...] = ()
    """Tests that inject it and hold it to its bar."""
    elsewhere: str = ""
    """What it waits for, when nothing can be injected yet."""

    @property
    def file(self) -> Path | None:
        """The file that injects it."""
        return next(iter(sorted(FOLDER.glob(f"row{self.number:02}_*.py"))), None)


ROWS = (
    Row(1, "a camera's process hangs"),
    Row(2, "a network camera dies and is back after 10 s"),
    Row(3, "a network camera is connected and silent"),
    Row(4, "a camera sends the same picture for ever"),
    Row(5, "pictures are truncated, bombs, garbage, without end, or of another size"),
    Row(6, "300 pictures come at once after a stall"),
    Row(7, "the sound server is killed and started again"),
    Row(8, "the sound server stalls"),
    Row(
        9,
        "sound comes faster than it is read",
        tests=(
            "tests/test_microphone.py::TestBlockRing::test_a_full_ring_drops_the_new_and_counts_its_rows",
            "tests/test_windows.py::test_lost_audio_is_zero_and_counted_and_what_follows_is_in_place",
        ),
    ),
    Row(10, "a sensor's rate is another than it says"),
    Row(11, "a serial sensor is unplugged and plugged in again"),
    Row(12, "a serial line is noisy"),
    Row(13, "a serial line is flooded, or gives a byte a second"),
    Row(14, "samples are not finite, saturated or all the same"),
    Row(15, "the wall clock steps by +1 h and -10 min"),
    Row(16, "a sensor's stamps are 300 ms off"),
    Row(17, "messages of a log are out of order, doubled or of the far future"),
    Row(18, "a subscriber is stopped"),
    Row(19, "a subscriber is behind a slow link"),
    Row(20, "the network parts and heals"),
    Row(21, "a storm of connections, subscriptions and queries"),
    Row(22, "requests are too large, malformed or no requests at all"),
    Row(23, "a token or a certificate is missing, wrong or expired", elsewhere="TLS and tokens"),
    Row(24, "the model fails or runs out of memory"),
    Row(25, "the model hangs"),
    Row(26, "the model takes twice as long as there is time"),
    Row(27, "the disk is full while recording"),
    Row(28, "the agent is killed while recording"),
    Row(29, "the disk is slow"),
    Row(30, "a log is damaged, or made to cost time and memory"),
    Row(
        31,
        "a weights file is hostile",
        tests=(
            "tests/test_published_file.py::test_a_pickle_that_holds_code_is_refused_and_never_runs",
            "tests/test_published_file.py::test_a_damaged_pickle_is_one_line_and_no_crash",
            "tests/test_published_file.py::test_an_import_takes_less_memory_than_a_tower",
            "tests/test_fuzz.py::test_seeded_executions_find_nothing[weights]",
            "tests/test_fuzz.py::test_seeded_executions_find_nothing[published]",
        ),
    ),
    Row(32, "names of files lead out of their folder"),
    Row(33, "the configuration changes while streaming", elsewhere="reload of the configuration"),
    Row(34, "SIGTERM under load, once and twice"),
    Row(35, "the agent is killed"),
    Row(36, "half a minute in which sensors are killed, stopped and crash"),
    Row(37, "the model's process is killed, or stops"),
)
