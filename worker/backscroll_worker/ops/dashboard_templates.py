"""rq-dashboard's templates and scripts, made to run under a policy that forbids inline script.

Nothing that comes from the server or from the address is put into a script but as JSON, or into a
page but as text. What Underscore would compile in the browser, by `eval`, is compiled here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from jinja2.ext import Extension
from rq_dashboard import web

WAITING: Final = ("queued", "started")

_ROOT: Final = Path(web.__file__).parent / "templates"
_STYLE: Final = re.compile(r' style="([^"]*)"')
_TEMPLATE: Final = re.compile(
    r'<script name="([\w-]+)" type="text/template">(.*?)</script>', re.DOTALL
)
_JINJA_OUTPUT: Final = re.compile(
    r"""(['"]?)\{\{\s*(.*?)\s*(?:\|\s*tojson\s*\|\s*safe)?\s*\}\}\1"""
)
_BY_JQUERY: Final = re.compile(r"<%=\s*\$\('<div/>'\)\.text\((.*?)\)\.html\(\)\s*%>")
_TAG: Final = re.compile(r"<%(-?)(.*?)%>", re.DOTALL)
_SCRIPTS: Final = "{% block content_scripts %}"
# rq-dashboard says nothing when a button's request is refused.
_OWN_SCRIPT: Final = (
    "_.template = function(name) { return backscroll[name.trim()]; };"
    "$(document).ajaxError(function(event, reply, sent) {"
    " if (sent.type === 'POST') { alert(reply.responseText); } });"
)


class SafeTemplates(Extension):
    """Changes each template's source before Jinja sees it."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The source, with every output escaped for its place and some buttons removed."""
        if str(name).endswith((".js", "inline_js.html")):
            source = _JINJA_OUTPUT.sub(r"{{ (\2)|tojson }}", source)
            return source.replace(".data('job-id')", ".attr('data-job-id')")  # jQuery reads JSON
        source = source.replace(
            "{% if enable_delete %}",
            f"{{% if enable_delete and registry_name not in {WAITING} %}}",
        )
        source = source.replace("{% if registry_name == 'queued' %}", "{% if false %}")
        source = _TEMPLATE.sub(lambda found: _compiled(found[1], found[2]), source)
        source = _STYLE.sub(r' data-style="\1"', source)
        source = source.replace("</head>", f"{_styles()}</head>")
        source = re.sub(r"<script (?=src=|type=.text/javascript)", _with_nonce("script"), source)
        return source.replace(_SCRIPTS, f"{_OWN_SCRIPT}{_SCRIPTS}")


def _with_nonce(tag: str) -> str:
    return f'<{tag} nonce="{{{{ csp_nonce }}}}" '


def _styles() -> str:
    """The style attributes of all templates as one sheet; the policy forbids attributes."""
    found = {
        style
        for path in _ROOT.rglob("*.html")
        for style in _STYLE.findall(path.read_text(encoding="utf-8"))
    }
    rules = "".join(f'[data-style="{style}"]{{{style}}}' for style in sorted(found) if style)
    return f"{_with_nonce('style')}>{rules}</style>"


def _compiled(name: str, source: str) -> str:
    """What Underscore would make of a template in the browser, under its name."""
    source = _BY_JQUERY.sub(r"<%- \1 %>", source).replace("<%=", "<%-")
    if "<%" not in source:
        return f'<script name="{name}" type="text/template">{source}</script>'
    body, end = "", 0
    for tag in _TAG.finditer(source):
        body += _text(source[end : tag.start()])
        body += f"p += _.escape({tag[2]});\n" if tag[1] else f"{tag[2]}\n"
        end = tag.end()
    body += _text(source[end:])
    return (
        f'<script name="{name}" type="text/template">{name}</script>'
        f"{_with_nonce('script')}>(window.backscroll = window.backscroll || {{}})"
        f'["{name}"] = function(obj) {{ var p = ""; with (obj || {{}}) {{\n{body}}} return p; }};'
        "</script>"
    )


def _text(text: str) -> str:
    return f"p += {json.dumps(text)};\n" if text else ""
