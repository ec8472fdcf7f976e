"""`python -m app`: reads the settings, starts the server, stops it cleanly.

    python -m app                                  the models in ./model on http://127.0.0.1:8000
    python -m app --port 9000 --device cpu         flags beat RECURVE_PORT, RECURVE_DEVICE; those beat .env

Exits 0 when stopped by a signal, 1 when it could not serve, 2 on wrong settings. A second signal refuses
waiting requests, a third ends it at once; during RECURVE_DRAIN_DELAY one more is needed, to end the delay.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex

gc.set_threshold(50_000, 20, 20)  # imports and requests leave no reference cycles: to look for them more often is waste
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # else NumPy starts threads when it is imported

import fastapi_offline  # noqa: F401  # imported before the fork, so that all workers share its memory
import numpy as np  # noqa: F401  # likewise
from pydantic import SecretStr

from app import __version__, certificates, configuration, logs
from app.api.guard import Guard
from app.configuration import WrongSettings
from app.errors import BadArtifact, NoRoom, ProviderUnavailable, StoreUnavailable
from app.http.arrivals import Tls
from app.http.server import Server
from app.http.terms import Terms
from app.processes import folders
from app.processes.fleet import Fleet
from app.processes.sockets import bind, port_of, room_for, url_of
from app.processes.supervisor import Supervisor
from app.processes.worker import stopping
from app.repository import Repository
from app.settings import Settings
from app.streaming import data_folder
from app.traces import Traces

log = logging.getLogger("app")

SHARED = "PROMETHEUS_MULTIPROC_DIR"
COUNTS = 2**19  # bytes that must be free for the metrics of each worker


def main() -> int:
    """Serve until a signal comes; returns the exit code."""
    try:
        settings = configuration.read(sys.argv[1:])
    except WrongSettings as error:
        print(error, file=sys.stderr)
        return 2
    for number in stopping():
        signal.signal(number, lambda *_: sys.exit(0))  # until there is work to finish first
    logs.configure(format=settings.log_format, level=settings.log_level, processes=settings.resolved_workers)
    log.info("Recurve %s with %s.", __version__, ", ".join(f"{name}={value}" for name, value in settings.public().items()))
    for flag in configuration.exposed(sys.argv[1:], settings):
        variable = "RECURVE_" + flag.removeprefix("--").replace("-", "_").upper()
        log.warning("Every user of this machine can read the secret in %s: set %s instead.", flag, variable)
    listeners: list[socket.socket] = []
    for flag, port in {"--port": settings.port, "--metrics-port": settings.metrics_port}.items():
        if port is not None:
            try:
                listeners.append(bind(settings.host, port))
            except OSError as error:
                log.error("Cannot listen on %s port %d: %s. Choose another with %s.", settings.host, port, error.strerror, flag)
                return 1
    for watch in listeners[1:]:
        settings = settings.model_copy(update={"metrics_port": port_of(watch)})
        log.info("Metrics have a port of their own, %s.", url_of(watch))
    tls = tls_of(settings)
    guard = Guard(settings.api_keys_file, settings.read_keys)
    if (room := room_for(settings.connections_each)) < settings.connections_each:
        log.warning(
            "RECURVE_MAX_CONNECTIONS=%d is more than the system allows: %d in each worker (ulimit -Hn).",
            settings.max_connections,
            room,
        )
        settings = settings.model_copy(update={"max_connections": room * settings.resolved_workers})
    if settings.state_key is None:
        log.warning(
            "No RECURVE_STATE_KEY is set: state tokens are signed with a random key, and are worth nothing after a restart."
        )
        settings = settings.model_copy(update={"state_key": SecretStr(token_hex(32))})
    settings = with_a_default_model(settings)
    if not settings.api_keys and not is_local(settings.host):
        log.warning("No RECURVE_API_KEYS are set: whoever reaches %s port %d may use the service.", settings.host, settings.port)
    if settings.rate_limit and not settings.api_keys:
        log.warning("RECURVE_RATE_LIMIT=%g limits keys, and no RECURVE_API_KEYS are set: it does nothing.", settings.rate_limit)
    if left := folders.sweep():
        log.info("Removed what services have left that were killed: %s.", ", ".join(map(str, left)))
    os.environ.pop(SHARED, None)
    try:
        with ExitStack() as stack:
            for listener in listeners:
                stack.enter_context(listener)
            map_size = None
            if settings.stream_store == "embedded":  # before the fork, so that all workers share the memory of its imports
                data_dir, map_size = stack.enter_context(data_folder.writable(settings.data_dir))
                settings = settings.model_copy(update={"data_dir": data_dir})
            workers = settings.resolved_workers
            if workers == 1:
                return serve(settings, listeners=listeners, tls=tls, guard=guard, map_size=map_size)
            with shared_counts(workers) as forget, folders.shared("workers") as shared:

                def work(channel: socket.socket) -> int:
                    logging.getLogger("app.watched").disabled = True  # the supervisor logs changes of files, once for all workers
                    return serve(settings, tls=tls, guard=guard, channel=channel, shared=shared, map_size=map_size)

                scheme = "http" if tls is None else "https"
                look, delay = partial(look_again, guard, tls), settings.drain_delay
                return Supervisor(listeners, work, workers, ended=forget, look=look, delay=delay, scheme=scheme).run()
    except NoRoom as error:
        log.error("%s", error)
        return 1


def with_a_default_model(settings: Settings) -> Settings:
    """The settings with the only model in the repository as the default, unless a default is set."""
    if "default_model" in settings.model_fields_set:
        return settings
    with suppress(BadArtifact):  # the workers log what is wrong
        names = Repository(settings.model_dir).names()
        if len(names) == 1 and names != [settings.default_model]:
            log.info("The default model is %s, the only one that there is.", names[0])
            return settings.model_copy(update={"default_model": names[0]})
    return settings


def tls_of(settings: Settings) -> Tls | None:
    """TLS as the settings say. Made once, for all workers: a worker that is started later can serve even if the files no longer
    match by then.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    certificate = certificates.watched(settings.tls_cert, settings.tls_key)
    return Tls(certificate, patience=settings.read_timeout, plain=settings.metrics_port)


