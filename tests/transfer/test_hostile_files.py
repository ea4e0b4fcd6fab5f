"""Files that are made to hurt: each gets a clear line, and costs nothing but itself."""

from __future__ import annotations

import os
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, import_files, look_through
from tests.transfer import chat_samples as samples
from tests.transfer.sessions import everything

OPTIONS = Options(me=frozenset({"Fares"}))
RAW = orjson.dumps(samples.CHATGPT)


def looked(*paths: Path) -> ImportReport:
    return look_through(paths, OPTIONS, lambda _: None)


def refusal(*paths: Path) -> str:
    report = looked(*paths)
    assert report == ImportReport(refused=report.refused)
    (line,) = report.refused
    return line


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = b"[" + b" " * 2**25 + b"]"
    path = zipped(tmp_path / "x.zip", ("conversations.json", bomb), ("a.txt", b"x"))
    assert "times as large when it is unpacked" in refusal(path)
    photo = ("photo.jpg", random.Random(1).randbytes(2**18))  # which hides it in the whole
    path = zipped(tmp_path / "y.zip", ("conversations.json", bomb), photo)
    assert "y.zip/conversations.json becomes" in refusal(path)


@pytest.mark.parametrize("size", [10, 100_000_000])
def test_a_zip_file_that_lies_about_sizes_is_damaged(tmp_path: Path, size: int) -> None:
    path = zipped(tmp_path / "x.zip", ("conversations.json", RAW))
    raw = path.read_bytes()
    lie = raw.replace(struct.pack("<L", len(RAW)), struct.pack("<L", size))
    assert lie != raw
    path.write_bytes(lie)
    assert "x.zip" in refusal(path)


def test_names_that_lead_out_of_a_zip_file_are_not_followed(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "x.zip", ("../conversations.json", RAW), ("/etc/conversations-2.json", RAW)
    )
    report = looked(path)
    assert report.sessions == 0
    assert [line.rpartition(": ")[2] for line in report.refused[:2]] == [
        "has a name that leads out of the folder"
    ] * 2


