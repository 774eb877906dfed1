"""What a person says is to be seen in a recording: a table of times and texts, for training shards."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.log.format import LogError

LARGEST_BYTES: Final = 16 << 20
LONGEST: Final = 1000
"""Characters of a caption."""
HEADER: Final = ["from", "to", "text"]


@dataclass(frozen=True, slots=True)
class Caption:
    """A text that is true of all images of a time, both ends included."""

    from_ns: int
    to_ns: int
    text: str


def read_captions(path: Path, time_of: Callable[[str, str], int]) -> list[Caption]:
    """Read lines `FROM,TO,TEXT`, CSV in UTF-8; a first line `from,to,text` is passed over.

    `time_of` takes a word and the place that it stands at, and gives nanoseconds. Raises LogError that names the line.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise LogError(f"{path}: has more than {LARGEST_BYTES >> 20} MB; a caption is a line FROM,TO,TEXT")
        rows = list(csv.reader(path.read_text("utf-8-sig").splitlines(), skipinitialspace=True))
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise LogError(f"{path}: not a table in UTF-8 ({error}); give lines FROM,TO,TEXT") from None
    captions = []
    for number, row in enumerate(rows, start=1):
        cells, where = [cell.strip() for cell in row], f"{path}:{number}"
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == HEADER):
            continue
        if len(cells) != len(HEADER) or not 0 < len(cells[2]) <= LONGEST:
            raise LogError(
                f'{where}: not FROM,TO,TEXT with a text of 1 to {LONGEST} characters; such as 12.5,14,"a dog, barking"'
            )
        caption = Caption(time_of(cells[0], where), time_of(cells[1], where), cells[2])
        if caption.to_ns < caption.from_ns:
            raise LogError(f"{where}: ends before it begins; give FROM,TO,TEXT")
        captions.append(caption)
    if not captions:
        raise LogError(f"{path}: holds no caption; give lines FROM,TO,TEXT, such as 12.5,14,a dog")
    return captions


def texts_at(captions: Sequence[Caption], t_ns: int) -> tuple[str, ...]:
    """Return the texts that are true at a time."""
    return tuple(caption.text for caption in captions if caption.from_ns <= t_ns <= caption.to_ns)
