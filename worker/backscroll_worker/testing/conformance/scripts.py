"""What every store promises of search in the world's scripts."""

from __future__ import annotations

import unicodedata

import pytest

from backscroll_worker.testing.stores import StoreUnderTest, found, say

NEEDS = "search"

UNSPACED = (
    "人工知能研究", "𠀀𠀁拡張", "カタカナ", "ㄅㄆㄇㄈ", "ㅋㅋㅋㅋ", "오늘날씨", "วันนี้อากาศ",
    "ສະບາຍດີ", "សួស្តីពិភព", "သင်နေကောင်း", "བཀྲཤིས", "ꦲꦏ꧀ꦱꦫꦗꦮ", "ᬅᬓ᭄ᬱᬭ", "ᨲ᩠ᩅᩫᨾᩮᩬᩥᨦ", "ᦺᦑᦟᦹᧉ", "ꪼꪕꪒꪾ",
    "ᮃᮊ᮪ᮞᮛ", "ꨌꩌꨨꨤ", "ꆈꌠꁱꂷ", "𗼇𗟲𗏁", "𛆁𛈬𛇤", "𓀀𓀁𓀂𓁐", "𒀀𒀁𒀂",
)  # fmt: skip

SPACED = (
    "Straße", "ΣΟΦΟΣ", "σοφός", "ışık", "İstanbul", "ﬁnal", "ᎣᏏᏲ", "თბილისი", "𐐔𐐯𐑅𐐨𐑉𐐯𐐻", "𞤀𞤣𞤤𞤢𞤥",
    "हिन्दी", "क़लम", "ক্ষো", "مُحَمَّد", "שָׁלוֹם", "ܫܠܵܡܵܐ", "ﻣﺮﺣﺒﺎ", "ＦＵＬＬ", "𝐌𝐚𝐭𝐡", "naïve",
)  # fmt: skip


@pytest.mark.parametrize("text", UNSPACED)
def test_any_part_of_writing_without_spaces_is_found(store: StoreUnderTest, text: str) -> None:
    say(store, "s", text, "something else")
    for form in ("NFC", "NFD", "NFKC"):
        whole = unicodedata.normalize(form, text)
        assert found(store, whole) == {text}, form
    for start in range(len(text) - 1):
        part = text[start : start + 2]
        if not any(map(unicodedata.combining, text[start : start + 3])):
            assert found(store, part) == {text}, part


@pytest.mark.parametrize("text", SPACED)
def test_a_word_is_found_in_every_form_and_case(store: StoreUnderTest, text: str) -> None:
    say(store, "s", f"before {text} after", "something else")
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        word = unicodedata.normalize(form, text)
        for asked in (word, word.upper(), word.lower()):
            assert found(store, asked) == {f"before {text} after"}, asked


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("мій", "мии"),
        ("мой", "мои"),
        ("ড়", "ড"),
        ("لڑکی", "لڑکے"),
        ("ビール", "ビル"),
        ("Müller", "mueller"),
        ("東京", "东京"),
    ],
)
def test_another_letter_is_not_found(store: StoreUnderTest, said: str, asked: str) -> None:
    say(store, "s", said, "something else")
    assert found(store, asked) == set()
    assert found(store, said) == {said}


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("an exam\u00adple", "example"),
        ("בית־ספר", "ספר"),
        ("کیک", "كيك"),
        ("مـرحبا", "مرحبا"),
        ("м\u02bcяч", "м'яч"),
        ("it\u2019s", "it's"),
        ("रोड १२३", "123"),
        ("رقم ٤٥٦", "456"),
        ("क्\u200dष", "क्ष"),
        ("\u202bعنوان\u202c", "عنوان"),
        ("a\u00a0b", "b"),
        ("👍🏽", "👍"),
        ("👩\u200d👧", "👧"),
        ("#naïve_tag @bob", "tag bob"),
        ("Łódź", "lodz"),
        ("smørrebrød", "smorrebrod"),
        ("Đà Nẵng", "da nang"),
        ("cœur æther", "coeur aether"),
        ("Þórður", "thordur"),
        ("ёлка", "елка"),
        ("нѐ ѝ", "не и"),
        ("ΟΔΟΣ όδος", "οδοσ"),
        ("أحمد إلى آخر ٱلله", "احمد الي اخر الله"),
        ("مدرسة", "مدرسه"),
        ("ہے", "هے"),
        ("خانۀ", "خانه"),
        ("می\u200cخواهم", "می خواهم"),
        ("סטארטאף", "סטארטאפ"),
        ("ייִדיש װאָס", "וואס"),
        ("क़लम ज़रा", "कलम जरा"),
        ("हिन्दी", "हिंदी"),
        ("पाँच", "पांच"),
        ("क्\u200cष", "क्ष"),
        ("ネコのｶﾞﾑ", "ねこ がむ"),
        ("ねこ", "ネコ"),
        ("๑๒๓ บาท", "123"),
        ("၄၅၆", "456"),
        ("１２３", "١٢٣"),
        ("1\ufe0f\u20e3", "1"),
        ("Auf\u200clage", "auflage"),
        ("foo\u200bbar", "foobar"),
        ("foo\u2060bar\ufeff", "foobar"),
        ("a\u2800b", "b"),
    ],
)
def test_what_is_written_differently_is_found(store: StoreUnderTest, said: str, asked: str) -> None:
    say(store, "s", said, "something else")
    assert found(store, asked) == {said}
