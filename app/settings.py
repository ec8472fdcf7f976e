"""Every setting of the service, with its default, its limits and its meaning.

Owns names and validation: a flag of `python -m app` beats an environment variable beats .env. Only main and __main__
read it; the rest of the service takes small value objects. Nothing is read at import.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.cpus import available
from app.gpu import has_driver
from app.keys import Keys
from app.logs import LogFormat, LogLevel

Auto = Literal["auto"]
ON_CPU, ON_CUDA = (16, 8192), (256, 131_072)  # instances and padded steps in a batch, as measured best
LONGEST_TTL = 30 * 86_400.0  # seconds
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
        cli_avoid_json=True,
    )

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, validation_alias=AliasChoices("RECURVE_PORT", "port"), description="port to listen on; 0 picks a free one"
    )
    model_dir: Path = Field(Path("model"), description="the model repository, <name>/<version>/ in it")
    default_model: str = Field("gyro-denoiser", description="the model that answers a request without `model`")
    model_versions: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        1, description="versions of each model that are served side by side, the newest good ones; all"
    )
    model_poll_seconds: float = Field(0.0, ge=0, le=86_400, description="how often the repository is looked at; 0: never")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: CUDA if it can be had; cuda: refuse to start without")
    workers: Annotated[int, Field(ge=1, le=256)] | Auto = Field(
        "auto", description="processes; auto: one per CPU, or one in all for a GPU"
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
    max_queue_delay: float = Field(0.0, ge=0, le=10, description="seconds that a batch which is not full waits for company")
    max_queue_size: int = Field(4096, ge=1, description="instances that may wait; more are refused with 503")
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="bytes of one request's body")
    max_instances: int = Field(1024, ge=1, description="instances in one request")
    max_steps: int = Field(100_000, ge=1, description="time steps in one instance")
    request_timeout: float = Field(30.0, gt=0, le=86_400, description="deadline of a request that names none")
    state_key: SecretStr | None = Field(None, min_length=16, description="signs state tokens; the same for all replicas")
    state_key_file: Path | None = Field(None, description="a file that holds it")
    api_keys: SecretStr | None = Field(
        None, description="who may do what: name:role:secret, comma-separated; roles: predict, admin"
    )
    api_keys_file: Path | None = Field(None, description="a file that holds them")
    stream_store: str = Field(
        "embedded", description="embedded: in the data folder; memory: one process; redis://...: for several machines"
    )
    data_dir: Path = Field(Path("data"), description="folder of the embedded store")
    stream_ttl: float = Field(600.0, gt=0, le=LONGEST_TTL, description="idle time of a stream before it expires")
    max_streams: int = Field(100_000, ge=1, description="streams at once, of all workers and replicas")
    drain_streams: float = Field(3600.0, ge=0, description="how long streams of an older version go on")
    drain_timeout: float = Field(25.0, ge=0, le=3600, description="how long a stopping service finishes what waits")
    log_format: LogFormat = Field("auto", description="plain, json, or auto: plain on a terminal")
    log_level: LogLevel = Field("info", description="debug, info, warning or error")

    @field_validator("log_level", "log_format", "device", mode="before")
    @classmethod
    def _case_does_not_matter(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _host_is_an_address(cls, value: str) -> str:
        if value != "localhost":
            ip_address(value)
        return value

    @field_validator("stream_store")
    @classmethod
    def _store_is_known(cls, value: str) -> str:
        known = value in STORES[:3] or any(value.startswith(scheme) and value != scheme for scheme in STORES[3:])
        if not known:
            raise ValueError("expected embedded, memory, or an address such as redis://host:6379/0 (rediss://, unix://, valkey://)")
        return value.removesuffix("://")

    @model_validator(mode="after")
    def _memory_is_one_process(self) -> "Settings":
        if self.stream_store == "memory" and self.workers != "auto" and self.workers > 1:
            raise ValueError(
                f"RECURVE_STREAM_STORE=memory keeps streams in one process, and RECURVE_WORKERS={self.workers} would each have "
                "their own: use the embedded store, or one worker"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_their_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in ("state_key", "api_keys"):
            if not (file := values.get(f"{name}_file")):
                continue
            variable = f"RECURVE_{name.upper()}"
            if values.get(name):
                raise ValueError(f"{variable} and {variable}_FILE are both set: one of them")
            try:
                values = values | {name: Path(file).read_text().strip() or " "}  # an empty one is not the same as none
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{variable}_FILE: {file} cannot be read: {error}") from None
        return values

    @field_validator("api_keys")
    @classmethod
    def _keys_can_be_told_apart(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            Keys.parse(value.get_secret_value())
        return value

    @property
    def resolved_workers(self) -> int:
        if self.workers != "auto":
            return self.workers
        return 1 if self.expects_gpu or self.stream_store == "memory" else available()

    @property
    def expects_gpu(self) -> bool:
        """Whether CUDA will be tried, and may well be had: one process feeds a GPU."""
        return self.device == "cuda" or (self.device == "auto" and has_driver())

    def resolved_lanes(self, *, cuda: bool = False) -> int:
        """For models on the CPU, or for those on CUDA."""
        if self.lanes != "auto":
            return self.lanes
        return 1 if cuda else max(1, available() // self.resolved_workers)

    def resolved_batch(self, *, cuda: bool = False) -> tuple[int, int]:
        """max_batch_size and max_batch_steps, likewise."""
        size, steps = ON_CUDA if cuda else ON_CPU
        return (
            size if self.max_batch_size == "auto" else self.max_batch_size,
            steps if self.max_batch_steps == "auto" else self.max_batch_steps,
        )

    def public(self) -> dict[str, Any]:
        """What the service decided to run with, for the log."""
        store = re.sub(r"//[^/@]*@", "//***@", self.stream_store)  # a password
        return {
            **self.model_dump(mode="json"),
            "stream_store": store,
            "workers": self.resolved_workers,
            "lanes": self.resolved_lanes(cuda=self.expects_gpu),
        }
