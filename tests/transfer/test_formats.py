"""Transcripts and training data: whole, readable, and harmless whatever people wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll.contract.messages import ChatMessage, EarlierVersion, SessionInfo
from backscroll_worker.testing.stores import open_tested
from backscroll_worker.transfer.formats import FORMATS
from backscroll_worker.transfer.sessions import ExportedSession, Wanted, find, read
from backscroll_worker.transfer.text import blocks
from tests.transfer.sessions import anything, everything, messages, take

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script></pre></article><img src=x onerror=alert(1)>"


def rendered(form: str, *said: ChatMessage, **attributes: object) -> str:
    info = SessionInfo("k", NOON, NOON, len(said), **attributes)  # type: ignore[arg-type]
    return b"".join(FORMATS[form]([ExportedSession(info, said)])).decode()


def at(day: int, text: str, role: str = "user") -> ChatMessage:
    return ChatMessage(role, text, created_at=datetime(2026, 3, day, 12, tzinfo=UTC))


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the text in each kind of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.code = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "pre" in self.open:
            self.code += data


OURS = {
    "html", "head", "meta", "title", "style", "body", "section", "header", "h1", "h2", "h3", "dl",
    "div", "dt", "dd", "time", "article", "span", "pre", "code", "a", "details", "summary",
    "footer", "nav", "ol", "li", "small",
}  # fmt: skip


def assert_harmless(page: Page) -> None:
    assert set(page.tags) <= OURS
    assert page.open == []
    assert not any(name.startswith("on") for name, _ in page.attributes)
    links = [value or "" for name, value in page.attributes if name in ("href", "src")]
    assert all(link.startswith(("https://", "http://", "#s")) for link in links)


@settings(max_examples=60, deadline=None)
@given(said=st.lists(messages, max_size=3), name=st.none() | anything.filter(bool))
def test_no_text_gets_out_of_its_place_in_a_page(said: list[ChatMessage], name: str | None) -> None:
    page = rendered("html", *said, name=name, sender=HOSTILE)
    assert_harmless(Page(page))
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]", page)


def test_a_transcript_shows_who_said_it_by_name_else_by_id() -> None:
    said = (
        ChatMessage.user("tea?", author="42", author_name="Ada *L*"),
        ChatMessage.user("yes", author="4_3"),
        ChatMessage.assistant("it is ready"),
    )
    markdown = rendered("markdown", *said)
    shown = [line for line in markdown.splitlines() if line.startswith("**")]
    assert shown == [r"**Ada \*L\*** (user)", r"**4\_3** (user)", "**assistant**"]
    page = rendered("html", *said, ChatMessage.user("", author="x", author_name=HOSTILE[:40]))
    assert '<span class="role" dir="auto">Ada *L*</span><span dir="auto">(user)</span>' in page
    assert '<span class="role" dir="auto">assistant</span></header>' in page
    assert_harmless(Page(page))
    assert HOSTILE[:40] in Page(page).text


def test_training_data_have_the_authors_name_in_allowed_characters() -> None:
    said = (
        ChatMessage.user("a", author="1", author_name="Ada Λ. Lovelace"),
        ChatMessage.user("b", author="2", author_name="Ada", name="own"),
        ChatMessage.user("c", author="3", author_name="Λ"),
        ChatMessage.user("d", author="4"),
        ChatMessage.tool("e", author="5", author_name="Eve"),
        ChatMessage.user("f", author="6", author_name="x" * 100),
    )
    line = orjson.loads(rendered("openai", *said))
    names = [message.get("name") for message in line["messages"]]
    assert names == ["Ada_Lovelace", "own", None, None, None, "x" * 64]


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_of_an_author_has_nobody_elses_words(form: str, tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path / 'a.db'}") as store:
        for key, authors in (("a", "eve bob eve"), ("b", "bob"), ("c", "bob eve")):
            for author in authors.split():
                store.append(key, ChatMessage.user(f"of {author}", author=author))
        named, wanted = Wanted(("a", "b"), author="eve"), Wanted(author="eve")
        assert [info.key for info in find(store, named)] == ["a"]
        infos = find(store, wanted)
        assert [info.key for info in infos] == ["a", "c"]
        read_all = list[int]()
        written = b"".join(FORMATS[form](read(store, infos, read_all.append, "eve"))).decode()
        assert sum(read_all) == 5
        gone = list(read(store, store.sessions(), read_all.append, "nobody"))
    assert (written.count("of eve"), written.count("of bob"), gone) == (3, 0, [])
    if form == "jsonl":
        lines = [orjson.loads(line) for line in written.splitlines()]
        assert [line["end"] for line in lines if "end" in line] == [2, 1]


def test_hostile_text_is_shown_as_it_is() -> None:
    edit = EarlierVersion("user", HOSTILE, None, NOON)
    message = ChatMessage(HOSTILE[:30], HOSTILE, {"x": HOSTILE}, "id", NOON, (edit,))
    text = f"a\0\u202eb\n```{HOSTILE}\n{HOSTILE}\n```\n`{HOSTILE}` https://x/{HOSTILE}"
    page = Page(rendered("html", message, at(2, text), name=HOSTILE))
    assert_harmless(page)
    assert page.text.count(HOSTILE) >= 6
    assert "a[U+0000][U+202E]b" in page.text


def test_the_page_forbids_itself_to_load_or_run_anything() -> None:
    page = rendered("html", at(2, "x"))
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert "url(" not in page


def test_code_blocks_are_kept_line_by_line() -> None:
    code = "def f(x):\n    return x < 1\n\n\n# ~~~ and `` stay"
    for fence in ("```", "~~~~", "  ```"):
        said = at(2, f"see\n{fence}python\n{code}\n{fence}\nand *that*")
        assert code in Page(rendered("html", said)).code
        quoted = "\n".join(f"> {line}" if line else ">" for line in code.split("\n"))
        assert f"> ```python\n{quoted}\n> ```" in rendered("markdown", said)


def test_a_fence_without_an_end_goes_on_to_the_end() -> None:
    assert [block.text for block in blocks("a\n```\nb\n~~~\nc")] == ["a", "b\n~~~\nc"]


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_a_transcript_has_days_roles_times_and_marks_of_edits(form: str) -> None:
    edited = ChatMessage(
        "assistant", "new", created_at=NOON, edits=(EarlierVersion("assistant", "old", None, NOON),)
    )
    transcript = rendered(
        form, at(1, "a"), at(1, "b"), edited, at(3, "", "tool"), name="Title", channel="slack"
    )
    days = ["Sunday, 1 March 2026", "Monday, 2 March 2026", "Tuesday, 3 March 2026"]
    assert [transcript.count(day) for day in days] == [1, 1, 1]
    for part in ("Title", "slack", "user", "assistant", "tool", "edited", "(empty)"):
        assert part in transcript
    assert ("old" in transcript) == (form == "html")


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_a_transcript_is_from_its_first_message_to_its_last(form: str, tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path / 'x.db'}") as store:
        store.append("k", at(2, "a"), at(3, "b"), at(4, "c"))
        infos = find(store, Wanted(keys=("k",)))
        text = b"".join(FORMATS[form](read(store, infos, lambda _: None))).decode()
    text = text.partition("<footer>")[0]  # which says when it was made
    assert text.index("2026-03-02") < text.index("2026-03-04")
    assert f"{datetime.now(UTC):%Y-%m-%d}" not in text


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_several_sessions_follow_one_another(form: str) -> None:
    infos = [SessionInfo(f"key-{number}", NOON, NOON, 1) for number in range(3)]
    sessions = [ExportedSession(info, [at(2, f"said in {info.key}")]) for info in infos]
    document = b"".join(FORMATS[form](sessions)).decode()
    places = [document.index(f"said in key-{number}") for number in range(3)]
    assert places == sorted(places)
    if form == "html":
        assert_harmless(Page(document))
        assert [f'href="#s{number}"' in document for number in (1, 2, 3)] == [True] * 3
    assert FORMATS[form]([])  # nothing to export is a document too
    b"".join(FORMATS[form]([]))


@settings(max_examples=60, deadline=None)
@given(said=st.lists(messages, max_size=3))
def test_in_markdown_nothing_that_was_said_leaves_its_quote(said: list[ChatMessage]) -> None:
    ours = re.compile(r"(> .*|>|- .*|#{1,2} .*|\*\*.*\*\* · .*|)")
    document = rendered("markdown", *said, name="a\n# b")
    assert all(ours.fullmatch(line) for line in document.split("\n"))
    assert len(re.findall("^# ", document, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <b>", "a &lt;b>"),
        ("`<b>` <i>", "`<b>` &lt;i>"),
        ("``a ` <b>`` x", "&#96;&#96;a &#96; &lt;b>&#96;&#96; x"),
        ("``a <b>`` x", "``a <b>`` x"),
        ("` <b>", "&#96; &lt;b>"),
        ("\\`<b>`", "&#92;&#96;&lt;b>&#96;"),
        ("`a``<b>`", "&#96;a&#96;&#96;&lt;b>&#96;"),
    ],
)
def test_in_markdown_a_tag_is_text_unless_it_is_in_code(text: str, shown: str) -> None:
    assert rendered("markdown", at(2, text)).endswith(f"> {shown}\n")


def test_openai_lines_carry_tool_calls_and_names() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [
        ChatMessage("assistant", "", {"tool_calls": [call], "ts": "1.5"}),
        ChatMessage("tool", "42", {"tool_call_id": "c1", "name": "f"}),
        ChatMessage("user", "see", {"content": [{"type": "text", "text": "see"}]}),
    ]
    (line,) = rendered("openai", *said).splitlines()
    assert orjson.loads(line) == {
        "messages": [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "42", "name": "f", "tool_call_id": "c1"},
            {"role": "user", "content": [{"type": "text", "text": "see"}]},
        ]
    }
    assert rendered("openai") == ""


def lines(*conversations: Iterable[object]) -> bytes:
    return b"".join(orjson.dumps({"messages": each}) + b"\n" for each in conversations)


def test_openai_lines_come_in_under_a_prefix_once_and_go_out_as_they_were(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path / 'store.db'}"
    content = lines(
        [
            {"role": "user", "content": "see <b>"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
        [{"role": "assistant", "content": None, "refusal": "no"}],
    )
    report = take(store, tmp_path / "x", content, "oa_")
    assert (report.sessions, report.messages, report.refused) == (3, 5, [])
    assert take(store, tmp_path / "x", content, "oa_").known == 3
    stored = everything(store)
    assert set(stored) == {"oa_1", "oa_2", "oa_3"}
    assert stored["oa_2"][1][0].content == "a"
    assert stored["oa_3"][1][0].extra == {"refusal": "no"}


@pytest.mark.parametrize(
    "bad",
    [
        b'{"messages":"x"}',
        b'{"messages":[]}',
        b'{"messages":[7]}',
        b'{"messages":[{"content":"x"}]}',
        b'{"messages":[{"role":"user","content":7}]}',
        b'{"messages":[{"role":"user","content":"x"},{"ro',
    ],
)
def test_a_bad_openai_line_is_named_and_harms_no_other(tmp_path: Path, bad: bytes) -> None:
    good = lines([{"role": "user", "content": "x"}])
    store = f"sqlite://{tmp_path / 'store.db'}"
    report = take(store, tmp_path / "x", good + bad + b"\n" + good, "oa_")
    assert report.sessions == 2
    (refused,) = report.refused
    assert refused.startswith(f"{tmp_path / 'x'}:2: ")
    assert set(everything(store)) == {"oa_1", "oa_3"}


def test_an_openai_line_loses_nothing_without_a_word(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path / 'store.db'}"
    line = (
        b'{"messages":[{"role":"a","content":"x","content":"caf\xe9","n":%d}],"tools":[]}\n'
        % 10**30
    )
    report = take(store, tmp_path / "x", line, "oa_")
    (message,) = everything(store)["oa_1"][1]
    assert (message.content, message.extra) == (
        "caf\ufffd", {"n": str(10**30), "duplicate_fields": [["content", "x"]]},
    )  # fmt: skip
    assert report.sessions == 1
    assert [line.partition(":1: ")[2] for line in report.left_out] == [
        "not part of a message: tools",
        "some of it is not Unicode; U+FFFD stands in its place",
    ]
