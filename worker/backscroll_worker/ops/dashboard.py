"""The web page on which an operator sees queue, workers and failed jobs: rq-dashboard, made safe.

rq-dashboard reads some jobs as pickles, writes what a job holds into its pages as HTML, and lets
any web site that the operator visits press its buttons. Here it reads JSON only, escapes what it
shows, and deletes nothing that still waits to be stored.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import secrets
import signal
import socket
from contextlib import suppress
from copy import copy
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import redis
import rq.serializers

from backscroll.contract.errors import InvalidSettingError
from backscroll.transport.connection import connect, explain, hide_password, is_forbidden
from backscroll.transport.rq_protocol import WORKERS_KEY, OrjsonSerializer, in_flight_key, queue_key
from backscroll_worker.settings import Settings

try:
    import waitress
    from flask import Flask, Response, abort, g, request
    from rq import Queue, Worker
    from rq.exceptions import NoSuchJobError
    from rq.job import Job
    from rq_dashboard import default_settings, web
    from werkzeug.exceptions import HTTPException

    from backscroll_worker.ops.dashboard_templates import WAITING, SafeTemplates
except ImportError as error:
    raise InvalidSettingError(
        f"the dashboard is not installed ({error}); pip install 'backscroll[ops]'"
    ) from error

log = logging.getLogger("backscroll.dashboard")

_REGISTRIES: Final = (
    "queued", "started", "deferred", "scheduled", "finished", "failed", "canceled",
)  # fmt: skip
_NAMES: Final = ("LRANGE", "SMEMBERS", "ZRANGE")
_EMPTY: Final[dict[str, Any]] = {
    "LRANGE": [], "SMEMBERS": [], "ZRANGE": [], "XREVRANGE": [],
    "LLEN": 0, "ZCARD": 0, "HGET": None, "HGETALL": {},
}  # fmt: skip
_UNREADABLE: Final = "cannot be read"
_PLAIN: Final = {"Content-Type": "text/plain; charset=utf-8"}
_LOOKING: Final = ("GET", "HEAD", "OPTIONS")


class LookingClient(redis.Redis):
    """Lets a page be seen whatever else lies under RQ's keys, also by a user who may only read.

    RQ takes jobs and workers off its lists when it finds them gone while looking.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's, but a key of another kind is empty, and no name is other than UTF-8."""
        command = str(args[0]).upper()
        try:
            answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoPermissionError:
            if command in ("LREM", "SREM") and request.method in _LOOKING:
                return 0  # RQ's own cleanup
            raise
        except redis.ResponseError as error:
            if command in _EMPTY and str(error).startswith("WRONGTYPE"):
                return copy(_EMPTY[command])
            raise
        return list(filter(_is_text, answer)) if command in _NAMES else answer


class _IfReadable(suppress):
    """A block that ends, and what is behind it follows, where RQ cannot read what it finds."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return not isinstance(error, redis.RedisError) and super().__exit__(kind, error, trace)


_if_readable: Final = _IfReadable(Exception)


class TolerantQueue(Queue):
    """Shows what can be read, whatever else is on the server under RQ's names."""

    @classmethod
    def all(cls, connection: redis.Redis, **_options: Any) -> list[Any]:  # type: ignore[override]
        """The queues whose names can be read."""
        found: list[Any] = []
        members: Any = connection.smembers(cls.redis_queues_keys)
        for key in sorted(members):
            with suppress(ValueError):
                found.append(cls.from_queue_key(key.decode(), connection=connection))
        return found

    def fetch_job(self, job_id: str) -> Any:
        """The job, or a stand-in that has only its id."""
        with _if_readable:
            return super().fetch_job(job_id)
        return SimpleNamespace(id=job_id)


class TolerantWorker(Worker):
    """As `TolerantQueue`, of workers."""

    @classmethod
    def all(cls, connection: redis.Redis, **_options: Any) -> list[Any]:  # type: ignore[override]
        """The workers whose hashes can be read."""
        found = []
        members: Any = connection.smembers(WORKERS_KEY)
        for key in sorted(members):
            with _if_readable:
                found.append(cls.find_by_key(key.decode(), connection=connection))
        return [worker for worker in found if worker is not None]

    def get_current_job(self) -> Any:
        """The job, or a stand-in where it cannot be read."""
        with _if_readable:
            job = super().get_current_job()
            if job is not None:
                job.get_call_string()  # looks into it
            return job
        return SimpleNamespace(
            id=self.get_current_job_id(),
            created_at=None,
            description=_UNREADABLE,
            get_call_string=lambda: _UNREADABLE,
        )


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


