"""A Markdown transcript shows what was said; whatever renders it, nothing of it acts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from urllib.parse import unquote

import cmarkgfm
import mistune
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll_worker.transfer.formats import FORMATS
from backscroll_worker.transfer.sessions import ExportedSession

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
_MISTUNE = mistune.create_markdown(
    escape=False, plugins=["strikethrough", "footnotes", "table", "url", "task_lists", "def_list"]
)
RENDERERS: dict[str, Callable[[str], object]] = {
    "GitHub": lambda text: cmarkgfm.github_flavored_markdown_to_html(
        text, options=Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES
    ),
    "markdown-it": MarkdownIt("commonmark", {"html": True}).enable("table").render,
    "mistune": _MISTUNE,
}
STRUCTURE = {
    "h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "ul", "ol", "li", "strong", "em", "del",
    "blockquote", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "a", "input",
    "dl", "dt", "dd",
}  # fmt: skip
HARMLESS_ATTRIBUTES = {"class", "lang", "align", "start", "style", "type", "checked", "disabled"}


_ADDRESS = re.compile(r"(?:https?://|ftp://|mailto:)([\w.-]*)", re.ASCII)
_HOST = re.compile(r"^(https?|ftp)://")


class _Rendered(HTMLParser):
    """Finds what could act: elements, attributes and links that no plain text makes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.acting: list[str] = []
        self.code = ""
        self._tags: list[str] = []
        self._link: tuple[str, str] | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags.append(tag)
        given = dict(attrs)
        if tag == "a":
            self._link = (given.pop("href") or "", "")
        if tag not in STRUCTURE or not set(given) <= HARMLESS_ATTRIBUTES:
            self.acting.append(f"<{tag} {attrs}>")

    def handle_data(self, data: str) -> None:
        if self._link is not None:
            self._link = (self._link[0], self._link[1] + data)
        if "code" in self._tags:
            self.code += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._link is not None:  # an address may lead to where it says it does
            target, shown = self._link
            if not _leads_where_it_says(unquote(target), unquote(shown)):
                self.acting.append(f"{shown} -> {target}")
            self._link = None
        if tag in self._tags:
            del self._tags[len(self._tags) - 1 - self._tags[::-1].index(tag) :]


def _leads_where_it_says(target: str, shown: str) -> bool:
    found = _ADDRESS.match(target)
    return found is not None and _HOST.sub("", shown, count=1).startswith(found[1])


def transcript(*texts: str, **attributes: str) -> str:
    said = [ChatMessage("user", text, created_at=NOON) for text in texts]
    info = SessionInfo("k", NOON, NOON, len(said), **attributes)  # type: ignore[arg-type]
    return b"".join(FORMATS["markdown"]([ExportedSession(info, said)])).decode()


def assert_inert(document: str) -> None:
    for name, render in RENDERERS.items():
        assert _Rendered(str(render(document))).acting == [], (name, document)


ATTACKS = [
    ["[the bank]: https://evil.example", "see [the bank]"],
    ["[the bank]:\nhttps://evil.example\n'title'", "see [the bank][] and [x][the bank]"],
    ["![](https://evil.example/pixel.png)", "![a][b]\n\n[b]: https://evil.example/p.png"],
    ["[click](javascript:alert(1))", "[click](<javascript:alert(1)>)", "<javascript:alert(1)>"],
    ["[x](data:text/html,<script>alert(1)</script>)", "[[wiki]] [^1]\n\n[^1]: [x](vbscript:1)"],
    ["\\[click](javascript:alert(1))", "\\\\[click](javascript:alert(1))", "a\\<b onclick=x>"],
    ["`a\n[x](javascript:1)`", "``[x](javascript:1)`", "`` ` [x](javascript:1)", "\\`[x](j:1)`"],
    ["| `a | [x](javascript:1)` |\n|---|---|\n| `b | ![](http://e/p.png)` |"],
    ["~~~ a`b\n```\n~~~\n[x](javascript:1)\n<img src=x>\n```"],
    ["- ~~~\n```\n[x](javascript:1)\n```\n- ~~~\n<img src=x>"],
    ["- ```\n  a\n```\n[x](javascript:1)\n```\n<img src=x>"],
    ["> ```\n[x](javascript:1)\n> ```\n<img src=x>"],
    ["1. ```\n```\n<img src=x>\n```\n   ```\n[x](javascript:1)"],
    ["\t```\n<img src=x>\n```\n[x](javascript:1)"],
    ["```{=html}\n<img src=x>\n```", "``` <img onerror=x>\nb\n```", '```x" onclick="y\nb\n```'],
    ["<img src=x onerror=alert(1)>", "<!-- ", "-->", "<![CDATA[", "]]>", "<?php", "</blockquote>"],
    ["&lt;img src=x&gt; &#91;x](javascript:1) &lbrack;x&rbrack;(javascript:1)"],
    ["a\u2028[x]: http://e\u2029<img src=x>", "a\x0b[x](javascript:1)\x0c<b>"],
    ["a\x85<b>\r<b>\r\n<b>", "a\x1c<b>\x1d<i>\x1e<img src=x>"],
    ["text\n===\n[x]: http://e\n---\n# [x]", "***\n___\n    [x](javascript:1)\n\t<b>"],
    ["http://e.example/p`<img src=x>`", "`a`www.e.example/`<b>`", "x:`<i>` a@b.example`<b>`"],
    ["https://e.example\u00a0a`<b>`", "http://e.example/(`<b>`)", "ftp://e`<img src=x>`"],
    ["https://good.example[x](javascript:1)", "www.x.example/<b>", "a@b.example](javascript:1)"],
]  # fmt: skip


