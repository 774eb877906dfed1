"""The only-add-fields rule: what an older program relies on is still there, unchanged, in the newer messages."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)


def breaks(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """Name everything of `old` that `new` removes, renames, renumbers or retypes, one line each."""
    found: list[str] = []
    new_messages = dict(_messages(new))
    for name, message in _messages(old):
        if name not in new_messages:
            found.append(f"message {name} is removed")
        else:
            found += _message_breaks(name, message, new_messages[name])
    new_enums = dict(_enums(new))
    for name, enum in _enums(old):
        if name not in new_enums:
            found.append(f"enum {name} is removed")
        else:
            found += _enum_breaks(name, enum, new_enums[name])
    new_methods = dict(_methods(new))
    for name, method in _methods(old):
        if name not in new_methods:
            found.append(f"method {name} is removed")
        elif _shape(method) != _shape(new_methods[name]):
            found.append(f"method {name} was {_shape(method)} and is now {_shape(new_methods[name])}")
    return found


def _messages(files: FileDescriptorSet) -> Iterator[tuple[str, DescriptorProto]]:
    for file in files.file:
        for message in file.message_type:
            yield from _nested(f"{file.package}.{message.name}", message)


def _nested(name: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    yield name, message
    for inner in message.nested_type:
        yield from _nested(f"{name}.{inner.name}", inner)


def _enums(files: FileDescriptorSet) -> Iterator[tuple[str, EnumDescriptorProto]]:
    for file in files.file:
        for enum in file.enum_type:
            yield f"{file.package}.{enum.name}", enum
    for name, message in _messages(files):
        for enum in message.enum_type:
            yield f"{name}.{enum.name}", enum


def _methods(files: FileDescriptorSet) -> Iterator[tuple[str, MethodDescriptorProto]]:
    for file in files.file:
        for service in file.service:
            for method in service.method:
                yield f"{file.package}.{service.name}.{method.name}", method


def _message_breaks(name: str, old: DescriptorProto, new: DescriptorProto) -> Iterator[str]:
    by_number = {field.number: field for field in new.field}
    by_name = {field.name: field for field in new.field}
    for field in old.field:
        same_number = by_number.get(field.number)
        if same_number is None and field.name in by_name:
            yield f"field {name}.{field.name} is renumbered from {field.number} to {by_name[field.name].number}"
        elif same_number is None:
            yield f"field {name}.{field.name} = {field.number} is removed"
        elif same_number.name != field.name:
            yield f"field {name}.{field.name} = {field.number} is renamed to {same_number.name}"
        elif _type(old, field) != _type(new, same_number):
            yield f"field {name}.{field.name} was {_type(old, field)} and is now {_type(new, same_number)}"


def _enum_breaks(name: str, old: EnumDescriptorProto, new: EnumDescriptorProto) -> Iterator[str]:
    numbers = {value.name: value.number for value in new.value}
    for value in old.value:
        if value.name not in numbers:
            yield f"enum value {name}.{value.name} = {value.number} is removed"
        elif numbers[value.name] != value.number:
            yield f"enum value {name}.{value.name} is renumbered from {value.number} to {numbers[value.name]}"


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    """A field's type as it stands in the .proto file, with its label and oneof."""
    words = [FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()]
    if field.type_name:
        words = [field.type_name.removeprefix(".")]
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        words.insert(0, "repeated")
    if field.proto3_optional:
        words.insert(0, "optional")
    elif field.HasField("oneof_index"):
        words.append(f"in oneof {message.oneof_decl[field.oneof_index].name}")
    return " ".join(words)


def _shape(method: MethodDescriptorProto) -> str:
    request = "stream " * method.client_streaming + method.input_type.removeprefix(".")
    response = "stream " * method.server_streaming + method.output_type.removeprefix(".")
    return f"({request}) returns ({response})"
