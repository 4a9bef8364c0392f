"""Looks at a folder of HTML as a browser would: where links lead, and what pages load."""

from __future__ import annotations

import html.parser
import os
import pathlib
import re
import urllib.parse
from typing import Optional

# Attributes whose file the browser fetches by itself.
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("object", "data")}
# Relations of <link> that load nothing.
LINKED = {"canonical", "next", "prev", "alternate"}
CSS_LOADS = re.compile(r"""(?:url\(\s*|@import\s+)["']?(https?:|//)[^)"']*""")


class Page(html.parser.HTMLParser):
    """One page: its anchors, what it links to, what it loads, its style sheets' text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        have = {name: value or "" for name, value in attrs}
        self.anchors |= {have[name] for name in ("id", "name") if name in have}
        if tag in ("a", "area") and "href" in have:
            self.links.append(have["href"])
        if tag == "link" and "href" in have:
            (self.links if set(have.get("rel", "").split()) & LINKED else self.loads).append(have["href"])
        self.loads += [value for name, value in have.items() if (tag, name) in LOADED]
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style", "pre", "code"} & set(self._inside):
            self.texts.append(data)


def wrong(site: pathlib.Path) -> list[str]:
    """What is wrong in a site: links and files that are not there, what is loaded from elsewhere."""
    pages = {path: Page(path.read_text()) for path in sorted(site.glob("**/*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for target in page.links + page.loads:
            parts = urllib.parse.urlsplit(target)
            # That one is shown at any path, so its links begin at the root.
            base = site if name == "404.html" else path.parent
            if parts.scheme or parts.netloc or (target.startswith("/") and base != site):
                if parts.scheme == "data" and target in page.loads:
                    continue
                if target in page.loads:
                    found.append(f"{name}: loads {target}")
                elif parts.scheme != "mailto" and (parts.scheme not in ("http", "https") or "." not in parts.netloc):
                    found.append(f"{name}: {target} is no address")
                continue
            file = (
                pathlib.Path(os.path.normpath(base / urllib.parse.unquote(parts.path).lstrip("/")))
                if parts.path
                else path
            )
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                found.append(f"{name}: {target} leads nowhere")
            elif parts.fragment and urllib.parse.unquote(parts.fragment) not in pages[file].anchors:
                found.append(f"{name}: {target}: no such anchor")
        # A list or a fence that Markdown took for running text.
        found += [f"{name}: unrendered: {line.strip()}" for text in page.texts for line in text.splitlines()
                  if re.match(r"\s*(- |\* |1\. |```|\|)\S", line)]  # fmt: skip
    for sheet in sorted(site.glob("**/*.css")):
        found += [f"{sheet.relative_to(site)}: loads {load[0]}" for load in CSS_LOADS.finditer(sheet.read_text())]
    return found