@pytest.mark.parametrize("texts", ATTACKS, ids=lambda texts: repr(texts[0][:30]))
def test_nothing_that_was_said_acts_in_any_renderer(texts: list[str]) -> None:
    assert_inert(transcript(*texts))
    assert_inert(transcript("\n".join(texts)))
    for text in texts:
        assert_inert(transcript("x", name=text, channel=text, room=text, sender=text, agent=text))


_PARTS = st.sampled_from(
    ["`", "``", "```", "~~~", "[", "]", "(", ")", "!", "<", ">", "\\", "|", "|-|-|", "\n", "\n\n",
     "    ", "\t", "- ", "> ", "1. ", "# ", "[x]: ", "javascript:1", "http://e.example/p",
     "<img src=x>", "&#91;", "&lt;", "*", "_", "a", " ", "[^1]", "\u2028", "\x85", "\r", "===",
     "---", ":"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(_PARTS, max_size=25).map("".join), min_size=1, max_size=3))
def test_whatever_marks_are_put_together_nothing_acts(texts: list[str]) -> None:
    assert_inert(transcript(*texts))


def test_what_people_meant_by_their_marks_is_still_seen() -> None:
    document = transcript(
        "**bold** and `a < b`\n\n- one\n- two\n\n```python\nif a < b: [x](y)\n```"
    )
    for render in RENDERERS.values():
        page = str(render(document))
        for part in ("<strong>bold</strong>", "<li>one", "a &lt; b"):
            assert part in page
        assert "if a < b: [x](y)" in _Rendered(page).code


def test_a_long_line_of_backticks_takes_time_by_its_length() -> None:
    line = "".join("`" * (1 + count % 40) + "a" for count in range(20_000))
    document = transcript(line)
    assert document.count("&#96;") == line.count("`")


@pytest.mark.parametrize("form", ["markdown", "html"])
@pytest.mark.parametrize("line", ["~" * 100_000, "~~~" + " " * 100_000, "```" + " " * 100_000])
def test_a_line_that_is_almost_a_fence_takes_time_by_its_length(form: str, line: str) -> None:
    said = [ChatMessage("user", f"{line}`", created_at=NOON)]  # took minutes
    session = ExportedSession(SessionInfo("k", NOON, NOON, 1), said)
    assert b"".join(FORMATS[form]([session]))


@pytest.mark.parametrize(
    "text",
    ["`<img src=x onerror=1>`{=html}", "a\n{: onclick=alert(1)}", "::include{file=/etc/passwd}",
     "{% include x %}", "{{ constructor.constructor('alert(1)')() }}", "`{{ 1 + 1 }}`"],
)  # fmt: skip
def test_no_marks_that_only_some_renderers_obey_are_left(text: str) -> None:
    marks = {"{=", "{:", "{f", "{%", "{{"}
    document = transcript(text, name=text, room=text)
    assert not [each for each in marks if each in document]


@pytest.mark.parametrize("language", ["mermaid", "PlantUML", "dataviewjs", "math", "a{=html}"])
def test_code_is_not_taken_for_something_to_be_drawn_or_run(language: str) -> None:
    assert "```\n> x" in transcript(f"```{language}\nx\n```")


def test_a_transcript_is_from_its_first_message_to_its_last() -> None:
    days = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in (2, 9)]
    info = SessionInfo("k", datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), 2)
    said = [ChatMessage("user", "x", created_at=moment) for moment in days]
    session = ExportedSession(info, said, (days[0], days[1]))
    for form in ("markdown", "html"):
        document = b"".join(FORMATS[form]([session])).decode()
        places = [document.index(f"2026-03-0{day}") for day in (2, 9)]
        assert places == sorted(places)
        assert "2026-05" not in document
