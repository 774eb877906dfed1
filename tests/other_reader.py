"""What mcap's own reader finds in a file, by the index: what any other program would."""

from __future__ import annotations

from pathlib import Path

from mcap.reader import make_reader


def messages(path: Path) -> list[tuple[str, int, int, bytes]]:
    """Topic, log time, number and content, in the order in which they stand; the statistics agree with them."""
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        found = [(c.topic, m.log_time, m.sequence, m.data) for _, c, m in reader.iter_messages(log_time_order=False)]
        assert summary.statistics.message_count == len(found)
        assert summary.statistics.chunk_count == len(summary.chunk_indexes)
        return found


def metadata(path: Path) -> dict[str, dict[str, str]]:
    """Metadata records, found by the index."""
    with path.open("rb") as stream:
        return {found.name: found.metadata for found in make_reader(stream).iter_metadata()}