_serialize_job = web.serialize_job
_requeue_job = web.requeue_job
_delete_job = web.delete_job_view


def requeue_job(job_id: str, connection: redis.Redis) -> Any:
    """Requeue a failed job; where all are requeued, one that cannot be read is skipped."""
    if _called() != "requeue_all":
        return _requeue_job(job_id, connection)
    with _if_readable:
        return _requeue_job(job_id, connection)
    log.warning("job %.200r is not requeued: it cannot be read", job_id)
    return None


def serialize_job(job: Any) -> dict[str, Any]:
    """A job for the list; one that cannot be read does not hide the others."""
    with _if_readable:
        return dict(_serialize_job(job))
    times = dict.fromkeys(("created_at", "started_at", "ended_at", "exc_info"))
    return {**times, "id": job.id, "description": _UNREADABLE}


def delete_job(job_id: str, registry: Any = None) -> Any:
    """Delete a job of a registry that is emptied; one that also waits is only taken off it."""
    if registry is None:
        return _delete_job(job_id)
    connection = registry.connection
    if _waits(job_id, connection):
        return connection.zrem(registry.key, job_id)
    with _if_readable:
        return _delete_job(job_id, registry)
    connection.zrem(registry.key, job_id)
    return connection.delete(Job.key_for(job_id))


