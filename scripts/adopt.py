"""Publish an ONNX file that others made as a model version that Recurve serves.

    python -m scripts.adopt model.onnx --name vad                            inspects, tries, explains, publishes
    python -m scripts.adopt model.onnx --name vad --dry-run                  the same, and publishes nothing
    python -m scripts.adopt model.onnx --name vad --constant sr=16000 --features 512 --sample speech.npy
    python -m scripts.adopt model.onnx --name vad --state h_in:h_out --state c_in:c_out

What each input and output is for is found out by running the graph: a row in a batch must equal the row alone, and a
sequence in pieces the whole. Where that cannot decide it asks for a flag, and flags always win. Needs no PyTorch.
Exits 0 when published, 1 when the file cannot be adopted (nothing is published), 2 on wrong use, 130 when it was
stopped.
"""

import json
import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from re import fullmatch
from tempfile import TemporaryDirectory
from typing import Any

from app.manifest import NAME_PATTERN
from scripts import command, results
from scripts.adoption import adoption, report
from scripts.adoption.presence import is_file
from scripts.adoption.refusal import Refused, WrongUse
from scripts.adoption.wishes import Wishes
from scripts.training import publish


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        wrong = "" if is_file(args.file) else "is no file: give the .onnx file to adopt"
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    if wrong:
        print(f"{args.file} {wrong}", file=sys.stderr)
        return 2
    wishes = Wishes(
        input=args.input,
        lengths=args.lengths,
        states=tuple(args.state),
        constants=dict(args.constant),
        features=args.features,
        outputs=tuple(args.outputs),
    )
    try:
        with TemporaryDirectory() as scratch:
            adopted = adoption.adopt(args.file, Path(scratch), wishes, name=args.name, sample=args.sample, relax=args.relax)
            adopted = adopted.described(args.description, args.sample_rate)
            target = None if args.dry_run else _publish(adopted, args.model_dir, args.name)
    except (Refused, WrongUse) as error:
        print(f"{error}\nNothing was published.", file=sys.stderr)
        return 2 if isinstance(error, WrongUse) else 1
    if target is None:
        print("\nNothing was published: --dry-run.")
    else:
        print(f"\nPublished {target}\n{report.how_to_ask(adopted.spec, args.model_dir)}")
    found = {"version": target and str(target), "manifest": adopted.spec.model_dump(mode="json")}
    results.write(args.json, found | {"checks": {check.name: check.worst for check in adopted.checks}})
    return 0


def _publish(adopted: adoption.Adopted, model_dir: Path, name: str) -> Path:
    try:
        with publish.staging(model_dir, name) as folder:
            for path in adopted.folder.iterdir():
                shutil.move(path, folder / path.name)
            return publish.publish(folder, adopted.manifest)
    except OSError as error:
        raise Refused(
            f"{model_dir} cannot be written: {error.strerror or error}. Give another repository with --model-dir."
        ) from error


def _parser() -> ArgumentParser:
    parser = command.Parser("scripts.adopt", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="the graph, external data beside it")
    parser.add_argument("--name", type=_name, required=True, help="the model's name")
    parser.add_argument("--model-dir", type=Path, default=Path("model"), help="the model repository (model)")
    parser.add_argument("--input", metavar="T", help="the input that is the sequence")
    parser.add_argument("--lengths", metavar="T", help="the input that holds the lengths of the sequences")
    parser.add_argument(
        "--state", type=_pair, action="append", default=[], metavar="IN:OUT", help="a state and the output it leaves by"
    )
    parser.add_argument(
        "--constant", type=_constant, action="append", default=[], metavar="NAME=VALUE", help="an input's fixed value"
    )
    parser.add_argument("--features", type=_features, metavar="A,B|N", help="the names of the features, or how many there are")
    parser.add_argument(
        "--outputs", type=lambda text: text.split(","), default=[], metavar="T,...", help="the outputs to serve (all)"
    )
    parser.add_argument("--sample", type=Path, metavar="FILE", help="typical input, time x features: .npy, .npz or .csv")
    parser.add_argument("--relax", action="store_true", help="free a batch axis that is fixed at 1, if no answer changes")
    parser.add_argument("--description", default="", metavar="TEXT", help="what the model does")
    parser.add_argument("--sample-rate", type=_rate, metavar="HZ", help="steps a second")
    parser.add_argument("--dry-run", action="store_true", help="inspect and check, publish nothing")
    results.add_option(parser)
    return parser


def _name(text: str) -> str:
    if not fullmatch(NAME_PATTERN, text):
        raise ArgumentTypeError(f"{text!r} is no name of a model: letters, digits, '.', '_' and '-', the first a letter or digit")
    return text


def _pair(text: str) -> tuple[str, str]:
    start, _, end = text.rpartition(":")  # TensorFlow's names end in :0
    for middle in (i for i, letter in enumerate(text) if letter == ":"):
        if text[middle + 1 :] and not text[middle + 1].isdigit():
            start, end = text[:middle], text[middle + 1 :]
    if not start or not end:
        raise ArgumentTypeError(f"{text!r} is no pair IN:OUT of an input and the output it leaves by")
    return start, end


def _constant(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        raise ArgumentTypeError(
            f"{text!r} must be NAME=VALUE, the value a JSON number, true, false or an array of numbers"
        ) from None


def _features(text: str) -> tuple[str, ...] | int:
    names = tuple(name.strip() for name in text.split(","))
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if fullmatch(r"[+-]?\d+(\.\d*)?", text):
        raise ArgumentTypeError(f"{text!r} is no number of features: there is 1 at least")
    if not all(names) or len(set(names)) < len(names):
        raise ArgumentTypeError(f"{text!r} must be different names with commas between, or a number of features from 1 up")
    return names


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ArgumentTypeError(f"{text!r} must be a number of Hz above 0")
    return rate


if __name__ == "__main__":
    sys.exit(command.run(main))
