"""Attachments beyond one store: through the queue, by commands, across stores, and kills."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from backscroll import AsyncProducer, Attachment, ChatMessage, InvalidInputError, Producer, Redact
from backscroll.contract.errors import StoreUnavailableError
from backscroll.contract.message_checks import Limits
from backscroll.contract.requests import Requests
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.retention import Retention
from backscroll_worker.maintenance.erase import erase as erase_everywhere
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.testing.fixtures import UrlAt
from backscroll_worker.testing.interruptions import killed_at
from backscroll_worker.testing.stores import Clock, open_tested, requests
from tests.cli.command import document, done, run
from tests.processes import running_worker, work_here

CAT, DOG = b"\x89PNG cat \0\xff" * 50, b"dog"
OF_CAT, OF_DOG = (hashlib.sha256(data).hexdigest() for data in (CAT, DOG))
MIB = 1024 * 1024


def picture(data: bytes = CAT, name: str = "cat.png") -> Attachment:
    return Attachment("image", name, "image/png", data=data)


def with_data(*data: bytes, content: str = "look") -> ChatMessage:
    return ChatMessage.user(content, attachments=[*map(picture, data)])


@pytest.fixture(params=["sqlite", "jsonl"])
def url_at(request: pytest.FixtureRequest) -> UrlAt:
    return lambda path: f"{request.param}://{path}"


def test_bytes_come_back_through_the_queue_to_both_producers(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    large = with_data(b"\xff" * (8 * MIB), content="large")

    async def ask(sha256: str) -> bytes | None:
        async with AsyncProducer(settings.redis_url) as producer:
            await producer.append("s", with_data(DOG))
            return await producer.attachment("s", sha256)

    with running_worker(settings, client, log), Producer(settings.redis_url) as producer:
        producer.append("s", with_data(CAT), large, ack="stored")
        first, second = producer.load("s")
        assert first.attachments[0] == replace(picture(), data=None, size=len(CAT), sha256=OF_CAT)
        assert producer.attachment("s", OF_CAT) == CAT == asyncio.run(ask(OF_CAT))
        assert producer.attachment("other", OF_CAT) is None
        sha256 = second.attachments[0].sha256
        assert sha256 is not None
        assert producer.attachment("s", sha256) == b"\xff" * (8 * MIB)
        (hit,) = producer.search("cat png", within="attachments", limit=1)
        assert hit.message.content == "look"


@pytest.mark.parametrize(
    ("attachments", "words"),
    [
        ([picture(b"x" * (8 * MIB + 1))], r"data: has 8,388,609 bytes; .* give its url"),
        ([picture(b"x" * 8 * MIB), picture(b"y" * 8 * MIB), picture()], "have .* the limit for"),
        ([Attachment("")], "kind: must not be empty"),
        ([Attachment("image", "a\nb")], "name: has the character"),
        ([Attachment("image", data="text")], "data: must be bytes, not str"),  # type: ignore[arg-type]
        (["cat.png"], "attachments: must be Attachment objects, not str"),
        ("cat.png", "attachments: must be a list of Attachment objects, not str"),
        (None, "attachments: must be a list of Attachment objects, not None"),
        ([picture()] * 33, "attachments: are 33; a message has at most 32"),
    ],
)
def test_what_cannot_be_attached_is_refused_at_once(attachments: object, words: str) -> None:
    message = ChatMessage("user", "x", attachments=attachments)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=words):
        Requests(Limits()).append("k", (message,))


def test_bytes_are_not_printed_and_names_are_redacted(settings: Settings) -> None:
    assert "PNG" not in repr(picture())
    card = "4111111111111111"
    attached = Attachment("image", f"{card}.png", "x", 1, f"https://x/{card}", CAT[:1], card)
    with Producer(settings.redis_url, redact=Redact()) as producer:
        producer.append("s", ChatMessage.user("x", attachments=[attached]))
    work_here(settings)
    with open_tested(settings.store, read_only=True) as store:
        ((stored,),) = (message.attachments for message in store.load("s"))
        assert (stored.name, stored.url) == ("[card number].png", "https://x/[card number]")
        assert (stored.platform_id, stored.size) == (card, 1)
        assert store.attachment("s", str(stored.sha256)) == CAT[:1]


def test_commands_show_search_and_write_attachments(settings: Settings, tmp_path: Path) -> None:
    with open_tested(settings.store) as store:
        store.append("s", with_data(CAT), ChatMessage.user("", attachments=[Attachment("voice")]))
    shown = done(settings, "load", "s")
    assert "  look\n  [image: cat.png]\n" in shown
    assert "  \n" not in shown  # of a message without words
    (loaded, _) = document(settings, "load", "s")
    assert loaded["attachments"][0]["sha256"] == OF_CAT
    assert run(settings, "attachment", "s", OF_CAT).stdout_bytes == CAT
    done(settings, "attachment", "s", OF_CAT, "--output", str(tmp_path / "cat.png"))
    assert (tmp_path / "cat.png").read_bytes() == CAT
    missing = run(settings, "attachment", "other", OF_CAT)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "cat.png" in done(settings, "search", "--in", "attachments", "cat")
    assert "1 file, " in done(settings, "stats")
    for form in ("markdown", "html"):
        shown = done(settings, "export", "--format", form)
        assert "image: cat" in shown
        assert "[voice]" in shown.replace("&#91;", "[").replace("&#93;", "]")
        assert "empty" not in shown.partition("</style>")[2] or form == "markdown"
    base64_cat = base64.b64encode(CAT).decode()
    assert base64_cat in done(settings, "export")
    bare = done(settings, "export", "--no-attachments")
    assert (base64_cat in bare, OF_CAT in bare) == (False, True)


def test_an_export_without_bytes_or_with_wrong_ones_is_taken_in_safely(
    settings: Settings, tmp_path: Path
) -> None:
    with open_tested(settings.store) as store:
        store.append("s", with_data(CAT))
    other = replace(settings, store=f"sqlite://{tmp_path / 'other.db'}")
    for line in (
        done(settings, "export").replace("iVBO", "iVBP"),
        done(settings, "export").replace("iVBO", "iV*O"),
        done(settings, "export").replace('"kind"', '"sort"'),
    ):
        refused = run(other, "import", "-", given=line)
        assert (refused.exit_code, "refused" in refused.output) == (1, True)
    done(other, "import", "-", given=done(settings, "export", "--no-attachments"))
    with open_tested(other.store) as store:
        ((attached,),) = (message.attachments for message in store.load("s"))
        assert (attached.name, attached.size, attached.sha256) == ("cat.png", len(CAT), None)
        assert store.verify(deep=True) == []


def test_migrate_takes_attachments_over(settings: Settings, tmp_path: Path) -> None:
    with open_tested(f"jsonl://{tmp_path / 'old'}") as store:
        store.append("s", with_data(CAT))
        before = store.load("s")
    done(settings, "migrate", str(tmp_path / "old"))
    with open_tested(settings.store) as store:
        assert (store.load("s"), store.attachment("s", OF_CAT)) == (before, CAT)


def test_a_backup_has_the_attachments_of_its_messages(
    settings: Settings, url_at: UrlAt, tmp_path: Path
) -> None:
    settings = replace(settings, store=url_at(tmp_path / "stores" / "store"))
    place = tmp_path / "copies" / "copy"
    place.parent.mkdir()
    for data, sha256 in ((CAT, OF_CAT), (DOG, OF_DOG)):
        with open_tested(settings.store) as store:
            store.clear("s")  # of which the bytes stay until a compaction
            store.append("s", with_data(data), ChatMessage("user", "x", {"sha256": "0" * 64}))
            said = store.load("s")
        done(settings, "backup", str(place), "--replace")
        with open_tested(url_at(place)) as copy:
            assert (copy.load("s"), copy.verify(deep=True)) == (said, [])
            assert copy.attachment("s", sha256) == data
            assert copy.totals().blobs == 1
    with open_tested(settings.store) as store:
        (store.blobs.path / OF_DOG[:2] / OF_DOG).unlink()
    refused = run(settings, "backup", str(place), "--replace")
    assert (refused.exit_code, OF_DOG in refused.output) == (ExitCode.STORE, True)
    with open_tested(url_at(place)) as copy:
        assert copy.attachment("s", OF_DOG) == DOG
    beside = run(settings, "backup", str(tmp_path / "stores" / "store-blobs" / "x"))
    assert beside.exit_code != 0


def test_an_erasure_takes_bytes_out_of_the_archive_and_its_own_job(
    url_at: UrlAt, tmp_path: Path, client: redis.Redis
) -> None:
    archive, clock = Archive(tmp_path / "archive"), Clock()
    with open_tested(url_at(tmp_path / "store"), clock=clock) as store:
        store.append("s", with_data(CAT))
        clock.advance(hours=2)
        finish(store.cleanup(Retention.of_hours(1.0), archive=archive))
        (file,) = archive.files()
        assert base64.b64encode(CAT) in b"".join(line for _, line, _ in file.lines())
        erase = requests.erase("s")
        finish(erase_everywhere(store.store, archive, client, "backscroll", erase))
        assert archive.files() == []
        assert store.totals().blobs == 0


def test_files_that_are_put_in_place_during_a_sweep_count(tmp_path: Path) -> None:
    with open_tested(f"jsonl://{tmp_path}") as store:
        for number in range(60):
            store.append(f"a{number}", with_data(b"%d" % number))
        is_moved = False
        for _ in store.compact(1):
            if store.blobs.spared is not None and not is_moved:
                for number in range(60):
                    content = (tmp_path / f"a{number}.jsonl").read_bytes()
                    (tmp_path / f"b{number}.jsonl").write_bytes(content)
                    store.delete(f"a{number}")
                is_moved = True
        assert is_moved
        assert store.totals().blobs == 60
        assert store.verify() == []


def test_rows_that_are_packed_keep_their_attachments(tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path / 'store'}") as store:
        filler = [ChatMessage.user("x" * 3_000)] * 19
        for number in range(40):
            ids = store.append("s", with_data(b"%d" % number), *filler)
            store.apply([requests.rollback("s", id_) for id_ in ids[number % 2 :: 2]])
        size = store.size_bytes()
        report = finish(store.compact(1))
        assert (report.blobs_removed, store.size_bytes() < size * 0.7) == (20, True)
        assert store.verify() == []
        attached = [each for message in store.load("s") for each in message.attachments]
        assert [store.attachment("s", str(each.sha256)) for each in attached] == [
            b"%d" % number for number in range(1, 40, 2)
        ]
        store.delete("s")
        assert finish(store.compact(1)).blobs_removed == 20


def test_killed_at_any_step_no_message_lacks_its_bytes(url_at: UrlAt, tmp_path: Path) -> None:
    step, is_killed = 0, True
    while is_killed:
        url = url_at(tmp_path / f"store{step}")
        with open_tested(url) as store:
            store.append("t", with_data(DOG))

        def live(url: str = url) -> None:
            with open_tested(url) as store:
                store.append("s", with_data(CAT))
                finish(store.store.erase(requests.erase("t")))

        is_killed = killed_at(step, live)
        with open_tested(url) as store:
            assert store.verify(deep=True) == []
            used = {
                each.sha256
                for key in ("s", "t")
                for message in store.load(key)
                for each in message.attachments
            }
            finish(store.compact(1))
            assert store.totals().blobs == len(used)
            assert not list(store.blobs.path.rglob(".*"))
            assert store.verify(deep=True) == []
        step += 3 if url.startswith("jsonl") else 2  # of some sixty, and of some twenty
    assert step > 7


def test_bytes_go_nowhere_when_the_store_is_moved_away_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, elsewhere, put = tmp_path / "store", tmp_path / "elsewhere", Blobs._put

    def moved_first(blobs: Blobs, sha256: str, data: bytes) -> None:
        path.rename(elsewhere)
        put(blobs, sha256, data)

    with open_tested(f"jsonl://{path}") as store:
        store.append("s", ChatMessage.user("hi"))
        monkeypatch.setattr(Blobs, "_put", moved_first)
        with pytest.raises(StoreUnavailableError):
            store.append("s", with_data(CAT))
        assert not path.exists()
        monkeypatch.undo()
        elsewhere.rename(path)
        store.append("s", with_data(CAT))
        assert store.attachment("s", OF_CAT) == CAT
