"""Files of a recording. A file ends at a size or time, when the disk is full, or when another program takes it away;
the next one follows when there is room.

To be used by one thread. Only the start raises RecordError; later, messages that cannot be written are counted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent.config.recording import RecordSettings
from agent.log.disk import NO_ROOM
from agent.log.encoded import Encoded, Numbers
from agent.log.files import part_path
from agent.log.format import EVENTS_TOPIC, MODEL_RECORD, SENSORS_TOPIC, RecordError, RunFacts
from agent.log.recording import retention
from agent.log.recording.part import Part
from agent.log.whole_file import check_free
from drivers.driver import Clock

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Time between checks for room while recording is stopped; it grows while there is too little."""
MAX_RETRY_S = 60.0
RETENTION_BYTES = 16 * 2**20
"""Written between two looks at the folder."""
LOOK_S = 1.0
"""Seconds between checks of the file's name and size."""


class Recording:
    """A recording, which is stopped while `error` says why. `path` is the file that is being written."""

    def __init__(
        self,
        path: Path,
        facts: RunFacts,
        settings: RecordSettings,
        clock: Clock,
        *,
        on_written: Callable[[Sequence[Encoded]], None],
        on_dropped: Callable[[Sequence[Encoded]], None],
        on_lost: Callable[[Mapping[str, int]], None],
    ) -> None:
        """Begin the first file. Raises RecordError when it exists or cannot be made; a full disk is not an error.

        `on_written` gets messages that are in a file, `on_dropped` those that never will be, `on_lost` the number by
        topic of those in a file that another program deleted or changed.
        """
        self.error = ""
        self.notice = ""
        """The last thing that another program did to a file of this recording, one line."""
        self.write_ns = 0
        """Time that the disk took for the last chunk."""
        self.parts = 0
        self.removed_files = 0
        self.removed_bytes = 0
        self._facts = facts
        self._settings = settings
        self._clock = clock
        self._on_written, self._on_dropped, self._on_lost = on_written, on_dropped, on_lost
        self._name = path
        self._model = ""
        self._part: Part | None = None
        self._waiting: list[Encoded] = []
        """Messages in the chunk that is being filled."""
        self._numbers = Numbers()
        self._written_numbers = Numbers()
        """Numbers at the last chunk that was written."""
        self._newest_ns = facts.start_ns
        self._due_ns = 0
        """Time at which the chunk must be written, or room looked for again."""
        self._look_ns = 0
        """Time of the next check of the file."""
        self._retry_s = RETRY_S
        self._looked_at = 0
        """Size of the file when retention was last applied."""
        self._overfull = False
        self.path = self._path_of(1)
        self._last = self.path, self.parts
        """Path and number of files before the file that is being written."""
        check_free(self.path)
        try:
            self._begin(facts.start_ns)
        except OSError as error:
            if error.errno not in NO_ROOM:
                advice = "give a file in a writable folder"
                raise RecordError(f"{self.path}: cannot be written: {error.strerror}; {advice}") from None
            self._stop(error, [])

    def write(self, message: Encoded) -> None:
        """Write a message, or count it as dropped while recording is stopped."""
        if self._part is None:
            self._drop([message])
            return
        try:
            self._put(self._part, message)
        except OSError as error:
            self._recover(error, [message])

    def set_model(self, name: str) -> None:
        """Note which weights the run uses, in this file and those that follow."""
        self._model = name
        if self._part:
            try:
                self._part.writer.add_metadata(MODEL_RECORD, {"model": name})
            except OSError as error:
                self._recover(error, [], here=False)

    def wait_s(self) -> float:
        """Seconds until `tend` has something to do."""
        due_ns = self._due_ns
        if self._part:
            due_ns = min(due_ns, self._look_ns) if self._waiting else self._look_ns
        return max(0.0, (due_ns - self._clock.now_ns()) / 1e9)

    def tend(self, newest_ns: int) -> None:
        """Write a chunk that is old enough, or resume recording, at capture time `newest_ns`, when there is room."""
        if self._part and self._clock.now_ns() >= self._look_ns:
            self._look(self._part)
        if self._clock.now_ns() < self._due_ns:
            return
        if self._part is None:
            self._resume(newest_ns)
        elif self._waiting:
            try:
                self._end_chunk(self._part)
            except OSError as error:
                self._recover(error, [])

    def finish(self, timeout_s: float) -> None:
        """Write the last chunk and complete the file; wait for the disk at most `timeout_s`."""
        if self._part:
            self._look(self._part)
        while self._part and self._waiting:
            try:
                self._end_chunk(self._part)
            except OSError as error:
                if self._waiting:  # else there is only no room for more
                    self._recover(error, [])
        if self._part and not self._part.end(timeout_s):
            log.error("%s: the disk is slow; a power cut may lose the end of the log", self.path)
        self._part = None

    def give_up(self) -> None:
        """End the file after its last chunk; messages in no chunk count as dropped."""
        self._drop(self._give_up([]))

    def _put(self, part: Part, message: Encoded) -> Part:
        """Return the file that it is in, or will be. Raises OSError; it is then in none, like those that wait."""
        split = part.is_long_enough(message, self._settings)
        now_ns = self._clock.now_ns()
        if self._waiting and (split or now_ns >= self._due_ns or not part.writer.fits(message.data, message.beside)):
            self._end_chunk(part)
        if split:
            self._part = None
            part.end()
            part = self._begin(message.log_ns)
        if not self._waiting:
            self._due_ns = now_ns + round(self._settings.chunk_s * 1e9)
        number, lost = self._numbers.take(message)
        name = "events" if message.topic == EVENTS_TOPIC else message.topic.removeprefix(SENSORS_TOPIC)
        compress = self._settings.compression.get(name) == "lz4"
        data = message.message_data(lost)
        part.writer.add_message(
            message.channel,
            number,
            message.log_ns,
            message.publish_ns,
            data,
            compress=compress,
            beside=message.beside,
        )
        if message.rows:
            part.begun_ns.setdefault(message.topic, message.log_ns)
        self._waiting.append(message)
        self._newest_ns = max(self._newest_ns, message.log_ns)
        return part

    def _end_chunk(self, part: Part) -> None:
        """Write the chunk and see that there is room for the next. Raises OSError."""
        began_ns = self._clock.now_ns()
        part.writer.end_chunk()
        self.write_ns = self._clock.now_ns() - began_ns
        part.file.sync()
        written, self._waiting = self._waiting, []
        part.written.update(message.topic for message in written)
        self._written_numbers = self._numbers.copy()
        self._retry_s = RETRY_S
        self._on_written(written)
        if part.writer.size - self._looked_at >= RETENTION_BYTES:
            self._looked_at = part.writer.size
            self._apply_retention()
        if self._free_bytes() < self._settings.min_free_bytes:
            self._apply_retention()
            self._check_room(0)

    def _begin(self, start_ns: int, spare_bytes: int = 0) -> Part:
        """Begin the next file. Raises OSError and leaves nothing behind."""
        self._apply_retention()
        self._check_room(spare_bytes)
        number = self.parts + 1
        while number > 1 and self._path_of(number).exists():
            number += 1
        path = self._path_of(number)
        self._last = self.path, self.parts
        self._part = Part(path, replace(self._facts, part=number, start_ns=start_ns), self._model, self._settings)
        self.path, self.parts, self._looked_at = path, number, 0
        self._look_ns = self._clock.now_ns() + round(LOOK_S * 1e9)
        return self._part

    def _path_of(self, number: int) -> Path:
        split = self._settings.split_bytes is not None or self._settings.split_s is not None
        return part_path(self._name, number) if split or number > 1 else self._name

    def _recover(self, error: OSError, messages: Sequence[Encoded], *, here: bool = True) -> None:
        """Write on where retention makes room, else in another file; stop when that fails too, or is of no use."""
        rest = list(messages)
        failure: OSError | None = error
        if here and self._part and self._apply_retention():
            self._part.cut_back(self._part.writer.size)
            failure = self._write_on(rest)
        if failure:
            was_useful = self._part is not None and self._part.writer.chunks > 0
            rest = self._give_up(rest)
            failure = self._write_on(rest) if was_useful else failure
        if failure:
            self._stop(failure, self._give_up(rest))

    def _look(self, part: Part) -> None:
        """See that the file has its name and size; go on in another when it has not, or say where it is now."""
        self._look_ns = self._clock.now_ns() + round(LOOK_S * 1e9)
        before = part.file.path
        try:
            found = part.file.look()
        except OSError as error:
            log.warning("%s: cannot be inspected: %s", before, error.strerror)
            return
        if found == "moved":
            self.path = part.file.path
            self.notice = f"{before}: another program moved it; recording goes on in {self.path}"
            log.warning("%s", self.notice)
        elif found != "there":
            self._begin_again(part, found)

    def _begin_again(self, part: Part, found: str) -> None:
        """Leave a file to the program that took it away; messages that were not yet in it go into another."""
        self._part, rest, self._waiting = None, self._waiting, []
        self._numbers = self._written_numbers.copy()
        part.leave()
        self._on_lost(part.written)
        lost = f"{part.written.total()} messages in it are lost"
        self.notice = f"{part.file.path}: another program {found} it: {lost}"
        log.error("%s", self.notice)
        if failure := self._write_on(rest):
            self._stop(failure, self._give_up(rest))
        else:
            self.notice += f"; recording goes on in {self.path}"

    def _write_on(self, rest: list[Encoded]) -> OSError | None:
        """Write the waiting messages and then `rest`, which loses those that are written; return the error."""
        try:
            part = self._part or self._begin(rest[0].log_ns if rest else self._newest_ns)
            if self._waiting:
                self._end_chunk(part)
            while rest:
                part = self._put(part, rest[0])
                del rest[0]
        except OSError as error:
            return error
        return None

    def _give_up(self, messages: Sequence[Encoded]) -> list[Encoded]:
        """End the file after its last chunk; return the messages in no chunk, followed by `messages`."""
        part, self._part = self._part, None
        rest, self._waiting = [*self._waiting, *messages], []
        self._numbers = self._written_numbers.copy()
        if part and not part.abandon():
            self.path, self.parts = self._last
        return rest

    def _stop(self, error: OSError, rest: Sequence[Encoded]) -> None:
        self._drop(rest)
        self._wait_to_retry()
        self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)
        reason = (
            error.strerror if self.path.parent.exists() else "its folder is gone; recording resumes when it is back"
        )
        self.error = f"{self.path}: recording stopped: {reason}; the agent goes on without it"
        log.error("%s", self.error)

    def _resume(self, newest_ns: int) -> None:
        self._wait_to_retry()
        # With just enough room it would stop at once again.
        spare_bytes = max(self._settings.min_free_bytes // 4, 2 * self._settings.chunk_bytes)
        with contextlib.suppress(OSError):  # the reason was reported when recording stopped
            self._begin(newest_ns, spare_bytes)
            self.error = ""
            log.warning("%s: recording goes on", self.path)

    def _wait_to_retry(self) -> None:
        self._due_ns = self._clock.now_ns() + round(self._retry_s * 1e9)

    def _drop(self, messages: Sequence[Encoded]) -> None:
        for message in messages:
            self._numbers.miss(message)
        self._written_numbers = self._numbers.copy()
        self._on_dropped(messages)

    def _check_room(self, spare_bytes: int) -> None:
        """Raises OSError when the disk is too full to go on."""
        wanted = self._settings.min_free_bytes + spare_bytes
        if self._free_bytes() < wanted:
            raise OSError(errno.ENOSPC, f"less than {wanted / 2**20:.0f} MiB free on the disk")

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.path.parent).free

    def _apply_retention(self) -> bool:
        """Say whether anything was removed."""
        rules = self._settings.retention
        removed, left = retention.apply(self.path.parent, rules, self._clock.now_ns())
        self.removed_files += len(removed)
        self.removed_bytes += sum(file.size for file in removed)
        overfull = rules.max_bytes is not None and left > rules.max_bytes
        if overfull and not self._overfull:
            log.warning(
                "%s: its logs hold more than the %s bytes allowed; none may be removed",
                self.path.parent,
                rules.max_bytes,
            )
        self._overfull = overfull
        return bool(removed)
