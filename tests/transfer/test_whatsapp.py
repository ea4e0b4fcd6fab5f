"""Chats of WhatsApp: their languages, what they have beside text, and their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from backscroll_worker.transfer.import_files import import_files
from tests.transfer.sessions import everything
from tests.transfer.taking import OPTIONS, looked


def test_a_chat_of_a_finnish_phone_is_read(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text("[31.12.2025 klo 18.05.09] Ada: x\n[1.1.2026 klo 6.05.09] Bo: y\n")
    assert looked(path).messages == 2


def test_lines_before_a_chat_do_not_hide_it(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text("Exported for you\n\n31.12.2025, 18:05 - Ada: x\n")
    assert looked(path).messages == 1


def test_a_chat_whose_times_are_in_an_unknown_form_is_named(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text("[31/12/2568 BE 18:05:09] Ada: x\n")
    (refused,) = looked(path).refused
    assert "looks like a chat of WhatsApp" in refused


@pytest.mark.parametrize(
    ("said", "content", "name"),
    [
        ("IMG-20251231-WA0001.jpg (file attached)\nLook", "Look", "IMG-20251231-WA0001.jpg"),
        ("My bill.pdf (Datei angehängt)", "", "My bill.pdf"),
        ("See it \u200e<attached: 13-PHOTO.jpg>", "See it", "13-PHOTO.jpg"),
        ("My bill.pdf (the old one)", "My bill.pdf (the old one)", None),
        ("\u200ePOLL:\nWhere?\n\u200eOPTION: Rome", "POLL:\nWhere?\n\u200eOPTION: Rome", None),
        ("\u200eLocation: https://example.org", "Location: https://example.org", None),
    ],
)
def test_what_a_whatsapp_message_has_beside_text_is_kept(
    tmp_path: Path, said: str, content: str, name: str | None
) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text(f"31.12.2025, 18:05 - Ada: {said}\n")
    store = f"sqlite://{tmp_path / 'store.db'}"
    import_files([path], store, OPTIONS, lambda _: None)
    ((_, (message,)),) = everything(store).values()
    assert message.content == content
    assert [each.name for each in message.attachments] == ([name] if name else [])


def test_chats_of_one_name_in_several_folders_are_several_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite://{tmp_path / 'store.db'}"
    for name in ("Ada", "Bo"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("_chat.txt").write_text(f"31.12.2025, 18:05 - {name}: x\n")
        import_files([Path("_chat.txt")], store, OPTIONS, lambda _: None)
    assert everything(store).keys() == {"whatsapp_Ada", "whatsapp_Bo"}


@pytest.mark.parametrize(
    "title",
    ["WhatsApp Chat with", "WhatsApp-Chat mit", "Chat de WhatsApp con", "Discussion WhatsApp avec"],
)
def test_a_chat_has_the_name_in_its_files_title(tmp_path: Path, title: str) -> None:
    path, store = tmp_path / f"{title} Ada.txt", f"sqlite://{tmp_path / 'store.db'}"
    path.write_text("31.12.2025, 18:05 - Ada: x\n")
    import_files([path], store, OPTIONS, lambda _: None)
    assert everything(store).keys() == {"whatsapp_Ada"}


def test_a_colon_in_a_groups_name_makes_no_author(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text('31.12.2025, 18:05 - Ada created group "Trip: to Rome"\n')
    assert looked(path).messages == 0
