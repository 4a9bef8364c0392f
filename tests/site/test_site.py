"""The docs site builds without a warning, is complete, and its links lead somewhere."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import html_links

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PATIENCE = 300.0


def build(*flags: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "tools/docs", *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=PATIENCE, check=False)  # fmt: skip


@pytest.fixture(scope="session")
def mkdocs() -> None:
    """It is there; else the test is skipped, and with CI=true it fails."""
    ran = build("--install")
    if ran.returncode != 0:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "mkdocs cannot be installed: " + ran.stdout[-2000:]
        )


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, mkdocs: None) -> pathlib.Path:
    """The site, built."""
    folder = tmp_path_factory.mktemp("site")
    ran = build("--site", folder)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout == f"the site is built: {folder}/index.html\n"  # no warning either
    return folder


@pytest.fixture
def draft(tmp_path: pathlib.Path, mkdocs: None) -> pathlib.Path:
    """A small project with a page, to make mistakes in."""
    (tmp_path / "docs/reference").mkdir(parents=True)
    for name in ("tools", "proto"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "README.md").write_text("# Project\n\n## Part one\n\n[a page](docs/index.md#more-of-it)\n")
    (tmp_path / "docs/index.md").write_text("# Home\n\n## More of it\n\n[back](../README.md#part-one)\n")
    (tmp_path / "docs/reference/index.md").write_text("# Protocol\n")
    navigation = "nav: [index.md, start.md, {Protocol: [" + ", ".join(
        f"reference/{name}.md" for name in ["index", *(path.stem for path in (ROOT / "proto/dirty/v1").glob("*.proto"))]
    ) + "]}]\n"  # fmt: skip
    (tmp_path / "mkdocs.yml").write_text(
        re.sub(r"^nav:\n(?:  .*\n)*", navigation, (ROOT / "mkdocs.yml").read_text(), flags=re.M)
    )
    return tmp_path


def built(draft: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return build("--config", draft / "mkdocs.yml", "--site", draft / "site")


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site: pathlib.Path) -> None:
    assert html_links.wrong(site) == []


def test_every_document_is_in_the_navigation_once(site: pathlib.Path) -> None:
    entries = re.findall(r"^ +- .*?([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert len(entries) > 10 and len(entries) == len(set(entries))
    home = html_links.Page((site / "index.html").read_text())
    pages = {
        path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").glob("**/*.md")
    }
    assert pages | {"start.html"} <= {link.partition("#")[0] for link in home.links}


def test_the_reference_has_every_element_of_the_protocol(site: pathlib.Path) -> None:
    elements = 0
    for proto in (ROOT / "proto/dirty/v1").glob("*.proto"):
        text = re.sub(r"//.*", "", proto.read_text())
        page = html_links.Page((site / f"reference/{proto.stem}.html").read_text())
        html = (site / f"reference/{proto.stem}.html").read_text()
        for name in re.findall(r"^(?:message|enum|service) (\w+)", text, re.M):
            assert name.lower() in page.anchors, name
            elements += 1
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.M | re.S):
            for rpc in re.findall(r"\brpc (\w+)", body):
                assert (service + rpc).lower() in page.anchors, rpc
                elements += 1
        for nested in re.findall(r"^ +(?:message|enum) (\w+)", text, re.M):
            assert any(anchor.endswith(nested.lower()) for anchor in page.anchors), nested
            elements += 1
        for field in re.findall(r"(\w+) = \d+;", text):
            assert f"<code>{field}</code>" in html, field
            elements += 1
    assert elements > 200
    assert "Grows by one with every reload" in (site / "reference/admin.html").read_text()  # comments
    assert 'href="call.html#executerequest"' in (site / "reference/arbiter.html").read_text()


def test_files_outside_docs_that_are_linked_are_pages(draft: pathlib.Path) -> None:
    (draft / "a.py").write_text("'''```'''\nx = 1 # <b>\n")
    (draft / "docs/index.md").write_text("# Home\n\n## More of it\n\n[the code](../a.py)\n")
    assert (ran := built(draft)).returncode == 0, ran.stdout
    assert 'href="source/a.py.html"' in (draft / "site/index.html").read_text()
    assert "&lt;b&gt;" in (draft / "site/source/a.py.html").read_text()
    assert html_links.wrong(draft / "site") == []


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("nowhere.md", "nowhere.md"),
        ("#no-such-part", "no-such-part"),
        ("../README.md#no-such-part", "no-such-part"),
        ("../nowhere.py", "nowhere.py"),
        ("/index.md", "/index.md"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(draft: pathlib.Path, link: str, complaint: str) -> None:
    (draft / "docs/index.md").write_text(f"# Home\n\n## More of it\n\n[link]({link})\n")
    ran = built(draft)
    assert ran.returncode == 1 and complaint in ran.stdout


def test_a_wrong_link_in_the_readme_fails_the_build(draft: pathlib.Path) -> None:
    (draft / "README.md").write_text("# Project\n\n## Part one\n\n[a page](docs/index.md#less-of-it)\n")
    ran = built(draft)
    assert ran.returncode == 1 and "less-of-it" in ran.stdout


def test_a_page_that_is_not_in_the_navigation_fails_the_build(draft: pathlib.Path) -> None:
    (draft / "docs/lost.md").write_text("# Lost\n")
    ran = built(draft)
    assert ran.returncode == 1 and "lost.md" in ran.stdout


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ('<a href="b.html">', "b.html leads nowhere"),
        ('<a href="#x">', "#x: no such anchor"),
        ('<a href="http:nothing">', "http:nothing is no address"),
        ('<a href="javascript:x()">', "is no address"),
        ('<img src="https://images.example.org/a.png">', "loads https://images.example.org/a.png"),
        ('<link rel="preconnect" href="https://fonts.example.org">', "loads https://fonts.example.org"),
        ("<script src=//code.example.org/a.js></script>", "loads //code.example.org/a.js"),
        ("<p>Of these:\n- one\n- two</p>", "unrendered: - one"),
    ],
)
def test_the_check_of_the_pages_notices(tmp_path: pathlib.Path, html: str, complaint: str) -> None:
    (tmp_path / "a.html").write_text(f"<body>{html}</body>")
    assert complaint in "\n".join(html_links.wrong(tmp_path))


def test_the_check_of_the_pages_notices_style_sheets(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example.org/a.woff) }")
    assert html_links.wrong(tmp_path) != []


def test_the_check_of_the_pages_is_content_with_what_is_right(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/index.html").write_text('<h1 id="x">x</h1><a href="../b.html">b</a><pre>- no list</pre>')
    (tmp_path / "b.html").write_text('<a href="a/#x"></a><a href="https://a.example.org/x"></a><img src="data:,">')
    assert html_links.wrong(tmp_path) == []