def look_again(guard: Guard, tls: Tls | None) -> None:
    """Read the files of keys and of the certificate again, if they have changed."""
    guard.keys.look()
    if tls is not None:
        tls.certificate.look()


def is_local(host: str) -> bool:
    return host == "localhost" or ip_address(host).is_loopback


@contextmanager
def shared_counts(workers: int) -> Iterator[Callable[[int], None]]:
    """Have all workers count into one folder; yields a function to call with the process id of each worker that has ended."""
    with folders.shared("metrics", room=workers * COUNTS) as folder:
        os.environ[SHARED] = str(folder)  # read when prometheus_client is imported
        from app.processes import metric_files

        yield metric_files.install()


def serve(
    settings: Settings,
    *,
    listeners: Sequence[socket.socket] = (),
    tls: Tls | None,
    guard: Guard,
    channel: socket.socket | None = None,
    shared: Path | None = None,
    map_size: int | None = None,
) -> int:
    """Serve in this process the connections to the listeners or, in a worker, those from the channel; returns the exit code.

    `shared`: the folder by which workers learn of orders that another worker got, and take turns; `map_size`: bytes that the
    embedded store may take.
    """
    # Not earlier: ONNX Runtime starts threads when it is imported, and a supervisor with threads must not fork.
    from app.main import create_app

    try:
        fleet = Fleet()
        app = create_app(
            settings, fleet, guard=guard, shared=shared, map_size=map_size, traces=Traces.configured(version=__version__)
        )

        def connected(connections: int) -> None:
            app.state.counts.open.set(connections)
            look_again(guard, tls)
            if tls is not None and (expires := tls.certificate.found.expires) is not None:
                app.state.counts.certificate.labels(settings.tls_cert).set(expires)

        server = Server(
            app.state.asgi,
            app.state.service,
            offer=app.state.offer,
            drain_delay=settings.drain_delay,
            drain_timeout=settings.drain_timeout,
            max_message_bytes=settings.max_body_bytes,
            terms=Terms(
                max_head_bytes=settings.max_head_bytes,
                read_timeout=settings.read_timeout,
                keep_alive=settings.keep_alive,
                max_connections=settings.connections_each,
                full=app.state.full,
                watch=app.state.watch,
                watch_port=settings.metrics_port,
                refused=app.state.counts.refused,
                room=app.state.room,
            ),
            connected=connected,
            hangs=lambda: app.state.service.catalog.hanging is not None,
            fleet=fleet,
            tls=tls,
            channel=channel,
        )

        async def run() -> None:
            async with app.router.lifespan_context(app):
                if signal.SIGHUP in stopping():  # uvicorn handles the other signals
                    signal.signal(signal.SIGHUP, server.handle_exit)
                await server.serve(sockets=[*listeners])

        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(run())
        if app.state.unfinished:
            logging.shutdown()
            os._exit(1)  # a normal exit would wait for the thread of the unfinished work
    except (BadArtifact, NoRoom, ProviderUnavailable, StoreUnavailable) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
