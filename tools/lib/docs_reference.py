"""The protocol's reference: a page of Markdown for each file of proto/dirty/v1, from its comments (docs_pages.py)."""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
import typing

from google.protobuf import descriptor_pb2

PACKAGE = ".dirty.v1."
# Numbers of fields in descriptor.proto, of which the paths of comments are made.
MESSAGE, ENUM, SERVICE, SYNTAX = 4, 5, 6, 12
FIELD, NESTED, NESTED_ENUM, ONEOF = 2, 3, 4, 8
FieldType = descriptor_pb2.FieldDescriptorProto


def pages(protos: pathlib.Path, intro: str) -> dict[str, str]:
    """The pages by their paths below docs/. `intro` is the text of reference/index.md, which the list of files ends."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "descriptors"
        names = sorted(path.relative_to(protos).as_posix() for path in protos.glob("dirty/v1/*.proto"))
        subprocess.run(
            ["protoc", "-I", protos, "--include_source_info", "--descriptor_set_out", out, *names], check=True
        )
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    files = [File(proto) for proto in found]
    places = {name: file.page for file in files for name in file.types()}
    made = {f"reference/{file.page}": file.markdown(places) for file in files}
    rows = [
        f"| [{file.title}]({file.page}) | {first_sentence(file.comment((SYNTAX,)))} | {file.summary()} |"
        for file in sorted(files, key=lambda file: file.page)
    ]
    made["reference/index.md"] = "\n".join(
        [intro.rstrip(), "", "| file | what | services |", "|---|---|---|", *rows, ""]
    )
    return made


def first_sentence(comment: str) -> str:
    """The first sentence of a comment, in one line."""
    return flat(comment.split("\n\n", maxsplit=1)[0]).split(". ")[0].rstrip(".")


def anchor(name: str) -> str:
    """As docs_pages.slug has it."""
    return name.lower().replace(".", "")


def flat(comment: str) -> str:
    """A comment as a cell of a table."""
    return "<br><br>".join(" ".join(part.split()) for part in text(comment).split("\n\n")).replace("|", r"\|")


def text(comment: str) -> str:
    """A comment as Markdown: outside of code, what looks like a tag or emphasis is meant as it is written."""
    plain_and_code = comment.split("`")
    plain_and_code[::2] = [part.replace("<", "&lt;").replace("*", r"\*") for part in plain_and_code[::2]]
    return "`".join(plain_and_code)


class File:
    """One file of the protocol."""

    def __init__(self, proto: descriptor_pb2.FileDescriptorProto) -> None:
        """Takes what protoc made of it, comments included."""
        self.proto = proto
        self.title = proto.name.rpartition("/")[2]
        self.page = self.title.removesuffix(".proto") + ".md"
        self._comments = {tuple(place.path): place for place in proto.source_code_info.location}

    def comment(self, path: tuple[int, ...]) -> str:
        """The comment before an element, or after it in its line; of the file, the one at its top."""
        place = self._comments.get(path)
        if place is None:
            return ""
        lines = place.leading_comments or place.trailing_comments or "".join(place.leading_detached_comments[:1])
        return "\n".join(line.removeprefix(" ").rstrip() for line in lines.splitlines()).strip()

    def types(self) -> list[str]:
        """Full names of its messages and enums, those within others too."""

        def within(message: descriptor_pb2.DescriptorProto, prefix: str) -> typing.Iterator[str]:
            yield prefix + message.name
            yield from (f"{prefix}{message.name}.{enum.name}" for enum in message.enum_type)
            for nested in message.nested_type:
                yield from within(nested, f"{prefix}{message.name}.")

        own = [name for message in self.proto.message_type for name in within(message, PACKAGE)]
        return own + [PACKAGE + enum.name for enum in self.proto.enum_type]

    def summary(self) -> str:
        """Its services and their RPCs, linked."""
        return "<br>".join(f"[{service.name}]({self.page}#{anchor(service.name)}): " + ", ".join(
            f"[{rpc.name}]({self.page}#{anchor(service.name + rpc.name)})" for rpc in service.method)
            for service in self.proto.service)  # fmt: skip

    def markdown(self, places: dict[str, str]) -> str:
        """Its page. `places`: the page of each type, by its full name."""
        self.places = places
        out = [f"# {self.title}", text(self.comment((SYNTAX,)))]
        for i, service in enumerate(self.proto.service):
            out += [f"## {service.name}", f"Service `{PACKAGE[1:]}{service.name}`.", text(self.comment((SERVICE, i)))]
            for j, rpc in enumerate(service.method):
                request = ("stream of " if rpc.client_streaming else "") + self._linked(rpc.input_type)
                response = ("stream of " if rpc.server_streaming else "") + self._linked(rpc.output_type)
                out += [f"### {service.name}.{rpc.name}", f"Takes: {request}. Gives: {response}.",
                        text(self.comment((SERVICE, i, FIELD, j)))]  # fmt: skip
        for i, message in enumerate(self.proto.message_type):
            out += self._message(message, message.name, (MESSAGE, i))
        for i, enum in enumerate(self.proto.enum_type):
            out += self._enum(enum, enum.name, (ENUM, i))
        return "\n\n".join(part for part in out if part) + "\n"

    def _linked(self, type_name: str) -> str:
        short = type_name.removeprefix(PACKAGE)
        place = self.places.get(type_name)
        return f"[{short}]({place}#{anchor(short)})" if place else f"`{type_name.removeprefix('.')}`"

    def _message(self, message: descriptor_pb2.DescriptorProto, name: str, path: tuple[int, ...]) -> list[str]:
        out = [f"{'###' if '.' in name else '##'} {name}", text(self.comment(path))]
        maps = {f"{PACKAGE}{name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
        rows = ["| number | field | type | |", "|---|---|---|---|"]
        for i, field in enumerate(message.field):
            said = flat(self.comment((*path, FIELD, i)))
            if field.HasField("oneof_index") and not field.proto3_optional:
                said = f"One of `{message.oneof_decl[field.oneof_index].name}`. {said}"
            rows.append(f"| {field.number} | `{field.name}` | {self._type(field, maps)} | {said} |")
        groups = [f"`{oneof.name}`: {text(self.comment((*path, ONEOF, i)))}" for i, oneof in enumerate(message.oneof_decl)
                  if not oneof.name.startswith("_")]  # fmt: skip
        out += [*groups, "\n".join(rows) if message.field else "No fields."]
        for i, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                out += self._message(nested, f"{name}.{nested.name}", (*path, NESTED, i))
        for i, enum in enumerate(message.enum_type):
            out += self._enum(enum, f"{name}.{enum.name}", (*path, NESTED_ENUM, i))
        return out

    def _enum(self, enum: descriptor_pb2.EnumDescriptorProto, name: str, path: tuple[int, ...]) -> list[str]:
        rows = [f"| {value.number} | `{value.name}` | {flat(self.comment((*path, FIELD, i)))} |"
                for i, value in enumerate(enum.value)]  # fmt: skip
        table = "\n".join(["| number | value | |", "|---|---|---|", *rows])
        return [f"{'###' if '.' in name else '##'} {name}", text(self.comment(path)), table]

    def _type(self, field: descriptor_pb2.FieldDescriptorProto,
              maps: dict[str, descriptor_pb2.DescriptorProto]) -> str:  # fmt: skip
        if field.type_name in maps:
            key, value = maps[field.type_name].field
            return f"map of {self._type(key, {})} to {self._type(value, {})}"
        named = field.type in (FieldType.TYPE_MESSAGE, FieldType.TYPE_ENUM)
        name = self._linked(field.type_name) if named else f"`{FieldType.Type.Name(field.type)[5:].lower()}`"
        repeated = field.label == FieldType.LABEL_REPEATED
        return ("repeated " if repeated else "optional " if field.proto3_optional else "") + name
