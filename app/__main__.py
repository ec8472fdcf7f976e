"""`python -m app`: reads the settings, starts the server, stops it cleanly.

    python -m app                                  the models in ./model on http://127.0.0.1:8000
    python -m app --port 9000 --device cpu         flags beat RECURVE_PORT, RECURVE_DEVICE; those beat .env

Exits 0 when stopped by a signal, 1 when it could not serve, 2 on wrong settings. A second signal ends it at once.
"""

import asyncio
import logging
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from app import logs
from app.errors import BadArtifact, ProviderUnavailable
from app.main import create_app
from app.settings import Settings

log = logging.getLogger("app")


class Server(uvicorn.Server):
    """Uvicorn, but a signal that was obeyed is not raised again: a clean stop exits with 0."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        self.force_exit = self.should_exit
        self.should_exit = True


def main() -> int:
    """Serve until a signal comes; the exit code."""
    try:
        settings = CliApp.run(Settings, cli_args=sys.argv[1:])
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper().removeprefix("RECURVE_")
            print(f"RECURVE_{name}: {problem['msg']} (got {problem['input']!r})", file=sys.stderr)
        return 2
    logs.configure(format=settings.log_format, level=settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        lifespan="off",  # run here, around the server, so that a bad artifact ends with its reason, not a traceback
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
    )

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            await Server(config).serve()

    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(serve())
    except (BadArtifact, ProviderUnavailable) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