def test_a_password_is_said_and_costs_one_file(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", ("conversations-1.json", RAW), ("conversations-2.json", RAW))
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    report = looked(path)
    assert "conversations-1.json cannot be read: it has a password" in report.refused[0]
    assert report.sessions == 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_twice_in_a_zip_file_is_not_guessed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", ("conversations.json", RAW), ("conversations.json", b"[]"))
    report = looked(path)
    assert report.sessions == 0
    assert "conversations.json: is there twice" in report.refused[0]


def test_a_link_in_a_zip_file_is_not_read(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("conversations.json")
    link.external_attr = 0o120777 << 16
    path = zipped(tmp_path / "x.zip", (link, b"/etc/passwd"))
    assert "conversations.json: is a link" in looked(path).refused[0]


def test_a_zip_file_of_zip_files_says_to_unpack_it(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", ("conversations.json", RAW))
    assert "unpack it" in refusal(zipped(tmp_path / "x.zip", ("in.zip", inner.read_bytes())))


def test_a_zip_file_with_all_in_one_folder_is_read(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "x.zip",
        ("my export/data/conversations.json", RAW),
        ("__MACOSX/my export/._conversations.json", b"\0"),
    )
    assert looked(path).sessions == 2


def test_other_compression_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("conversations.json", RAW)
    assert "compressed by method 14" in refusal(path)


def test_each_chat_of_a_zip_file_is_taken(tmp_path: Path) -> None:
    line = "31.12.25, 23:59 - Ada: x\n"
    chats = [(f"WhatsApp Chat with {name}.txt", line.encode()) for name in ("Bo", "Cy")]
    unclear = ("WhatsApp Chat with Al.txt", b"1.2.25, 23:59 - Ada: x\n")
    report = looked(zipped(tmp_path / "x.zip", unclear, *chats))
    assert (report.sessions, len(report.refused)) == (2, 1)
    assert "--dates" in report.refused[0]


def test_a_damaged_zip_file_never_fails_unexpectedly(tmp_path: Path) -> None:
    path = samples.zipped(samples.slack_folder, "")(tmp_path)
    raw, draw = path.read_bytes(), random.Random(2)
    for _ in range(300):
        spoiled = bytearray(raw)
        for _ in range(draw.randint(1, 4)):
            spoiled[draw.randrange(len(raw))] = draw.randrange(256)
        path.write_bytes(spoiled[: draw.choice([None, draw.randrange(len(raw))])])
        looked(path)


def test_links_lead_out_of_no_folder_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_bytes(RAW)
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "conversations.json").symlink_to(tmp_path / "outside.json")
    (folder / "conversations-2.json").symlink_to("conversations-2.json")
    (folder / "conversations-3.json").symlink_to("inside")
    (folder / "inside").write_bytes(RAW)
    (folder / "again").symlink_to(folder)
    report = looked(folder)
    assert report.sessions == 2
    assert len(report.refused) == 2
    assert {line.rpartition(": ")[2] for line in report.refused} == {
        "is a link to no file of the folder"
    }
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in refusal(tmp_path / "loop")


def test_a_channel_of_slack_leads_out_of_no_folder(tmp_path: Path) -> None:
    place = samples.slack_folder(tmp_path)
    (tmp_path / "fares").symlink_to(place / "fares")
    (place / "linked").symlink_to(tmp_path / "fares")
    (tmp_path / "private").mkdir()
    (place / "out").symlink_to(tmp_path / "private")
    names = ["../fares", "/etc", "..", ".", "", "out", "a\0b", "linked", "fares"]
    listed = [{"id": f"C{n}", "name": name} for n, name in enumerate(names)]
    (place / "channels.json").write_bytes(orjson.dumps(listed))
    report = looked(place)
    assert report.refused == []
    assert report.sessions == 4  # the last two, and a thread of each


@pytest.mark.parametrize("where", ["", "folder"])
def test_a_pipe_nobody_writes_to_does_not_block(tmp_path: Path, where: str) -> None:
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    os.mkfifo(folder / "conversations.json")
    assert ("neither" if where else "is empty") in refusal(
        folder if where else folder / "conversations.json"
    )


def test_devices_are_refused_and_folders_are_not_files(tmp_path: Path) -> None:
    assert "is a device" in refusal(Path("/dev/zero"))
    (tmp_path / "conversations.json").mkdir()
    assert "has neither" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "missing")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_any_encoding_of_unicode_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x"
    for said in (RAW.decode(), samples.WHATSAPP):
        if said.startswith(("[{", "{")) or encoding not in ("utf-16-le", "utf-16-be"):
            path.write_bytes(said.encode(encoding))
            assert looked(path).sessions in (1, 2), encoding
    zipped(tmp_path / "x.zip", ("conversations.json", RAW.decode().encode(encoding)))
    assert looked(tmp_path / "x.zip").sessions == 2


def test_text_of_no_encoding_keeps_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_bytes("31.12.25, 23:59 - Zoë: schön\r\n".encode("latin-1"))
    report = looked(path)
    assert (report.messages, report.not_kept) == (1, {"text that is not Unicode": 1})
    path.write_bytes(RAW.replace(b"38 EUR.", b"38 \xff EUR\x00."))
    report = looked(path)
    assert (report.sessions, report.refused) == (2, [])
    assert report.not_kept["text that is not Unicode, or numbers that JSON lacks"] == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\0" * 5000])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "conversations.json"
    path.write_bytes(content)
    assert refusal(path).endswith("is empty")


DOCUMENTS: dict[str, Any] = {
    "chatgpt": samples.CHATGPT,
    "claude": samples.CLAUDE,
    "telegram": samples.TELEGRAM,
    "telegram account": {"chats": {"list": [samples.TELEGRAM]}},
    "discord": samples.DISCORD,
}


@pytest.mark.parametrize("form", DOCUMENTS)
def test_a_document_cut_off_anywhere_says_so(form: str, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    for option in (0, orjson.OPT_INDENT_2):
        raw = orjson.dumps(DOCUMENTS[form], option=option)
        for size in range(1, len(raw), 1 + len(raw) // 150):
            path.write_bytes(raw[:size])
            report = looked(path)
            assert report.refused, raw[:size]
            if report.sessions and isinstance(DOCUMENTS[form], list):
                orjson.loads(raw[:size] + b"]")  # the conversation itself is whole
            else:
                assert report.sessions == 0 or form == "telegram account"


def test_what_is_before_the_cut_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    many = [{**samples.CLAUDE[0], "uuid": f"u{number}"} for number in range(30)]
    path.write_bytes(orjson.dumps(many)[:-20])
    report = looked(path)
    assert report.sessions == 29
    assert "is cut off at byte" in report.refused[0]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"uuid" "x"}', "is not JSON"),
        (b"null", "is not an export"),
        (b"[]", "is not an export"),
        (b"1e5", "is not an export"),
    ],
)
def test_a_bad_conversation_costs_only_itself(tmp_path: Path, bad: bytes, why: str) -> None:
    path, good = tmp_path / "x.json", orjson.dumps(samples.CLAUDE[0])
    other = good.replace(b'"u1"', b'"u2"')
    path.write_bytes(b"[" + bad + b"," + good + b"," + bad + b"," + other + b"]")
    report = looked(path)
    assert report.sessions == 2
    assert [("conversation 1" in line, "conversation 3" in line) for line in report.refused] == [
        (True, False),
        (False, True),
    ]
    assert why in report.refused[0]