def run_dashboard(settings: Settings, url: str) -> None:
    """Serve the dashboard of the server at `url` until SIGTERM or SIGINT.

    Raises `InvalidSettingError` when it may not or cannot listen there.
    """
    host, port = settings.dashboard_host, settings.dashboard_port
    if settings.dashboard_password is None and not _is_loopback(host):
        raise InvalidSettingError(
            f"dashboard: {host} can be reached from elsewhere, so it needs a password: "
            "set BACKSCROLL_DASHBOARD_PASSWORD, or listen on 127.0.0.1"
        )
    app = make_app(settings, url)
    try:
        server = waitress.create_server(app, sockets=[_listen(host, port)])
    except OSError as error:
        raise InvalidSettingError(
            f"dashboard: cannot listen on {host} port {port}: {error.strerror or error}; "
            "set BACKSCROLL_DASHBOARD_PORT or BACKSCROLL_DASHBOARD_HOST"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(f"dashboard: http://{shown}:{server.effective_port}", flush=True)
        server.run()


def make_app(settings: Settings, url: str) -> Flask:
    """The WSGI application over the server at `url`."""
    # rq-dashboard names its serializer in some calls only. The others fall back on RQ's default,
    # which is pickle: whoever can write to Redis could then run code here.
    rq.serializers.PickleSerializer = OrjsonSerializer  # type: ignore[assignment]
    web.config.serializer = OrjsonSerializer
    app = Flask("rq_dashboard")  # where its static files lie
    app.config.from_object(default_settings)
    app.config["RQ_DASHBOARD_REDIS_URL"] = (hide_password(url),)  # only shown
    app.jinja_env.add_extension(SafeTemplates)
    app.jinja_env.autoescape = True  # Flask's default leaves scripts out
    web.Queue, web.Worker = TolerantQueue, TolerantWorker
    web.serialize_job, web.requeue_job = serialize_job, requeue_job
    web.delete_job_view = delete_job  # as one registry is emptied; not the page's own button
    app.register_blueprint(web.blueprint, url_prefix="")
    # It would open a new connection for every request, from the URL that is shown.
    app.before_request_funcs[web.blueprint.name].remove(web.push_rq_connection)
    connection = LookingClient(connection_pool=connect(url).connection_pool)
    app.redis_conn = connection  # type: ignore[attr-defined]
    _guard(app, settings, connection)

    @app.url_value_preprocessor
    def choose_queue(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        if values and values.get("queue_name", settings.queue) is None:
            values["queue_name"] = settings.queue  # else it shows RQ's "default", which is empty

    @app.context_processor
    def nonce() -> dict[str, str]:
        if "csp_nonce" not in g:
            g.csp_nonce = secrets.token_urlsafe(18)
        return {"csp_nonce": g.csp_nonce}

    @app.errorhandler(Exception)
    def unreadable(error: Exception) -> Any:
        if isinstance(error, HTTPException):
            return error
        if isinstance(error, NoSuchJobError):
            return "There is no such job.\n", 404, _PLAIN
        log.warning("a page cannot be shown: %s", type(error).__name__)
        return (
            f"What the server holds here cannot be shown ({type(error).__name__}).\n",
            422,
            _PLAIN,
        )

    @app.errorhandler(redis.RedisError)
    def no_server(error: redis.RedisError) -> tuple[str, int, dict[str, str]]:
        status = 403 if is_forbidden(error) else 503
        return f"{explain(error, url)}\n", status, _PLAIN

    return app


def _guard(app: Flask, settings: Settings, connection: redis.Redis) -> None:
    """Admit only permitted users, and only permitted requests."""

    @app.before_request
    def admit() -> Response | None:
        if settings.dashboard_password is not None:
            if not _is_login(settings.dashboard_username, settings.dashboard_password):
                challenge = {"WWW-Authenticate": 'Basic realm="Backscroll", charset="UTF-8"'}
                return Response("Please log in.\n", 401, challenge)
        elif not _is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            # A foreign name that points here belongs to a web site: DNS rebinding.
            abort(403, "Without a password, the dashboard answers to 127.0.0.1 only.")
        return None

    @app.before_request
    def protect() -> None:
        called = _called()
        given: dict[str, Any] = request.view_args or {}
        if not _is_known(given):
            abort(404)
        changes = request.method not in _LOOKING or called == "requeue_all"
        # The page's own script sends this header; a foreign page cannot without asking first.
        if changes and request.headers.get("X-Requested-With") != "XMLHttpRequest":
            abort(403, "Changes can only be made from the dashboard's own pages.")
        if called == "compact_queue" or (
            (called == "empty_queue" and given["registry_name"] in WAITING)
            or (called == "delete_job_view" and _waits(given["job_id"], connection))
        ):
            abort(403, "What waits to be stored cannot be deleted or reordered here.")

    @app.after_request
    def harden(response: Response) -> Response:
        nonce = f"'nonce-{g.csp_nonce}'" if "csp_nonce" in g else "'none'"
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src {nonce}; style-src 'self' {nonce}; "
            "img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _called() -> str:
    """The name of the function in rq-dashboard that a request is for."""
    return (request.endpoint or "").removeprefix(f"{web.blueprint.name}.")


def _is_known(given: dict[str, Any]) -> bool:
    """Whether rq-dashboard can make something of an address; it breaks over some."""
    sizes = [str(given[name]) for name in ("per_page", "page") if name in given]
    return (
        given.get("instance_number", 0) == 0
        and given.get("registry_name", "queued") in _REGISTRIES
        and given.get("order", "asc") in ("asc", "dsc")
        and all(re.fullmatch(r"[1-9][0-9]{0,5}", size, re.ASCII) for size in sizes)
    )


def _is_login(username: str, password: str) -> bool:
    given = request.authorization
    if given is None:
        return False
    # Both at once and in full, so that the time it takes reveals nothing.
    return hmac.compare_digest(
        f"{given.username}:{given.password}".encode(), f"{username}:{password}".encode()
    )


def _waits(job_id: str, connection: redis.Redis) -> bool:
    """Whether it is still to be stored, whatever it says, and whatever registry has it too.

    A producer that the server does not let do more queues a failed job anew, and leaves it there.
    """
    status: Any = connection.hget(Job.key_for(job_id), "status")
    origin: Any = connection.hget(Job.key_for(job_id), "origin")
    if status in (b"queued", b"started") or origin is None:
        return status is not None
    queue = origin.decode(errors="replace")
    return any(  # who may not ask is told so, and deletes nothing
        connection.lpos(key, job_id) is not None for key in (queue_key(queue), in_flight_key(queue))
    )


def _listen(host: str, port: int) -> socket.socket:
    family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((host, port), family=family)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
