"""The hooks of mkdocs.yml: pages that are no files of docs/, and Markdown as code hosts understand it.

- README.md is the page start.md, so that what it says is written once.
- A file outside docs/ that a page links to becomes a page below source/: Markdown as it is, anything else as it is written.
- reference/ is made from the protos (docs_reference.py).
- A heading's anchor is what code hosts make of it; the name after a fence's language is the block's title.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
import typing
import unicodedata

import docs_reference
from mkdocs.structure.files import File

START = "start.md"
# What follows a page's own text as it is: a fenced block, code in a line; else the target of a link.
PARTS = re.compile(r"^(?P<fence>`{3,})[^\n]*\n.*?^(?P=fence)[ \t]*$|(?P<tick>`+)[^`].*?(?P=tick)(?!`)|\]\((?P<link>[^)\s]+)\)",
                   re.S | re.M)  # fmt: skip
NAMED_FENCE = re.compile(r"^(```\w+) +([\w./-]+)$", re.M)
RUST_FENCE = re.compile(r"^(```rust),\w+$", re.M)  # what its documentation's tests are told
LANGUAGES = {".cc": "cpp", ".h": "cpp", ".py": "python", ".proto": "protobuf", ".yaml": "yaml", ".yml": "yaml",
             ".json": "json", ".ts": "typescript", ".mjs": "javascript", ".js": "javascript", ".go": "go",
             ".java": "java", ".rs": "rust", ".sh": "sh", ".toml": "toml", ".service": "ini", ".socket": "ini"}  # fmt: skip


def slug(heading: str, separator: str = "-") -> str:
    """The anchor of a heading, as code hosts have it: small letters, digits, `-` and `_`; a space is a `-`."""
    kept = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", heading).strip().lower())
    return kept.replace(" ", separator)


def links(markdown: str) -> list[str]:
    """The targets of a text's links."""
    return [part["link"] for part in PARTS.finditer(markdown) if part["link"]]


class Sources:
    """Which file of the project is which page. Paths are relative to the project's folder, `/` between names."""

    def __init__(self, root: pathlib.Path) -> None:
        """Reads every page, from README.md and docs/ on, and what they link to."""
        self.root = root
        self.pages: dict[str, str] = {}  # file: page, a path below docs/ that need not exist there
        waiting = ["README.md", *(path.relative_to(root).as_posix() for path in sorted(root.glob("docs/**/*.md")))]
        while waiting:
            file = waiting.pop()
            if file in self.pages:
                continue
            self.pages[file] = self._page(file)
            if file.endswith(".md"):
                linked = (self.linked(file, link) for link in links((root / file).read_text()))
                waiting += [target for target in linked if target and (root / target).is_file()]
        self.files = {page: file for file, page in self.pages.items()}

    def _page(self, file: str) -> str:
        if file == "README.md":
            return START
        if file.startswith("docs/"):
            return file.removeprefix("docs/")
        return f"source/{file}" if file.endswith(".md") or self.text(file) is None else f"source/{file}.md"

    def text(self, file: str) -> str | None:
        """A file's text; None if it is none, such as a picture."""
        try:
            return (self.root / file).read_text()
        except UnicodeDecodeError:
            return None

    def linked(self, file: str, link: str) -> str | None:
        """The file or folder that a link of a file means; None if it is elsewhere, or nothing is there."""
        path = link.partition("#")[0]
        if not path or ":" in path or path.startswith("/"):
            return None
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        if target.startswith("..") or not (self.root / target).exists():
            return None
        readme = f"{target}/README.md"
        return readme if (self.root / readme).is_file() else target

    def markdown(self, file: str) -> str:
        """What mkdocs gets to see of a file that has a page: it knows pages only."""
        text = self.text(file)
        assert text is not None
        if not file.endswith(".md"):
            fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", text))])
            return (
                f"# {file}\n\n{fence}{LANGUAGES.get(pathlib.PurePath(file).suffix, 'text')}\n{text.rstrip()}\n{fence}\n"
            )

        def moved(part: re.Match[str]) -> str:
            if not part["link"]:
                fence = RUST_FENCE.sub(r"\1", part[0], count=1)
                return NAMED_FENCE.sub(r'\1 title="\2"', fence, count=1) if part["fence"] else part[0]
            target = self.linked(file, part["link"])
            if target is None or target not in self.pages:
                return part[0]  # mkdocs knows it, or says that it does not
            anchor = "#" + part["link"].partition("#")[2] if "#" in part["link"] else ""
            return f"]({posixpath.relpath(self.pages[target], posixpath.dirname(self.pages[file]) or '.')}{anchor})"

        return PARTS.sub(moved, text)


sources: Sources


def on_config(config: typing.Any) -> typing.Any:
    """Before anything is read."""
    global sources
    sources = Sources(pathlib.Path(config.config_file_path).parent)
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: typing.Any, config: typing.Any) -> typing.Any:
    """Adds the pages that are no files of docs/."""
    for file, page in sources.pages.items():
        if not file.startswith("docs/"):
            text = sources.text(file)
            content = (sources.root / file).read_bytes() if text is None else sources.markdown(file)
            files.append(File.generated(config, page, content=content))
    intro = files.get_file_from_path("reference/index.md").content_string
    for page, text in docs_reference.pages(sources.root / "proto", intro).items():
        if page in files.src_uris:
            files.remove(files.get_file_from_path(page))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: typing.Any, config: typing.Any, files: typing.Any) -> str:
    """A page of docs/, before it becomes HTML."""
    file = sources.files.get(page.file.src_uri, "")
    return sources.markdown(file) if file.startswith("docs/") and file != "docs/reference/index.md" else markdown