@pytest.mark.parametrize(
    "value", [b"NaN", b"Infinity", b"-1e999", b"9" * 6000, b'"\\ud83d"', b'"\xff"', b"1" * 25]
)
def test_odd_values_cost_no_message(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "x.json"
    for field in (b'"create_time":1767225602.0', b'"model_slug":"m1"', b'"title":"Fares"'):
        name = field.partition(b":")[0]
        assert field in RAW
        path.write_bytes(RAW.replace(field, name + b":" + value))
        report = looked(path)
        assert (report.sessions, report.messages, report.refused) == (2, 4, []), field
        assert report.left_out == []


def test_a_name_that_is_twice_counts_as_the_last(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    first, rest = RAW.index(b'"mapping"'), RAW[1:-2]
    path.write_bytes(b"[" + rest[: first - 1] + b'"mapping":{},' + rest[first - 1 :] + b"}]")
    assert looked(path).sessions == 2


TIMES: list[Any] = [
    None, True, [], {}, "", "soon", -1, 0, 1e300, 10**18, "9999-99-99", "0000-01-01T00:00:00",
    "9999-12-31T23:59:59-23:59", "1969-12-31T00:00:00Z", 253402300800,
]  # fmt: skip


@pytest.mark.parametrize("at", TIMES, ids=repr)
def test_a_bad_time_costs_no_message(tmp_path: Path, at: Any) -> None:
    claude = [{**samples.CLAUDE[0], "chat_messages": [
        {**each, "created_at": at} for each in samples.CLAUDE[0]["chat_messages"]]}]  # fmt: skip
    chat = {**samples.TELEGRAM, "messages": [
        {**each, "date_unixtime": at, "date": at} for each in samples.TELEGRAM["messages"]
    ]}  # fmt: skip
    nanobot = [{**each, "timestamp": at} for each in samples.NANOBOT]
    writes = (samples.document(claude), samples.document(chat), samples.log(nanobot))
    for write in writes:
        report = looked(write(tmp_path))
        assert (report.messages, report.refused, report.left_out) == (2, [], [])


@settings(max_examples=60)
@given(st.text(min_size=1, max_size=40) | st.sampled_from(["../x", "a\0b", "\ud83d", "x" * 600]))
def test_any_id_is_a_key_or_is_refused(id_: str) -> None:
    key = Options().key("nanobot", id_)
    assert key in ("", f"nanobot_{id_}")


def test_a_circle_beside_a_conversation_is_kept(tmp_path: Path) -> None:
    nodes = {id_: samples.CHATGPT[0]["mapping"][id_] for id_ in ("r", "s", "a", "b")}
    said = {"role": "user"}, {"content_type": "text", "parts": ["round"]}
    for id_, parent in (("x", "y"), ("y", "x"), ("z", "z")):
        message = {"id": id_, "author": said[0], "content": said[1]}
        nodes[id_] = {"parent": parent, "message": message}
    value = [{**samples.CHATGPT[0], "mapping": nodes, "current_node": "b"}]
    store = f"sqlite://{tmp_path / 'store.db'}"
    path = samples.document(value)(tmp_path)
    import_files([path], store, OPTIONS, lambda _: None)
    kept = [each.content for _, said in everything(store).values() for each in said]
    assert sorted(kept) == ["38 EUR.", "How much?", "round", "round", "round"]


@pytest.mark.slow
def test_a_tree_that_branches_everywhere_is_not_squared(tmp_path: Path) -> None:
    nodes: dict[str, Any] = {}
    for number in range(2_000):
        for id_ in (f"n{number}", f"leaf{number}"):
            message = {"author": {"role": "user"}, "content": {"parts": [id_]}}
            nodes[id_] = {"parent": f"n{number - 1}", "message": message}
    path = samples.document([{"mapping": nodes, "id": "c", "current_node": "n1999"}])(tmp_path)
    report = looked(path)
    assert report.sessions == 2_001
    assert report.messages < 250_000
    assert report.not_kept["messages that a branch shares with others"] > 1_000_000


@pytest.mark.slow
def test_a_hundred_thousand_messages_are_one_conversation(tmp_path: Path) -> None:
    nodes = {
        str(n): {
            "parent": str(n - 1),
            "message": {"author": {"role": "user"}, "create_time": 1767225600 + n,
                        "content": {"parts": ["x"]}},
        }
        for n in range(100_000)
    }  # fmt: skip
    path = samples.document([{"mapping": nodes, "id": "c"}])(tmp_path)
    store = f"sqlite://{tmp_path / 'store.db'}"
    for _ in range(2):
        report = import_files([path], store, OPTIONS, lambda _: None)
    assert report == ImportReport(known=1)
    assert len(everything(store)["chatgpt_c"][1]) == 100_000


class Grows:
    """Appends to a file when something of it was read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, _: object) -> None:
        with self._path.open("ab") as file:
            file.write(orjson.dumps(samples.NANOBOT[1]) + b"\n")


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = samples.log(samples.NANOBOT)(tmp_path)
    report = look_through([path], OPTIONS, Grows(path))
    assert report.sessions == 1
    assert "changed while it was read" in report.left_out[0]


def test_what_comes_behind_the_messages_counts_too(tmp_path: Path) -> None:
    """As where another program has sorted the names."""
    for value, key in ((samples.TELEGRAM, "telegram_-10077"), (samples.DISCORD, "discord_5")):
        path = tmp_path / "x.json"
        path.write_bytes(orjson.dumps({name: value[name] for name in reversed(value)}))
        store = f"sqlite://{tmp_path / key}.db"
        report = import_files([path], store, OPTIONS, lambda _: None)
        assert report.messages == 2
        info, _ = everything(store)[key]
        assert info is not None
        assert info.name
