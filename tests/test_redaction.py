"""Redaction: no secret leaves the adapter, and what is no secret stays as it was."""

from __future__ import annotations

import asyncio
import re
import string
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from hypothesis import assume, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from backscroll import (
    AsyncProducer,
    ChatMessage,
    EarlierVersion,
    InvalidInputError,
    InvalidSettingError,
    Producer,
    Receipt,
    Redact,
    ServerUnavailableError,
)
from backscroll.contract.codec import decode
from backscroll.contract.operations import Append, Describe, Operation, Replace
from backscroll_worker.settings import Settings
from tests.budget import tries
from tests.cli.command import done
from tests.processes import contents, work_here
from tests.test_readme import python_blocks

CARD = "4111 1111 1111 1111"
BARE = "4111111111111111"
SECRET = ChatMessage.user(f"it is {CARD}", extra={"deep": [{"args": f'{{"n": "{BARE}"}}'}]})
redact = Redact()
often = fuzzing(max_examples=tries(60, deep=2_000), deadline=None)


def sent(client: redis.Redis) -> list[Operation]:
    """What the server holds, in order; no key or value of it has the card number."""
    for key in client.scan_iter():
        held: Any = client.hgetall(key) if client.type(key) == b"hash" else {}
        assert all(BARE.encode() not in value.replace(b" ", b"") for value in held.values())
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    jobs = [client.hget(b"rq:job:" + each, "data") for each in ids]
    return [decode(each.decode(), job) for each, job in zip(ids, jobs, strict=True)]  # type: ignore[arg-type]


@pytest.fixture
def redacting(settings: Settings) -> Iterator[Producer]:
    with Producer(settings.redis_url, redact=redact, timeout_seconds=1) as producer:
        yield producer


def test_all_texts_of_a_message_are_redacted(redacting: Producer, client: redis.Redis) -> None:
    redacting.append("k", SECRET, ChatMessage.tool(CARD))
    redacting.replace("k", SECRET)
    append, replace = sent(client)
    assert isinstance(append, Append)
    assert isinstance(replace, Replace)
    assert append.messages[0].content == replace.message.content == "it is [card number]"
    assert append.messages[0].extra == {"deep": [{"args": '{"n": "[card number]"}'}]}
    assert append.messages[1] == ChatMessage.tool("[card number]")


def test_asyncio_redacts_as_well(settings: Settings, client: redis.Redis) -> None:
    async def talk() -> None:
        async with AsyncProducer(settings.redis_url, redact=redact) as producer:
            await asyncio.gather(*[producer.append("k", SECRET) for _ in range(3)])

    asyncio.run(talk())
    assert len(sent(client)) == 3


def test_a_sessions_name_is_redacted_and_what_it_is_found_by_is_not(
    redacting: Producer, client: redis.Redis
) -> None:
    digits = Redact(patterns={"n": "[0-9]+"})
    with Producer(redacting.url, redact=digits) as producer:
        producer.describe("k1", name="trip 7", sender="42", pinned=True, meta={"note": "room 8"})
        producer.append("k1", ChatMessage("role2", "3"), session={"name": "4", "room": "5"})
    describe, append = sent(client)
    assert isinstance(describe, Describe)
    assert isinstance(append, Append)
    own = {"note": "room [n]"}
    said = {"name": "trip [n]", "sender": "42", "pinned": True, "meta": own}
    assert describe.attributes == said
    assert append.session == {"name": "[n]", "room": "5"}
    assert (append.key, append.messages) == ("k1", (ChatMessage("role2", "[n]"),))


def test_numbers_and_keys_of_objects_are_redacted(redacting: Producer, client: redis.Redis) -> None:
    extra = {"n": int(BARE), "x": 1.5, "on": True, BARE: 1, CARD: 2, "[card number]": 3}
    redacting.append("k", ChatMessage.user("", extra=extra))
    (append,) = sent(client)
    assert isinstance(append, Append)
    assert append.messages[0].extra == {
        "n": "[card number]", "x": 1.5, "on": True, "[card number] (2)": 1,
        "[card number] (3)": 2, "[card number]": 3,
    }  # fmt: skip


