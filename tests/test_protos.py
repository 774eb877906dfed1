from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from protos import generate
from protos.compatibility import breaks


def stored() -> FileDescriptorSet:
    return generate.stored_descriptors()


def perception(files: FileDescriptorSet) -> FileDescriptorProto:
    return next(file for file in files.file if file.name == "protos/perception.proto")


def message(files: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(message for message in perception(files).message_type if message.name == name)


def field(files: FileDescriptorSet, message_name: str, name: str) -> FieldDescriptorProto:
    return next(field for field in message(files, message_name).field if field.name == name)


def remove_field(files: FileDescriptorSet) -> None:
    gap = message(files, "Gap")
    kept = [field for field in gap.field if field.name != "reason"]
    del gap.field[:]
    gap.field.extend(kept)


def renumber_field(files: FileDescriptorSet) -> None:
    field(files, "Gap", "reason").number = 44


def rename_field(files: FileDescriptorSet) -> None:
    field(files, "Gap", "reason").name = "why"


def retype_field(files: FileDescriptorSet) -> None:
    field(files, "Gap", "first_seq").type = FieldDescriptorProto.TYPE_UINT32


def repeat_field(files: FileDescriptorSet) -> None:
    field(files, "Gap", "first_seq").label = FieldDescriptorProto.LABEL_REPEATED


def retype_message_field(files: FileDescriptorSet) -> None:
    field(files, "Embedding", "fused").type_name = ".sensebind.v1.HeatMap"


def leave_oneof(files: FileDescriptorSet) -> None:
    field(files, "Event", "gap").ClearField("oneof_index")


def drop_presence(files: FileDescriptorSet) -> None:
    dropped = field(files, "AddQueryRequest", "threshold_on")
    dropped.ClearField("proto3_optional")
    dropped.ClearField("oneof_index")


def remove_enum_value(files: FileDescriptorSet) -> None:
    del perception(files).enum_type[0].value[5]


def renumber_enum_value(files: FileDescriptorSet) -> None:
    perception(files).enum_type[0].value[5].number = 77


def remove_nested_enum(files: FileDescriptorSet) -> None:
    del message(files, "Vector").enum_type[:]


def remove_message(files: FileDescriptorSet) -> None:
    kept = [message for message in perception(files).message_type if message.name != "Gap"]
    del perception(files).message_type[:]
    perception(files).message_type.extend(kept)


def remove_method(files: FileDescriptorSet) -> None:
    del perception(files).service[0].method[-1]


def unstream_method(files: FileDescriptorSet) -> None:
    perception(files).service[0].method[0].server_streaming = False


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (remove_field, "field sensebind.v1.Gap.reason = 4 is removed"),
        (renumber_field, "field sensebind.v1.Gap.reason is renumbered from 4 to 44"),
        (rename_field, "field sensebind.v1.Gap.reason = 4 is renamed to why"),
        (retype_field, "field sensebind.v1.Gap.first_seq was uint64 and is now uint32"),
        (repeat_field, "field sensebind.v1.Gap.first_seq was uint64 and is now repeated uint64"),
        (
            retype_message_field,
            "field sensebind.v1.Embedding.fused was sensebind.v1.Vector and is now sensebind.v1.HeatMap",
        ),
        (leave_oneof, "field sensebind.v1.Event.gap was sensebind.v1.Gap in oneof event and is now sensebind.v1.Gap"),
        (drop_presence, "field sensebind.v1.AddQueryRequest.threshold_on was optional float and is now float"),
        (remove_enum_value, "enum value sensebind.v1.EventKind.EVENT_KIND_GAP = 5 is removed"),
        (renumber_enum_value, "enum value sensebind.v1.EventKind.EVENT_KIND_GAP is renumbered from 5 to 77"),
        (remove_nested_enum, "enum sensebind.v1.Vector.Dtype is removed"),
        (remove_message, "message sensebind.v1.Gap is removed"),
        (remove_method, "method sensebind.v1.Perception.Ingest is removed"),
        (
            unstream_method,
            "method sensebind.v1.Perception.Subscribe was (sensebind.v1.SubscribeRequest) returns (stream "
            "sensebind.v1.Event) and is now (sensebind.v1.SubscribeRequest) returns (sensebind.v1.Event)",
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_break_is_named(change: Callable[[FileDescriptorSet], None], line: str) -> None:
    changed = stored()
    change(changed)
    assert breaks(stored(), changed) == [line]


def test_adding_is_allowed() -> None:
    larger = stored()
    message(larger, "Gap").field.add(name="new", number=5, type=FieldDescriptorProto.TYPE_BOOL)
    perception(larger).enum_type[0].value.add(name="EVENT_KIND_NEW", number=6)
    perception(larger).message_type.add(name="New")
    assert breaks(stored(), larger) == []
    assert breaks(stored(), stored()) == []


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is in the dev extra")
    generate.generate(tmp_path)
    for fresh in sorted((tmp_path / "protos").iterdir()):
        committed = generate.ROOT / "protos" / fresh.name
        assert committed.read_bytes() == fresh.read_bytes(), f"{committed.name} is stale: run `make protos`"


def test_refusal_names_the_break_and_keeps_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is in the dev extra")
    package = tmp_path / "protos"
    package.mkdir()
    for name in ("sensors.proto", "viewers.proto", "perception.proto"):
        (package / name).write_text((generate.ROOT / "protos" / name).read_text())
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main() == 0
    before = {file.name: file.read_bytes() for file in package.iterdir() if file.suffix != ".proto"}
    text = (package / "perception.proto").read_text()
    (package / "perception.proto").write_text(text.replace("uint64 events = 3;", "uint32 events = 3;"))
    assert generate.main() == 1
    assert "field sensebind.v1.Gap.events was uint64 and is now uint32" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in package.iterdir() if file.suffix != ".proto"} == before


def test_a_syntax_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is in the dev extra")
    (tmp_path / "protos").mkdir()
    (tmp_path / "protos" / "sensors.proto").write_text('syntax = "proto3";\nmessage {}\n')
    for name in ("viewers.proto", "perception.proto"):
        (tmp_path / "protos" / name).write_text('syntax = "proto3";\n')
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main() == 1
    assert "protos/sensors.proto:2:9: Expected message name." in capsys.readouterr().err
