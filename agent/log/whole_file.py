"""A file, and a log, that appears whole or not at all, and never in an old one's place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.config.recording import CHUNK_BYTES
from agent.log.encoded import Encoded, Numbers
from agent.log.format import FACTS_RECORD, MODEL_RECORD, RecordError, RunFacts
from agent.log.writing import LogWriter
from common import private_files

BUFFER_BYTES = 2**20


def save_log(path: Path, facts: RunFacts, messages: Iterable[Encoded], model: str = "") -> None:
    """Write messages as a complete log, whose sensors' numbers begin at 0. Raises as `whole_file`."""
    numbers = Numbers()
    with whole_log(path) as writer:
        writer.add_metadata(FACTS_RECORD, facts.to_record())
        if model:
            writer.add_metadata(MODEL_RECORD, {"model": model})
        for message in messages:
            number, lost = numbers.take(message)
            data = message.message_data(lost)
            writer.add_message(message.channel, number, message.log_ns, message.publish_ns, data, beside=message.beside)


def check_free(path: Path) -> None:
    """Raise RecordError when there is something at a path already, be it a link to nothing."""
    if os.path.lexists(path):  # Path.exists raises for a name that is too long, and where one may not look
        raise RecordError(f"{path}: exists already; give another name, or remove it first")


@contextmanager
def whole_log(path: Path, library: str = "") -> Iterator[LogWriter]:
    """Give the writer of a new log, which is finished when the block ends without an error. Raises as `whole_file`.

    `library` is the program that put the messages in their order, by default this one.
    """
    with whole_file(path) as write:
        writer = LogWriter(write, CHUNK_BYTES, library)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


@contextmanager
def whole_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Give what appends to a new file, which gets its name, safe on the disk, when the block ends without an error.

    Raises RecordError when there is a file already, or when it cannot be written, then or within the block.
    """
    check_free(path)
    # Hidden, and in the same folder: a link works only on the same disk.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _faults_told(path):
        stream = open(unfinished, "xb", buffering=BUFFER_BYTES, opener=private_files.opener)  # noqa: SIM115

    def write(data: bytes) -> None:
        with _faults_told(path):
            stream.write(data)

    try:
        yield write
        with _faults_told(path):
            stream.flush()
            os.fsync(stream.fileno())
            _give_name(unfinished, path)
    finally:
        with suppress(OSError):  # on a full disk the buffer fails again
            stream.close()
        with suppress(OSError):  # it has its name already
            unfinished.unlink()


@contextmanager
def _faults_told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise RecordError(f"{path}: exists already; give another name, or remove it first") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror}; nothing is left of it") from None


def _give_name(unfinished: Path, path: Path) -> None:
    """Raises OSError, as FileExistsError when another program was faster."""
    try:
        os.link(unfinished, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links, on which only renaming is left, which does not look
        if path.exists():
            raise FileExistsError(path) from None
        unfinished.rename(path)
