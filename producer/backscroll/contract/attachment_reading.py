"""The verb for the bytes of an attachment, and reading the answer."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

from backscroll.contract.answers import Unencoded
from backscroll.contract.attachment_checks import check_sha256
from backscroll.contract.attachments import from_base64
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.forms import Form
from backscroll.contract.operations import Read, operation

_SHA256: Final = Form(lambda name, value, _limits: check_sha256(name, value), check_sha256)


@operation
class GetAttachment(Read):
    """The bytes with that SHA-256, if a message of the session has them attached; None if not."""

    kind = "attachment"
    key: str
    sha256: Annotated[str, _SHA256]


def answered_attachment(operation: GetAttachment, value: Any) -> bytes | None:
    """The bytes in an answer; raises `OperationRefusedError` where they are not those asked for."""
    if isinstance(value, Unencoded):
        return value.answer  # type: ignore[no-any-return]
    if value is None:
        return None
    try:
        data = from_base64(value)
    except (TypeError, ValueError):
        data = b""
    if hashlib.sha256(data).hexdigest() != operation.sha256:
        raise OperationRefusedError("the worker's answer has other bytes than those asked for")
    return data