def test_the_spool_holds_only_what_is_redacted(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody"
    with Producer(url, retries=0, spool=tmp_path / "spool", redact=redact) as producer:
        assert producer.append("k", SECRET).spooled
        written = b"".join(path.read_bytes() for path in tmp_path.glob("spool*") if path.is_file())
    assert b"[card number]" in written
    assert BARE.encode() not in written
    assert CARD.encode() not in written


def test_an_error_carries_the_redacted_operation(tmp_path: Path) -> None:
    earlier = EarlierVersion("user", CARD, None, SECRET.created_at)  # type: ignore[arg-type]
    message = ChatMessage("user", CARD, edits=(earlier,))
    with (
        Producer(f"unix://{tmp_path}/nobody", retries=0, redact=redact) as producer,
        pytest.raises(ServerUnavailableError) as caught,
    ):
        producer.append("k", message)
    assert "4111" not in repr(caught.value.operation)


def test_an_operation_that_is_sent_again_is_redacted(
    redacting: Producer, tmp_path: Path, client: redis.Redis
) -> None:
    with (
        Producer(f"unix://{tmp_path}/nobody", retries=0) as producer,
        pytest.raises(ServerUnavailableError) as caught,
    ):
        producer.append("k", SECRET)
    redacting.send(caught.value.operation)
    redacting.send(caught.value.operation)
    assert len(sent(client)) == 1


def test_a_dedup_key_counts_once_with_and_without_a_policy(
    redacting: Producer, settings: Settings
) -> None:
    with Producer(redacting.url) as plain:
        first = redacting.append("k", SECRET, dedup_key="7")
        assert plain.append("k", SECRET, dedup_key="7") == first
    assert redacting.append("k", SECRET, dedup_key="7") == first
    work_here(settings)
    assert contents(settings, "k") == ["it is [card number]"]


def raises(error: Exception) -> Callable[[str], str]:
    def policy(text: str) -> str:
        raise error

    return policy


@pytest.mark.parametrize("error", [KeyError(CARD), ValueError(CARD), TypeError(CARD)])
def test_a_policy_that_fails_sends_nothing_and_repeats_nothing(
    error: Exception, settings: Settings, client: redis.Redis
) -> None:
    with Producer(settings.redis_url, redact=raises(error)) as producer:
        with pytest.raises(InvalidInputError, match=type(error).__name__) as caught:
            producer.append("k", SECRET)
        assert __file__ in str(caught.value)
        assert "4111" not in str(caught.value)
    assert sent(client) == []


def test_any_other_exception_of_a_policy_comes_through(settings: Settings) -> None:
    with (
        Producer(settings.redis_url, redact=raises(TimeoutError("mine"))) as producer,
        pytest.raises(TimeoutError, match="mine"),
    ):
        producer.append("k", SECRET)


@pytest.mark.parametrize("answer", [None, b"x", int(BARE), SECRET, "\ud800", "x" * 101])
def test_an_answer_that_cannot_be_sent_is_refused(
    answer: Any, settings: Settings, client: redis.Redis
) -> None:
    with Producer(settings.redis_url, redact=lambda _: answer, max_message_bytes=100) as producer:
        for call in (producer.append, producer.replace):
            with pytest.raises(InvalidInputError) as caught:
                call("k", ChatMessage.user("hi"))
            assert "4111" not in str(caught.value)
    assert sent(client) == []


async def _async_policy(text: str) -> str:
    return text


@pytest.mark.parametrize("policy", [True, "x", Redact, str, _async_policy, re.compile("x")])
def test_what_is_not_a_policy_is_refused_at_once(policy: Any) -> None:
    with pytest.raises(InvalidSettingError, match="redact"):
        Producer("redis://nobody", redact=policy)


@pytest.mark.parametrize("patterns", [{"x": "("}, {"x": "a*"}, {"": "a"}, {"x": 7}, {"x": b"a"}])
def test_a_pattern_that_is_not_valid_is_refused(patterns: Any) -> None:
    with pytest.raises(InvalidSettingError, match="patterns"):
        Redact(patterns=patterns)


def test_the_setting_is_for_producers_and_commands(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts() -> list[str]:
        return [each.messages[0].content for each in sent(client) if isinstance(each, Append)]

    monkeypatch.setenv("BACKSCROLL_REDACT", "1")
    done(settings, "append", "k", "user", CARD)
    with Producer(settings.redis_url) as producer:
        producer.append("k", ChatMessage.user(CARD))
    with Producer(settings.redis_url, redact=lambda _: "mine") as producer:
        producer.append("k", ChatMessage.user(CARD))
    assert texts() == ["[card number]", "[card number]", "mine"]


def test_the_code_of_the_redaction_page_does_what_it_says(
    server_url: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"Producer": Producer, "Redact": Redact, "ChatMessage": ChatMessage}
    names |= {"re": re, "url": server_url}
    for code in python_blocks("docs/redaction.md"):
        exec(code, names)  # noqa: S102 - it is our document
        receipt = names["history"].append("k", ChatMessage.user("a@b.c"))
        assert isinstance(receipt, Receipt)
        names["history"].close()
    assert capsys.readouterr().out == "Ask [staff number]\n"
    work_here(settings)
    assert contents(settings, "k") == ["a@b.c", "[mail]"]
    assert contents(settings, "support_7") == ["My card is [card number], please help"]


def card_number(prefix: str, length: int, rest: str) -> str:
    """A number that passes the check by Luhn."""
    body = (prefix + rest)[: length - 1]
    doubled = [int(digit) * 2 for digit in body[::-2]]
    total = sum(each - 9 * (each > 9) for each in doubled) + sum(map(int, body[-2::-2]))
    return body + str(-total % 10)


ISSUED = [
    ("4", 13), ("4", 16), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16),
    ("34", 15), ("37", 15), ("300", 14), ("3095", 16), ("36", 14), ("38", 19), ("6011", 16),
    ("644", 16), ("65", 19), ("3528", 16), ("3589", 16), ("62", 16), ("62", 19), ("5018", 13),
    ("6759", 18), ("2200", 16), ("2204", 19), ("508", 16), ("607", 16),
]  # fmt: skip
SEPARATORS = ["", " ", "-", " - ", ".", "\u00a0", "\u202f", "\u2013", "\u200b", "\u00ad", "  "]
SCRIPTS = ["0", "٠", "۰", "०", "๐", "0"]


@st.composite
def written(draw: st.DrawFn) -> str:
    """A card number in any grouping, in the digits of any script."""
    prefix, length = draw(st.sampled_from(ISSUED))
    digits = card_number(prefix, length, draw(st.text("0123456789", min_size=19, max_size=19)))
    cuts = draw(st.sets(st.integers(1, length - 1), max_size=18))
    if length == 13 and cuts:
        cuts = {4} | {cut for cut in cuts if cut > 4}
    zero = ord(draw(st.sampled_from(SCRIPTS)))
    places = [0, *sorted(cuts), length]
    groups = [digits[one:two] for one, two in pairwise(places)]
    text = draw(st.sampled_from(SEPARATORS)).join(groups)
    return re.sub("[0-9]", lambda found: chr(zero + int(found[0])), text)


@given(written(), st.sampled_from(["", "card: ", "卡号", "(", r'{"a": "\n', r"\u53f7", "Nr. "]),
       st.sampled_from(["", " 12/27 123", "。", ")", r"\n", ".", ", thanks"]))  # fmt: skip
@often
def test_no_card_number_survives_in_any_grouping(card: str, before: str, after: str) -> None:
    said = redact(before + card + after)
    assert said.startswith(f"{before}[card number]")
    rest = said.removeprefix(f"{before}[card number]")
    assert sum(character.isdecimal() for character in rest) <= 7


@given(st.text(string.ascii_letters + "äß漢字 \n.,:;!?()-'\"_/@#+0123456789", max_size=300))
@often
def test_ordinary_text_stays_as_it_was(text: str) -> None:
    assume(not re.search(r"[\d .-]{13}|[\w/+=.-]{16}", text))
    assert redact(text) == text


PARTS = [
    "sk-",
    "eyJ",
    "AKIA",
    "Bearer ",
    "A1b2C3d4E5f6G7h8I9j0K",
    "\\n",
    "-----BEGIN PRIVATE KEY-----",
]


@given(st.lists(written() | st.sampled_from(PARTS) | st.text("a1. ", max_size=4), max_size=5))
@often
def test_redacting_again_changes_nothing(parts: list[str]) -> None:
    once = redact("".join(parts))
    assert redact(once) == once


HEX, LETTERS = "0123456789abcdef" * 4, "aB3dE6gH9jK2mN5pQ8sT" * 4
KEYS = [
    "sk-" + LETTERS[:48], "sk-proj-" + LETTERS, "sk-ant-api03-" + LETTERS + "-_AA",
    "ghp_" + LETTERS[:36],
    "ghs_" + LETTERS[:36], f"github_pat_{LETTERS[:22]}_{LETTERS[:59]}",
    "xoxb-123456789012-" + LETTERS[:24],
    "xapp-1-A0123-" + HEX, "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "AIza" + LETTERS[:35],
    "https://hooks.slack.com/services/T00000000/B00000000/" + LETTERS[:24], "glpat-" + LETTERS[:20],
    "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11", "hf_" + LETTERS[:34], "sk_live_" + LETTERS[:24],
    "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs", "npm_" + LETTERS[:36],
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0." + LETTERS[:43],
    "SG." + LETTERS[:22] + "." + LETTERS[:43],
    "https://discord.com/api/webhooks/123456789012345678/" + LETTERS[:68],
    "pypi-AgEIcHlwaS5vcmc" + LETTERS,
    "Bearer " + LETTERS[:30], "Authorization: Basic dXNlcjpwYXNzd29yZA==",
    "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
]  # fmt: skip
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,{HEX[:32]}\n\n{LETTERS}\n{LETTERS}\n"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:12])
def test_no_api_key_survives(key: str) -> None:
    for before in ["", "my key is: ", '{"k": "', r'{"k": "\n', "key=", "我的", r"\u53f7", "%3D"]:
        said = redact(f'{before}{key}"')
        assert said.startswith(before)
        assert said.endswith('[API key]"')
        assert key[-12:] not in said


def test_a_private_key_goes_whole_and_its_beginning_too() -> None:
    whole = f"{PEM}abc=\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a {whole} b {whole} c") == "a [private key] b [private key] c"
    assert redact(orjson.dumps(whole).decode()) == '"[private key]"'
    unfinished = f"-----BEGIN PRIVATE KEY-----\n{LETTERS}\nabc"
    assert redact(f"a {unfinished}") == "a [private key]"
    assert redact('It begins "-----BEGIN PRIVATE KEY-----".') == 'It begins "[private key]".'


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112", "1764358709123", "1764358709123456", "1764358709123456789",
        "2026-11-28 19:38:29.123456", "20261128193829", "0.4539578763621486", "id_4111111111111111",
        "4111111111111111a", "74111111111111111123", "<@620123456789012341>", "+4915112345674",
        "12345678-1234-4123-8123-123456789012", "49 151 12345674", "sk-spinkit-circle-fade-dot",
        "risk-assessment-2026-and-further-papers", "the bearer of authentication-and-more", "sk-…",
        "eyJ", "AKIA", "https://example.com/status/1234567890123456789",
        "52.18.233.104 52.18.233.105",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_cards_are_found_anywhere_among_thousands_of_groups() -> None:
    for before in range(990, 1_010):
        assert redact("7 " * before + f"{CARD} 1") == "7 " * before + "[card number] 1"
    many = " ".join([CARD] * 3_000)
    assert redact(many) == " ".join(["[card number]"] * 3_000)
    fraction = "7 " * 999 + "7.4111111111111111"
    assert redact(fraction) == fraction


def test_card_numbers_and_api_keys_can_be_left_alone() -> None:
    text = f"{CARD} {KEYS[0]}"
    assert Redact(card_numbers=False)(text) == f"{CARD} [API key]"
    assert Redact(api_keys=False)(text) == f"[card number] {KEYS[0]}"


HOSTILE = [
    "4", "4 ", "4-4 ", "36", "3 6 ", "sk-", "-sk-a", "-eyJ", "eyJaaaaaaaaaaa.", "Bearer ",
    "bearer.a",
    "ghp_", "M.", "MAAA", "1:", "123456:", "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----a-",
    "secret_access_key=", "\\u1111", "SG.aaaaaaaaaaaaaaaaaaaaaa", "\u0661", "authorization:",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_the_time_grows_with_the_text_only(unit: str) -> None:
    def seconds(size: int) -> float:
        text, spent = unit * (size // len(unit)), []
        for _ in range(3):
            began = time.thread_time()
            redact(text)
            spent.append(time.thread_time() - began)
        return min(spent)

    assert seconds(16_384) < 40 * max(seconds(1_024), 1e-4)  # 256 times, if it grew with the square
