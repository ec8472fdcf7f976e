"""Reads the settings from flags, the environment and .env, and reports all mistakes in them at once.

Owns the command line, which should hold no secrets, and the report: one line for each mistake, with the value, what was expected
and the variable's name. An unknown name with our prefix is a mistake too. Knows nothing of what a setting does.
"""

import os
import re
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from app import __version__
from app.settings import SECRETS, Settings

PREFIX = "RECURVE_"
FILE = Path(".env")
# Variables of docker-compose.yml, which reads them on the host from the same .env.
COMPOSE = {"RECURVE_PUBLISH", "RECURVE_PUBLISH_SCALED", "RECURVE_PUBLISH_PROMETHEUS", "RECURVE_PUBLISH_GRAFANA"}
# Kubernetes gives every pod the addresses of the Services in its namespace, in variables named after them: recurve, recurve-redis.
LINK = re.compile(r"RECURVE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
LINKED = re.compile(r"(tcp|udp|sctp)://")
HELP = "python -m app --help lists them all"
VALUES = {"float": "X", "int": "N", "Path": "PATH", "str": "TEXT"}  # type -> its name in --help
# Settings that can be read from a file of their own, and should not be on the command line.
SECRET = {"--" + name.replace("_", "-") for name in Settings.model_fields if f"{name}_file" in Settings.model_fields}
USAGE = "%(prog)s [--port 8000] [--device cpu] [...]"
DESCRIPTION = """Serves the models in ./model on http://127.0.0.1:8000.

Each flag is also a variable of the environment, or of the file .env: --max-body-bytes is RECURVE_MAX_BODY_BYTES.
A flag beats a variable, and that beats the file. Secrets are not for flags: RECURVE_STATE_KEY, RECURVE_API_KEYS.
Durations are in seconds."""
KINDS = {"integer": "a whole number", "number": "a number"}


class WrongSettings(Exception):
    """The text has one line for each wrong setting."""


def read(arguments: Sequence[str]) -> Settings:
    """The settings from these flags, the environment and .env; raises WrongSettings."""
    try:
        wrong = [*_strangers(os.environ, where=""), *_strangers(_file(), where=f"{FILE}: ")]
    except (UnicodeDecodeError, OSError) as error:
        raise WrongSettings(f"{FILE} cannot be read: {error}") from None
    flags: CliSettingsSource[Any] = CliSettingsSource(Settings, cli_exit_on_error=False, add_argument_method=_add)
    flags.root_parser.usage, flags.root_parser.description = USAGE, DESCRIPTION
    flags.root_parser.add_argument("--version", action="version", version=f"Recurve {__version__}", help="show it and exit")
    try:
        settings = CliApp.run(Settings, cli_args=[*arguments], cli_settings_source=flags)
    except SettingsError as error:
        raise WrongSettings("\n".join([*_unread(str(error)), *wrong])) from None
    except ValidationError as error:
        raise WrongSettings("\n".join([*_mistakes(error), *wrong])) from None
    if wrong:
        raise WrongSettings("\n".join(wrong))
    return settings


def exposed(arguments: Sequence[str], settings: Settings) -> list[str]:
    """The flags that put a secret on the command line, where every user of the machine can read it."""
    given = {word.partition("=")[0] for word in arguments}
    found = [flag for flag in sorted(SECRET) if flag in given]
    if settings.public()["stream_store"] != settings.stream_store and any(settings.stream_store in word for word in arguments):
        found.append("--stream-store")
    return found


def _add(parser: ArgumentParser, *names: str, **options: Any) -> None:
    """Add a setting's flag. Of two names only the last, shorter one is used. A flag for a secret is not shown in --help."""
    if "metavar" in options:
        names, options["metavar"] = names[-1:], re.sub(r"\w+", lambda word: VALUES.get(word[0], word[0]), options["metavar"])
    if SECRET.intersection(names):
        options["help"] = SUPPRESS
    parser.add_argument(*names, **options)


def _unread(message: str) -> Iterator[str]:
    """A line for each unknown flag, or for anything else on the command line that argparse refuses."""
    told = message.removeprefix("error parsing CLI: ").replace("one argument", "a value")
    words = told.removeprefix("unrecognized arguments: ").split()
    if told.startswith("argument "):
        yield f"{told.removeprefix('argument ')}; {HELP}"
    elif flags := [word.partition("=")[0] for word in words if word.startswith("-")]:
        known = {"--" + name.replace("_", "-") for name in Settings.model_fields} - SECRET
        for flag in flags:
            near = get_close_matches(flag, known, n=1)
            yield f"{flag} is not a flag; {f'did you mean {near[0]}?' if near else HELP}"
    else:
        yield f"{words[0] if words else 'An empty word'} is not a flag and belongs to none; {HELP}"


def _file() -> dict[str, str | None]:
    return dotenv_values(FILE, encoding="utf-8") if FILE.is_file() else {}


def _strangers(variables: Mapping[str, str | None], *, where: str) -> Iterator[str]:
    """A line for each name with our prefix that is not a setting; its value may be a secret and is not shown."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | COMPOSE
    for name, value in variables.items():
        ours = name.upper()
        if not ours.startswith(PREFIX) or ours in known or LINK.fullmatch(ours) or LINKED.match(value or ""):
            continue
        near = get_close_matches(ours.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], n=1)
        advice = f"did you mean {PREFIX}{near[0]}?" if near else HELP
        yield f"{where}{name} is not a setting; {advice}"


def _mistakes(error: ValidationError) -> Iterator[str]:
    """A line for each setting with a wrong value; of a setting with several types pydantic gives an error for each type."""
    schemas = Settings.model_json_schema(by_alias=False)["properties"]
    for name, problem in {str(each["loc"][0]).lower().removeprefix("recurve_"): each for each in error.errors()}.items():
        variable, given = PREFIX + name.upper(), problem["input"]
        if name == "port" and variable not in os.environ and os.environ.get("PORT") == given:
            variable = "PORT"
        if problem["type"] == "value_error":
            said = problem["msg"].removeprefix("Value error, ")
        else:
            said = f"expected {_expected(schemas[name])}"
        got = "" if name in SECRETS or name == "tls_key" else f", got {given!r}"
        named = variable.removesuffix("_PORT").lower().replace("_", "-")
        link = f": Kubernetes sets it for a Service named {named}; set it yourself, or enableServiceLinks: false"
        yield f"{variable}: {said}{got}{link if LINKED.match(str(given)) else ''}"


def _expected(schema: Mapping[str, Any]) -> str:
    """The allowed values of a setting, in words."""
    if "anyOf" in schema:
        return _either(_expected(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "const" in schema or "enum" in schema:
        return _either(schema.get("enum", [schema.get("const")]))
    if "minLength" in schema:
        return f"{schema['minLength']} characters or more"
    kind = KINDS.get(schema["type"], "a text")
    limits = {"from {}": "minimum", "above {}": "exclusiveMinimum", "to {}": "maximum", "to below {}": "exclusiveMaximum"}
    said = [words.format(f"{schema[limit]:.15g}") for words, limit in limits.items() if limit in schema]
    return " ".join([kind, *said] + ["up"] * (len(said) == 1))


def _either(choices: Iterable[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last
