"""A field of a query is said in the proto: who reads queries from users takes every one of them, and gives it back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_agent import FakeAgent, serving
from google.protobuf.descriptor import FieldDescriptor

from agent.client import Client
from agent.config.parse import parse
from agent.query import FIELDS, Query, QueryOptions
from protos import perception_pb2 as pb

FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
PLAIN = Query("plain", "a dog")


def other_than_usual(field: FieldDescriptor) -> Any:
    """A value that a query can have and does not have when nothing is said."""
    usual = PLAIN.tree()[field.name]
    if field.enum_type is not None:
        return ["audio", "imu"]
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return not usual
    if field.name.startswith("threshold"):
        return 0.75 if field.name == "threshold_on" else 0.5
    return usual + 1.25 if field.cpp_type in FLOATS else f"another-{field.name}"


VALUES = {field.name: other_than_usual(field) for field in pb.AddQueryRequest.DESCRIPTOR.fields}


def test_the_fields_are_those_of_the_proto() -> None:
    assert set(FIELDS) == set(VALUES)
    assert set(FIELDS) == {field.name for field in pb.Query.DESCRIPTOR.fields} - {"warnings", "read_as"}
    assert set(QueryOptions.__annotations__) == set(FIELDS) - {"id", "text"}
    assert not [name for name, value in VALUES.items() if value == PLAIN.tree()[name]]


def test_the_configuration_takes_every_field(tmp_path: Path) -> None:
    sensors = {"ear": {"type": "synthetic_microphone"}}
    clips = {"folder": str(tmp_path)}
    config = parse({"sensors": sensors, "queries": [VALUES, {"text": PLAIN.text}], "clips": clips})
    assert config.queries[0].tree() == VALUES
    assert config.queries[1] == Query("q2", PLAIN.text)
    nothing = dict.fromkeys(set(VALUES) - {"text"})
    assert parse({"sensors": sensors, "queries": [{"text": PLAIN.text, **nothing}]}).queries == (
        Query("q1", PLAIN.text),
    )


async def add_by_client(address: str) -> None:
    options: Any = {name: value for name, value in VALUES.items() if name not in ("id", "text")}
    async with Client(address) as client:
        await client.add_query(VALUES["text"], query_id=VALUES["id"], **options)


async def add_by_command(address: str) -> None:
    words = [VALUES["text"], "--address", address]
    for name, value in VALUES.items():
        option = FIELDS[name].option
        if isinstance(value, bool):
            words += [option]
        elif name != "text":
            words += [word for one in (value if isinstance(value, list) else [value]) for word in (option, str(one))]
    command = [sys.executable, "-c", "from agent.cli import main; main()", "query", "add", *words]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("add", [add_by_client, add_by_command])
async def test_what_is_asked_for_comes_back_from_the_agent(add: Any) -> None:
    async with serving(FakeAgent()) as address:
        await add(address)
        async with Client(address) as client:
            await client.add_query(PLAIN.text, query_id=PLAIN.id)
            told, plain = await client.list_queries()
    assert told == pb.Query(**{**VALUES, "modalities": [pb_modality(name) for name in VALUES["modalities"]]})
    assert plain == PLAIN.message()


def pb_modality(name: str) -> str:
    return f"MODALITY_{name.upper()}"
