"""Whether a query may be asked of a model: by the words that the model knows. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from agent.query import Query, QueryError, StandingQuery
from models.vocabulary import Reading


def accepted(query: Query, reading: Reading) -> StandingQuery:
    """Return a query as it is watched for, with warnings.

    Raises QueryError when its meaning hangs on words that the model was never trained on, unless `force` is set: what
    it would fire at are the other words, or anything.
    """
    if reading.unknown and not query.force:
        raise QueryError("text", _refusal(query, reading))
    warnings = []
    if reading.unknown:
        warnings.append(f"the model was never trained on: {', '.join(reading.unknown)}; do not trust its scores")
    if reading.mixed:
        warnings.append(
            f"the model knows {_quoted(reading.mixed)}, but did not learn them in such a relation: it may alert "
            "for any of them alone; make a query of each"
        )
    if reading.left_out:
        warnings.append(f"the model cannot tell, and leaves out: {', '.join(reading.left_out)}")
    return StandingQuery(query, tuple(warnings), "" if reading.text == query.text else reading.text)


def _refusal(query: Query, reading: Reading) -> str:
    if reading.nearest:
        known = f"nearest to what it knows: {_quoted(reading.nearest)}; ask for that"
    elif reading.knows:
        known = f"it knows {reading.knows}; ask for one of these"
    else:
        known = "ask in other words"
    return (
        f"{query.text!r}: the model was never trained on {_quoted(reading.unknown)}; {known}, "
        "set force (--force) to ask all the same, or choose other weights (model.weights)"
    )


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(map(repr, words))
