"""Every setting of the service, with its default, its limits and its meaning.

Owns names and validation. A flag of `python -m app` takes precedence over an environment variable, and that over .env. Only main
and __main__ read the settings; the rest of the service takes small value objects. Nothing is read at import.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.certificates import context_of
from app.cpus import available
from app.gpu import has_driver, smallest_memory
from app.keys import HIGHEST, IN_FILE, IN_VARIABLE, SHORTEST, Keys, parted
from app.logs import LogFormat, LogLevel

Auto = Literal["auto"]
FOR_A_GPU = 16  # the most worker processes with a GPU: more were not measured
SHARE = 2 * 2**30  # bytes of GPU memory for each of them; one was measured to take 0.7 to 1 GiB
SMALL = 8 * 2**30  # bytes of GPU memory that are assumed when the GPU does not say how much it has
ON_CPU, ON_CUDA = (16, 8192), (256, 131_072)  # instances and padded steps in a batch: the best values measured
LONGEST_TTL = 30 * 86_400.0  # seconds; also the limit for a stream that asks for its own
SECRETS = {"state_key", "api_keys", "stream_store"}  # their values are, or may hold, a secret, and are not shown
STORES = ("embedded", "memory", "memory://", "redis://", "rediss://", "unix://", "valkey://", "valkeys://")


class Settings(BaseSettings):
    """The settings of one service process. Durations are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="RECURVE_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        cli_prog_name="python -m app",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_parse_none_str="none",
        cli_avoid_json=True,
    )

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, validation_alias=AliasChoices("RECURVE_PORT", "port"), description="port to listen on; 0 picks a free one"
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="port for /metrics, which the other has no more, and for probes, in plain HTTP and without keys"
    )
    tls_cert: Path | None = Field(None, description="a file with the certificate and its chain, in PEM: HTTPS")
    tls_key: Path | None = Field(None, validate_default=True, description="a file with its key, in PEM")
    model_dir: Path = Field(Path("model"), description="the model repository, <name>/<version>/ in it")
    default_model: str = Field("gyro-denoiser", description="the model that answers a request without `model`")
    model_versions: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        1, description="versions of each model that are served side by side, the newest good ones; all"
    )
    model_poll_seconds: float = Field(0.0, ge=0, le=86_400, description="how often the repository is looked at; 0: never")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: CUDA if it can be had; cuda: refuse to start without")
    workers: Annotated[int, Field(ge=1, le=256)] | Auto = Field(
        "auto", description="processes; auto: one per CPU, with a GPU 16 at most, and one for each 2 GiB that it has"
    )
    lanes: Annotated[int, Field(ge=1, le=256)] | Auto = Field(
        "auto", description="threads that run batches in each; auto: its share of the CPUs, with CUDA one"
    )
    max_batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = Field(
        "auto", description="instances in one batch; auto: 16, with CUDA 256"
    )
    max_batch_steps: Annotated[int, Field(ge=1)] | Auto = Field(
        "auto", description="padded time steps in one batch, a longer instance runs alone; auto: 8192, with CUDA 131072"
    )
    max_padding_waste: float = Field(0.25, ge=0, lt=1, description="share of a batch that may be padding")
    max_queue_delay: float = Field(0.0, ge=0, le=10, description="seconds that a batch which is not full waits for more instances")
    max_queue_size: int = Field(4096, ge=1, description="instances that may wait; an empty queue takes one request of any size")
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="bytes of one request's body, or of one WebSocket message")
    max_bodies_bytes: int = Field(
        256 * 2**20, ge=1, description="bytes of all bodies and messages, summed over all workers; each takes two of the largest"
    )
    max_head_bytes: int = Field(2**16, ge=4096, le=2**24, description="bytes of one request's head: path and headers")
    max_instances: int = Field(1024, ge=1, description="instances, or chunks, in one request")
    max_steps: int = Field(100_000, ge=1, description="time steps in one instance")
    max_connections: int = Field(10_000, ge=1, description="connections at once, WebSockets too, summed over all workers")
    read_timeout: float = Field(
        20.0, gt=0, le=3600, description="for a request's head; the longest silence in its body, of 4 KiB a second at least"
    )
    keep_alive: float = Field(75.0, gt=0, le=86_400, description="how long a connection stays open between two requests")
    request_timeout: float = Field(30.0, gt=0, le=86_400, description="deadline of a request that names none")
    # each *_file comes before its setting, whose validator needs it
    state_key_file: Path | None = Field(None, description="a file that holds what signs state tokens; after a comma, older keys")
    state_key: SecretStr | None = Field(None, validate_default=True)
    api_keys_file: Path | None = Field(
        None, description="a file with API keys and their roles: name:role:secret, comma-separated; roles: predict, admin"
    )
    api_keys: SecretStr | None = Field(None, validate_default=True)
    rate_limit: float = Field(0.0, ge=0, le=HIGHEST, description="requests a second of each key; 0: any; role@50 for one key")
    stream_store: str = Field(
        "embedded", description="embedded: in the data folder; memory: one process; redis://...: for several machines"
    )
    data_dir: Path = Field(Path("data"), description="folder of the embedded store")
    stream_ttl: float = Field(600.0, gt=0, le=LONGEST_TTL, description="idle time of a stream before it expires")
    stream_answers: int = Field(32, ge=1, le=32, description="answers kept of a stream, for chunks with a number that come again")
    max_streams: int = Field(100_000, ge=1, description="streams at once, in all workers and replicas together")
    drain_streams: float = Field(3600.0, ge=0, description="how long streams of an older version go on")
    drain_delay: float = Field(0.0, ge=0, le=3600, description="how long a stopping service takes requests while it is not ready")
    drain_timeout: float = Field(25.0, ge=0, le=3600, description="how long a stopping service finishes what waits")
    log_format: LogFormat = Field("auto", description="plain, json, or auto: plain on a terminal")
    log_level: LogLevel = Field("info", description="debug: every request that is refused, too")

    @field_validator("log_level", "log_format", "device", mode="before")
    @classmethod
    def _case_does_not_matter(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _host_is_an_address(cls, value: str) -> str:
        if value != "localhost":
            try:
                ip_address(value)
            except ValueError:
                raise ValueError("expected an IP address or localhost") from None
        return value

    @field_validator("metrics_port")
    @classmethod
    def _ports_are_two(cls, value: int | None, others: ValidationInfo) -> int | None:
        if value and value == others.data.get("port"):
            raise ValueError(f"expected another port than RECURVE_PORT={value}")
        return value

    @field_validator("tls_key")
    @classmethod
    def _certificate_has_its_key(cls, value: Path | None, others: ValidationInfo) -> Path | None:
        cert = others.data.get("tls_cert")
        if (cert is None) != (value is None):
            missing = "RECURVE_TLS_CERT" if cert is None else "RECURVE_TLS_KEY"
            raise ValueError(f"expected RECURVE_TLS_CERT and RECURVE_TLS_KEY, or neither of them; {missing} is not set")
        if cert is not None and value is not None:
            context_of(cert, value)
        return value

    @field_validator("stream_store")
    @classmethod
    def _store_is_known(cls, value: str, others: ValidationInfo) -> str:
        known = value in STORES[:3] or any(value.startswith(scheme) and value != scheme for scheme in STORES[3:])
        if not known:
            raise ValueError("expected embedded, memory, or an address such as redis://host:6379/0 (rediss://, unix://, valkey://)")
        store, workers = value.removesuffix("://"), others.data.get("workers", "auto")
        if store == "memory" and workers != "auto" and workers > 1:
            raise ValueError(
                f"memory keeps streams in one process, and each of RECURVE_WORKERS={workers} would have its own: use the embedded "
                "store, or one worker"
            )
        return store

    @field_validator("state_key", "api_keys", mode="before")
    @classmethod
    def _secrets_from_their_files(cls, value: Any, others: ValidationInfo) -> Any:
        file = others.data.get(f"{others.field_name}_file")
        if file is None:
            return value
        if value:
            raise ValueError(f"set beside RECURVE_{str(others.field_name).upper()}_FILE: one of them")
        return _secret_in(file, f"RECURVE_{str(others.field_name).upper()}_FILE")

    @field_validator("api_keys")
    @classmethod
    def _keys_can_be_told_apart(cls, value: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if value is not None:
            Keys.parse(value.get_secret_value(), source=IN_FILE if others.data.get("api_keys_file") else IN_VARIABLE)
        return value

    @field_validator("state_key")
    @classmethod
    def _keys_that_sign_are_strong(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and min(map(len, parted(value.get_secret_value())), default=0) < SHORTEST:
            raise ValueError(f"expected {SHORTEST} characters or more")
        return value

    @property
    def state_keys(self) -> list[bytes]:
        """The key that signs state tokens, followed by older keys whose tokens are accepted."""
        return [key.encode() for key in parted(self.state_key.get_secret_value())] if self.state_key else []

    def read_keys(self) -> Keys:
        """The API keys, read from their file now if there is one; raises ValueError, which says what is wrong with them."""
        if self.api_keys_file is not None:
            return Keys.parse(_secret_in(self.api_keys_file, IN_FILE), rate=self.rate_limit, source=IN_FILE)
        return Keys.parse(self.api_keys.get_secret_value() if self.api_keys else "", rate=self.rate_limit)

    @property
    def resolved_workers(self) -> int:
        if self.workers != "auto":
            return self.workers
        if self.stream_store == "memory":
            return 1
        if not self.expects_gpu:
            return available()
        return max(1, min(available(), FOR_A_GPU, (smallest_memory() or SMALL) // SHARE))

    @property
    def bodies_each(self) -> int:
        """The most bytes of all bodies at once in one worker."""
        return max(2 * self.max_body_bytes, self.max_bodies_bytes // self.resolved_workers)

    @property
    def connections_each(self) -> int:
        """The most connections at once of one worker: connections are spread evenly, so that all workers fill up together."""
        return max(1, self.max_connections // self.resolved_workers)

    @property
    def expects_gpu(self) -> bool:
        """Whether CUDA will be tried and will probably work."""
        return self.device == "cuda" or (self.device == "auto" and has_driver())

    def resolved_lanes(self, *, cuda: bool = False) -> int:
        """Lanes of each worker, for models on the CPU or on CUDA."""
        if self.lanes != "auto":
            return self.lanes
        return 1 if cuda else max(1, available() // self.resolved_workers)

    def resolved_batch(self, *, cuda: bool = False) -> tuple[int, int]:
        """max_batch_size and max_batch_steps, for models on the CPU or on CUDA."""
        size, steps = ON_CUDA if cuda else ON_CPU
        return (
            size if self.max_batch_size == "auto" else self.max_batch_size,
            steps if self.max_batch_steps == "auto" else self.max_batch_steps,
        )

    def public(self) -> dict[str, Any]:
        """The settings in force, with `auto` resolved and secrets hidden, for the log."""
        store = re.sub(r"//.*@", "//***@", self.stream_store)  # greedy: a password may contain a slash
        size, steps = self.resolved_batch(cuda=self.expects_gpu)
        return {
            **self.model_dump(mode="json"),
            "stream_store": re.sub(r"(?i)([?&]\w*(password|username)\w*=)[^&]*", r"\1***", store),
            "max_batch_size": size,
            "max_batch_steps": steps,
            "workers": self.resolved_workers,
            "lanes": self.resolved_lanes(cuda=self.expects_gpu),
        }


def _secret_in(file: Path, variable: str) -> str:
    try:
        return file.read_text().strip() or " "  # not "": that would mean that no secret is set
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{variable}={file} cannot be read: {error}") from None
