"""API keys in a text, by the forms that their issuers document, and private keys (RFC 7468).

A form begins with a literal where the issuer gave it one, so that a text without that is not looked
at twice. No form can fail after having read far: a hostile text takes no more than its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from backscroll.redaction.edges import begins


class _Form(NamedTuple):
    """A key is looked for where a text has the `hint`; the group `kept` stays."""

    hint: str
    pattern: re.Pattern[str]


def _after(prefix: str, rest: str) -> _Form:
    return _Form(prefix, re.compile(begins(re.escape(prefix)) + rest))


def _value_of(hint: str, name: str, rest: str) -> Iterator[_Form]:
    """A key that only its name shows to be one, in small letters or capitals."""
    pattern = re.compile(f"(?P<kept>{name}){rest}", re.IGNORECASE)
    return (_Form(each, pattern) for each in (hint, hint.upper()))


_URL_SAFE: Final = "[A-Za-z0-9_-]"
_BASE64: Final = "[A-Za-z0-9+/=]"
_QUOTE: Final = r"[\"'\\\s]{0,6}"  # and spaces

_FORMS: Final = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek and others. A name in small letters is none (sk-cube).
    _after("sk-", f"(?=[a-z_-]{{0,40}}+[A-Z0-9]){_URL_SAFE}{{20,}}"),
    _after("gsk_", "[A-Za-z0-9]{40,}"),  # Groq
    _after("xai-", "[A-Za-z0-9]{40,}"),
    _after("pplx-", "[A-Za-z0-9]{40,}"),  # Perplexity
    _after("hf_", "[A-Za-z0-9]{30,}"),  # Hugging Face
    _after("r8_", "[A-Za-z0-9]{30,}"),  # Replicate
    # GitHub says up to 255 characters; an installation's token may have a JWT within.
    *(_after(f"gh{kind}_", rf"{_URL_SAFE}{{36,}}(?:\.{_URL_SAFE}{{16,}})*+") for kind in "oprsu"),
    _after("github_pat_", "[A-Za-z0-9_]{40,}"),
    _after("glpat-", rf"{_URL_SAFE}{{20,}}(?:\.{_URL_SAFE}+)*+"),  # GitLab
    _after("npm_", "[A-Za-z0-9]{36,}"),
    _after("pypi-AgE", f"{_URL_SAFE}{{50,}}"),
    _after("xox", "[a-z]-[A-Za-z0-9%-]{10,}"),  # Slack
    _after("xapp-", "[A-Za-z0-9-]{10,}"),
    _after("hooks.slack.com/", f"(?:services|workflows|triggers)/{_URL_SAFE}[A-Za-z0-9_/-]{{8,}}"),
    _after("discord.com/", f"api/webhooks/[0-9]{{15,20}}/{_URL_SAFE}{{20,}}"),
    _after("discordapp.com/", f"api/webhooks/[0-9]{{15,20}}/{_URL_SAFE}{{20,}}"),
    # Discord's bots: the id in Base64, a time, a signature.
    _Form(
        ".",
        re.compile(rf"[MNO]{_URL_SAFE}{{22,27}}\.{_URL_SAFE}{{6}}\.{_URL_SAFE}{{27,40}}"),
    ),
    # Telegram's bots; in a URL the word "bot" comes before. An escape's digits are not its own.
    _Form(
        ":",
        re.compile(
            r"(?P<kept>(?:\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2})?)"
            f"[0-9]{{6,12}}:{_URL_SAFE}{{34,}}"
        ),
    ),
    _after("AKIA", "[A-Z0-9]{16}(?![A-Za-z0-9])"),  # AWS, and what belongs to it
    _after("ASIA", "[A-Z0-9]{16}(?![A-Za-z0-9])"),
    *_value_of(
        "ecret", rf"secret_?access_?key{_QUOTE}[=:]{_QUOTE}", "[A-Z0-9+/]{40}(?![A-Z0-9+/=])"
    ),
    _after("AIza", f"{_URL_SAFE}{{35}}"),  # Google
    _after("ya29.", f"{_URL_SAFE}{{20,}}"),
    _after("GOCSPX-", f"{_URL_SAFE}{{28}}"),
    _after("sk_", "(?:live|test)_[A-Za-z0-9]{10,}"),  # Stripe
    _after("rk_", "(?:live|test)_[A-Za-z0-9]{10,}"),
    _after("whsec_", "[A-Za-z0-9+/]{20,}=*"),
    _after("SG.", rf"{_URL_SAFE}{{16,32}}\.{_URL_SAFE}{{16,}}"),  # SendGrid
    _after("shp", "(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}"),  # Shopify
    _after("dop_v1_", "[0-9a-f]{64}"),  # DigitalOcean
    # JWT (RFC 7519): the header is JSON, so that its Base64 begins with eyJ.
    _Form(
        "eyJ",
        re.compile(begins("eyJ", _URL_SAFE) + rf"{_URL_SAFE}{{10,}}+(?:\.{_URL_SAFE}*+){{2,4}}"),
    ),
    # RFC 6750. Other long words after "bearer" have no digit.
    *_value_of("earer", r"bearer\s{1,3}", r"(?=[A-Z._~+/-]{0,100}[0-9])[A-Z0-9._~+/-]{16,}=*"),
    # RFC 7617
    *_value_of("asic", rf"authorization{_QUOTE}:{_QUOTE}basic\s{{1,3}}", f"{_BASE64}{{8,}}"),
)

# To its END; without one (a reply that is still being written), what looks like Base64.
_END_OF_LINE: Final = r"(?:\s|\\[nr])*+"
_PRIVATE_KEY: Final = re.compile(
    "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    "(?:[^-]*+(?:-(?!----)[^-]*+)*+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rf"|(?:{_END_OF_LINE}{_BASE64}{{16,}}+)*+(?:{_END_OF_LINE}{_BASE64}*+\Z)?)"
)


def without_api_keys(text: str, instead: str) -> str:
    """`text` with `instead` in the place of each API key."""
    for hint, pattern in _FORMS:
        if hint in text:
            text = pattern.sub(lambda found: found.groupdict().get("kept", "") + instead, text)
    return text


def without_private_keys(text: str, instead: str) -> str:
    """`text` with `instead` in the place of each private key in PEM."""
    return _PRIVATE_KEY.sub(lambda _: instead, text) if "PRIVATE KEY" in text else text
