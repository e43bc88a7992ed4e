"""Writes docs/reference: from the comments in proto/, the reasons, log events and metrics.

    python docs/generate_reference.py [DIRECTORY]

One page per proto file: its methods, messages, fields with their validation rules, and enums. One
page has the log events, and one the metrics. The pages are committed, and CI compares them with
what this generates.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from command_reference import command_pages
from described_contract import (
    ENUM_VALUE,
    FILE_ENUM,
    FILE_MESSAGE,
    FILE_SERVICE,
    MESSAGE_ENUM,
    MESSAGE_FIELD,
    MESSAGE_NESTED,
    PACKAGE,
    ROOT,
    SERVICE_METHOD,
    Comments,
    Contract,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    MethodOptions,
)
from google.protobuf.message import Message
from google.rpc import code_pb2

from ingot.v1.reason_pb2 import Reason
from ingot_server.errors import PREFIX, TREATMENTS, Treatment
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import METRICS
from ingot_server.metrics.metric import Metric, Origin

_NAMES: Final = {
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
}
_ORIGINS: Final = {
    Origin.SERVER: "Of each API server",
    Origin.WORKER: "Of each worker",
    Origin.BOTH: "Of both",
    Origin.INSTALLATION: "Of the installation, from each API server",
}
_IDEMPOTENCY: Final = {
    MethodOptions.NO_SIDE_EFFECTS: "It has no side effects, so it can be repeated.",
    MethodOptions.IDEMPOTENT: "It can be repeated with the same effect.",
}


def _described(rules: Message) -> Iterator[str]:
    """Describe protovalidate's rules of one field."""
    for descriptor, value in rules.ListFields():
        if descriptor.message_type is not None and not descriptor.is_repeated:
            if descriptor.message_type.full_name == "google.protobuf.Duration":
                yield f"{descriptor.name} {_duration(value.ToTimedelta())}"
            else:
                yield from _described(value)
        elif descriptor.is_repeated:
            yield f"{descriptor.name} {', '.join(map(str, value))}"
        elif value is True:
            yield descriptor.name
        else:
            yield f"{descriptor.name} {f'`{value}`' if isinstance(value, str) else value}"


