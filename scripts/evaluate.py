"""Measure a published model on your own files, against the truth and against simple methods.

    python -m scripts.evaluate model/load-forecast/1 --data load.csv
    python -m scripts.evaluate model/gyro-denoiser/1 --data walk.csv --task denoise --targets true_x,true_y,true_z --csv out.csv
    python -m scripts.evaluate http://127.0.0.1:8000 --model load-forecast --data 'new/*.csv' --every 96 --picture out.png

MODEL is the folder of a published version, which runs in this process, or the URL of a running service, which is asked as any
client asks it: streams in chunks, forecasts and whole recordings by /predict. Features and targets are the columns that the
model's manifest names. Choices about the data that you do not give are those of the training. A file whose target columns are
missing or empty is predicted and not scored. A forecaster is scored on every window; --csv writes the forecasts that lie end to
end, and the one that begins where a recording ends.
Exits 0 when measured, 1 when the model or the service failed, 2 on wrong use, 130 when it was stopped.
"""

import sys
from argparse import Namespace
from pathlib import Path

from scripts import command, results
from scripts.evaluation import forecasts, options, rows
from scripts.evaluation.card import EvaluationError, Model, WrongUse
from scripts.evaluation.choice import Wish
from scripts.evaluation.found import Found
from scripts.evaluation.local import Local
from scripts.evaluation.material import Material
from scripts.evaluation.remote import Remote
from scripts.evaluation.written import Table
from scripts.tables.recording import DataError


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.evaluate", __doc__)
    options.add(parser)
    args = options.parsed(parser, argv)
    try:
        model = _model(args)
    except EvaluationError as error:
        return _refused(error)
    try:
        # -- the data -----------------------------------------------------------------------------------------------
        reading, notes = model.card.training.settled(vars(args), parted=args.part == "test")
        for note in notes:
            print(note)
        season = reading.pop("season")
        wish = Wish(tuple(args.data), task=args.task, features=args.features, targets=args.targets, part=args.part, **reading)
        material = Material.read(model.card, wish)
        for path in (args.csv, args.picture, args.json):
            if path is not None and path.resolve() in {each.resolve() for each in material.paths}:
                raise WrongUse(f"{path} is read: what is written needs another name.")
        for note in material.notes:
            print(note)
        print(f"{model.card}, {model.where}; on {material.part}.")

        # -- predict, and compare -------------------------------------------------------------------------------------
        with Table(args.csv) as table:
            found = _found(model, material, table, args, season=season)
    except (DataError, EvaluationError) as error:
        return _refused(error)
    finally:
        model.close()

    # -- tell -----------------------------------------------------------------------------------------------------
    if found.scores is not None and args.part == "all":
        print("Rows that the model was trained on may be among them: of the file of its training, --part test leaves them out.")
    for note in found.notes:
        print(note)
    if found.scores is None:
        why = "No row of the data has all of its truth" if material.truth else "There is no truth in the data"
        print(f"{why}: nothing is scored.")
    else:
        print(f"\nOn {found.scores.data}:\n\n{found.scores}\n")
        for warning in found.scores.warnings():
            print(f"Warning: {warning}")
        if beside := model.card.training.beside(material.task):
            print(beside)
    written = ", ".join(str(path) for path in (args.csv, args.picture) if path is not None)
    print(f"{found.speed}{written and f' Written: {written}.'}")
    told = {
        "model": model.card.name,
        "version": model.card.version,
        "where": model.where,
        "files": args.data,
        "part": material.part,
        "training": model.card.training.scores and model.card.training.scores.to_dict(),
    }
    results.write(args.json, told | {"task": material.task} | found.to_dict())
    return 0


def _model(args: Namespace) -> Model:
    if options.is_url(args.model):
        return Remote(args.model, args.name, args.version, key=args.key, chunk=args.chunk)
    return Local(Path(args.model))


def _found(model: Model, material: Material, table: Table, args: Namespace, *, season: int) -> Found:
    if material.task == "forecast":
        return forecasts.evaluate(model, material, table, args.picture, every=args.every, season=season)
    return rows.evaluate(model, material, table, args.picture)


def _refused(error: Exception) -> int:
    print(f"python -m scripts.evaluate: {error}", file=sys.stderr)
    return 2 if isinstance(error, DataError | WrongUse) else 1


if __name__ == "__main__":
    sys.exit(command.run(main))
