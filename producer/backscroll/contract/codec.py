"""How an operation becomes the payload of an RQ job, and back.

A job's payload is RQ's own: `[function, null, [], arguments]`, in JSON. `function_name` gives the
function, the job's id is the operation's id, and `decode` trusts nothing: whatever is not exactly
an operation raises `MalformedJobError` and never reaches a store.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

import orjson

import backscroll.contract.attachment_reading
import backscroll.contract.forks
import backscroll.contract.lifecycle
import backscroll.contract.reads
import backscroll.contract.splicing
import backscroll.contract.states
import backscroll.contract.tokens
import backscroll.contract.turns  # noqa: F401 - declares operations
from backscroll.contract.errors import InvalidInputError, MalformedJobError
from backscroll.contract.message_checks import MAX_OPERATION_BYTES
from backscroll.contract.operations import OPERATIONS, Operation
from backscroll.contract.validation import shown

FUNCTION_PREFIXES: Final = ("backscroll_worker.jobs.", "worker.jobs.")
"""Where a job's function is: the first is written, and both are read. The second is that of the
time before the packages had names of their own; jobs may be queued or spooled under it."""

_BY_FUNCTION: Final = {
    prefix + kind: operation
    for prefix in FUNCTION_PREFIXES
    for kind, operation in OPERATIONS.items()
}
_OLDER: Final = "; if a newer producer sent it, this worker is older: update the worker"
_FUNCTION: Final = re.compile(r"(?:backscroll_)?worker\.jobs\.([a-z][a-z_]{0,40})")
_SPOOLED: Final = b" "


def function_name(kind: str) -> str:
    """The name under which RQ finds the function for operations of that kind."""
    return FUNCTION_PREFIXES[0] + kind


def encode(operation: Operation) -> bytes:
    """The job payload of `operation`."""
    payload = orjson.dumps([function_name(operation.kind), None, [], operation.arguments()])
    return mark_spooled(payload) if operation.was_spooled else payload


def mark_spooled(payload: bytes) -> bytes:
    """The payload of a job that comes out of a spool, is sent again or is requeued: with a space
    behind it, which JSON ignores, so that workers of any version take it.
    """
    return payload if payload.endswith(_SPOOLED) else payload + _SPOOLED


def decode(op_id: str, payload: bytes | None) -> Operation:
    """The operation a job's payload stands for.

    Raises `MalformedJobError`, which says what is wrong with it.
    """
    return decode_unpacked(op_id, unpack(payload))


def decode_unpacked(op_id: str, data: bytes) -> Operation:
    """As `decode`, for what `unpack` returned."""
    call = _loads(data)
    if not isinstance(call, list) or len(call) != 4:
        raise MalformedJobError("the job's data is not [function, null, [], arguments]")
    return parse_call(op_id, *call, was_spooled=data.endswith(_SPOOLED))


def payload_json(payload: bytes) -> Any:
    """The JSON a job's payload holds, whatever it is.

    Raises `MalformedJobError` when it holds none.
    """
    return _loads(unpack(payload))


def unpack(payload: bytes | None) -> bytes:
    """The payload as it was sent: RQ compresses what it saves itself, which is so after a requeue.

    Raises `MalformedJobError` where there is none, or it is something else.
    """
    if payload is None:
        raise MalformedJobError("the job has no data")
    if payload[:1] == b"[":
        return payload
    try:
        return _inflate(payload)
    except zlib.error:
        raise MalformedJobError("the job's data is neither JSON nor compressed JSON") from None


def parse_call(
    op_id: str,
    function: object,
    instance: object,
    positional: object,
    named: object,
    *,
    was_spooled: bool = False,
) -> Operation:
    """The operation that a call of `function` with these arguments stands for.

    Raises `MalformedJobError` where there is none.
    """
    operation = _BY_FUNCTION.get(function) if isinstance(function, str) else None
    if operation is None:
        hint = _OLDER if isinstance(function, str) and _FUNCTION.fullmatch(function) else ""
        raise MalformedJobError(f"{shown(function)} is not a function a job may call{hint}")
    if instance is not None or positional != [] or not isinstance(named, dict):
        raise MalformedJobError(f"{function} takes named arguments only")
    try:
        parsed = operation.parse(op_id, named, was_spooled)  # which takes them out of it
    except InvalidInputError as error:
        hint = _OLDER if "unknown field" in str(error) else ""
        raise MalformedJobError(f"{function}: {error}{hint}") from None
    if named:
        names = ", ".join(sorted(map(repr, named)))[:200]
        raise MalformedJobError(f"{function}: unknown argument {names}{_OLDER}")
    return parsed


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        raise MalformedJobError("the job's data is not JSON") from None


def _inflate(payload: bytes) -> bytes:
    inflater = zlib.decompressobj()
    data = inflater.decompress(payload, 8 * MAX_OPERATION_BYTES)
    if inflater.unconsumed_tail:
        raise MalformedJobError(f"the job's data is larger than {8 * MAX_OPERATION_BYTES:,} bytes")
    return data