class Page:
    """The reference of one proto file."""

    def __init__(
        self, file: FileDescriptorProto, homes: dict[str, str], contract: Contract
    ) -> None:
        """Describe `file`; `homes` maps the full names of types to the pages that have them."""
        self._file = file
        self._contract = contract
        self._homes = homes
        self._comments = Comments(file)
        self._entries = {
            f"{PACKAGE}{message.name}.{nested.name}": nested
            for message in file.message_type
            for nested in message.nested_type
            if nested.options.map_entry
        }

    def text(self) -> str:
        title = Path(self._file.name).stem.replace("_", " ").capitalize()
        blocks = [f"# {title}", f"Generated from `proto/{self._file.name}`."]
        for number, service in enumerate(self._file.service):
            blocks += [f"## {service.name}", self._comments.paragraphs(FILE_SERVICE, number)]
            for at, method in enumerate(service.method):
                path = (FILE_SERVICE, number, SERVICE_METHOD, at)
                blocks += self._method(method, self._comments.paragraphs(*path))
        for number, message in enumerate(self._file.message_type):
            blocks += self._message(message, message.name, (FILE_MESSAGE, number))
        for number, enum in enumerate(self._file.enum_type):
            blocks += self._enum(enum, enum.name, (FILE_ENUM, number))
        return "\n\n".join(blocks) + "\n"

    def _method(self, method: MethodDescriptorProto, comment: str) -> Iterator[str]:
        request = ("stream of " if method.client_streaming else "") + self._link(method.input_type)
        response = ("stream of " if method.server_streaming else "") + self._link(
            method.output_type
        )
        yield f"### {method.name}"
        yield f"{request} → {response}"
        yield comment
        facts = [f"Its callers need the scope `{self._contract.scope(method)}`."]
        if method.options.idempotency_level in _IDEMPOTENCY:
            facts.append(_IDEMPOTENCY[method.options.idempotency_level])
        yield " ".join(facts)

    def _message(self, message: DescriptorProto, name: str, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {name}"
        yield self._comments.paragraphs(*path)
        fields = [
            self._field(message, field, (*path, MESSAGE_FIELD, number))
            for number, field in enumerate(message.field)
        ]
        if fields:
            yield "\n".join(fields)
        for number, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                nested_path = (*path, MESSAGE_NESTED, number)
                yield from self._message(nested, f"{name}.{nested.name}", nested_path)
        for number, enum in enumerate(message.enum_type):
            yield from self._enum(enum, f"{name}.{enum.name}", (*path, MESSAGE_ENUM, number))

    def _field(
        self, message: DescriptorProto, field: FieldDescriptorProto, path: tuple[int, ...]
    ) -> str:
        facts = [self._type(field)]
        if field.HasField("oneof_index") and not field.proto3_optional:
            facts.append(f"one of `{message.oneof_decl[field.oneof_index].name}`")
        rules = list(_described(self._contract.field_rules(field)))
        if rules:
            facts.append(", ".join(rules))
        return f"- `{field.name}` ({'; '.join(facts)}): {self._comments.line(*path)}"

    def _enum(self, enum: EnumDescriptorProto, name: str, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {name}"
        yield self._comments.paragraphs(*path)
        reasons = enum.name == "Reason"
        lines = []
        for number, value in enumerate(enum.value):
            comment = self._comments.line(*path, ENUM_VALUE, number)
            if reasons and value.number:
                lines.append(_reason(value.name, value.number, comment))
            elif not reasons:
                lines.append(f"- `{value.name}`: {comment}")
        yield "\n".join(lines)

    def _type(self, field: FieldDescriptorProto) -> str:
        entry = self._entries.get(field.type_name)
        if entry is not None:
            key, value = entry.field
            return f"map from {self._type(key)} to {self._type(value)}"
        name = self._link(field.type_name) if field.type_name else _NAMES[field.type]
        repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        return f"list of {name}" if repeated else name

    def _link(self, full_name: str) -> str:
        name = full_name.removeprefix(PACKAGE)
        home = self._homes.get(full_name)
        if home is None:
            return f"`{full_name.removeprefix('.')}`"
        return f"[{name}]({home}#{name.replace('.', '').lower()})"


def _reason(name: str, number: int, comment: str) -> str:
    treatment = TREATMENTS.get(Reason.ValueType(number))
    if treatment is None:
        sys.exit(f"{name} has no row in server/ingot_server/errors.py")
    return f"- `{name.removeprefix(PREFIX)}` ({_treatment(treatment)}): {comment}"


def _treatment(treatment: Treatment) -> str:
    facts = [
        code_pb2.Code.Name(treatment.code),
        "transient" if treatment.transient else "permanent",
    ]
    if treatment.cached_for:
        facts.append(f"remembered for {_duration(treatment.cached_for)}")
    return ", ".join(facts)


def _duration(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"


def _homes(files: list[FileDescriptorProto]) -> dict[str, str]:
    """Map the full name of each type to its page."""
    homes = {}
    for file in files:
        page = f"{Path(file.name).stem}.md"
        for message in file.message_type:
            name = PACKAGE + message.name
            homes[name] = page
            inner = (*message.nested_type, *message.enum_type)
            homes.update({f"{name}.{each.name}": page for each in inner})
        homes.update({PACKAGE + enum.name: page for enum in file.enum_type})
    return homes


def _metrics() -> str:
    """Return the page of the metrics."""
    blocks = ["# Metrics", "Generated from `server/ingot_server/metrics/definitions.py`."]
    blocks.append("[How to scrape them](../metrics.md) is on a page of its own.")
    for origin in Origin:
        blocks.append(f"## {_ORIGINS[origin]}")
        blocks += [_metric(each) for each in METRICS if each.origin is origin]
    return "\n\n".join(blocks) + "\n"


def _metric(metric: Metric) -> str:
    facts = [metric.kind.value]
    if metric.labels:
        facts.append("labels " + ", ".join(f"`{label}`" for label in metric.labels))
    if metric.buckets:
        facts.append("buckets up to " + ", ".join(f"{bound:g}" for bound in metric.buckets))
    return f"### {metric.name}\n\n{'; '.join(facts)}\n\n{metric.meaning}"


def _index(files: list[FileDescriptorProto]) -> str:
    lines = ["# Reference", "Generated from `proto/ingot/v1` by `make generate`.", "## Services"]
    for file in files:
        page = f"{Path(file.name).stem}.md"
        for service in file.service:
            methods = ", ".join(
                f"[{each.name}]({page}#{each.name.lower()})" for each in service.method
            )
            lines.append(f"- [{service.name}]({page}): {methods}")
    lines.append("## Resources")
    lines += [
        f"- [{file.message_type[0].name if file.message_type else file.enum_type[0].name}]"
        f"({Path(file.name).stem}.md)"
        for file in files
        if not file.service
    ]
    lines += ["## Commands", "- [`ingot`](ingot.md)", "- [`ingot-server`](ingot-server.md)"]
    lines += ["## Operation", "- [Log events](log_events.md)", "- [Metrics](metrics.md)"]
    text = "\n\n".join(lines) + "\n"
    return (
        text.replace("\n\n- ", "\n- ")
        .replace("Services\n-", "Services\n\n-")
        .replace("Resources\n-", "Resources\n\n-")
        .replace("Commands\n-", "Commands\n\n-")
        .replace("Operation\n-", "Operation\n\n-")
    )


def _log_events() -> str:
    rows = "\n".join(f"| `{event.event_name}` | {event.value} |" for event in Event)
    return (
        "# Log events\n\nGenerated from `server/ingot_server/log_events.py`. "
        "[Logs](../logs.md) says what a line has.\n\n| event | meaning |\n| --- | --- |\n"
        f"{rows}\n"
    )


def main(directory: Path) -> None:
    contract = Contract.built()
    homes = _homes(contract.files)
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.md"):
        stale.unlink()
    for file in contract.files:
        page = directory / f"{Path(file.name).stem}.md"
        page.write_text(Page(file, homes, contract).text())
    for name, text in command_pages().items():
        (directory / name).write_text(text)
    (directory / "log_events.md").write_text(_log_events())
    (directory / "metrics.md").write_text(_metrics())
    (directory / "README.md").write_text(_index(contract.files))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference")
