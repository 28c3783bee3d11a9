"""`repro <verb>`: every command of the project. A verb imports what it needs when it runs; `--help` runs nothing."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

EXIT_USER_ERROR, EXIT_NOBODY_READS = 2, 141  # the latter as of a program that SIGPIPE ends
BEGIN, END = "<!-- verdicts: generated, do not edit -->", "<!-- end of verdicts -->"
"""Between these, the README's rows are generated."""
Command = Callable[[argparse.Namespace], int | None]


def of(module: str, name: str) -> Command:
    """A verb's function in a module that is imported when it is called; a test looks whether it is there."""
    return partial(_called, module, name)


def _called(module: str, name: str, arguments: argparse.Namespace) -> int | None:
    status: int | None = getattr(importlib.import_module(f"repro.{module}"), name)(arguments)
    return status


def _count(text: str) -> int:
    """A number from 1 on."""
    if not (text.isascii() and text.isdigit()) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:  # noqa: PLR0915 - a list
    """The parser of all verbs, and that of each."""
    top = argparse.ArgumentParser("repro", description="Reproduces and cross-examines Meta Pseudo Labels.")
    verbs, each = top.add_subparsers(metavar="verb", required=True), {}

    def verb(name: str, command: Command, text: str, *, outside: bool = False) -> argparse.ArgumentParser:
        found = each[name] = verbs.add_parser(name, help=text, description=text)
        found.set_defaults(command=command, outside=outside)
        return found

    one_plan = "a plan: its name in experiments/plan, or a file"
    or_params = f"{one_plan} (default: params.yaml)"

    add = verb("show", show, "print a run as it would train: its settings, and where it departs from its recipe")
    add.add_argument("run", nargs="?", help="such as digits_mpl; without it, all runs")
    add.add_argument("overrides", nargs="*", metavar="key=value", help="such as method.feedback=none")

    add = verb("plan", plan, "what a plan takes on this machine: hours, memory and disk, from some steps of each run")
    add.add_argument("what", nargs="*", help=f"{or_params}; or runs, one seed of each")
    add.add_argument("--list", action="store_true", help="print the plans there are, and measure nothing")
    add.add_argument("--seconds", type=float, default=8.0, help="for each run, and three steps at least (default: 8)")

    add = verb("reproduce", reproduce, "put a plan into params.yaml and run `dvc repro`, as make reproduce does")
    add.add_argument("name", nargs="?", default="quick", help="of a plan in experiments/plan (default: quick)")

    add = verb("run", run, "PLAN: train all its runs, here or on a cluster. RUN: try one run, or change it, outside of "
               "any plan: train, evaluate, compare")  # fmt: skip
    add.add_argument(
        "run", metavar="PLAN|RUN", help="a plan, by name or file, such as quick; or a run, such as digits_mpl"
    )
    trial = add.add_argument_group("to try a RUN")
    trial.add_argument("overrides", nargs="*", metavar="key=value", help="changed settings: method.feedback=none")
    trial.add_argument("--seeds", help="such as 0-4 or 0,2,5")
    trial.add_argument("--against", nargs="+", metavar=("run", "key=value"),
                       help="another run, or a changed one: print the difference, paired by seed")  # fmt: skip
    jobs = add.add_argument_group("to train a PLAN")
    jobs.add_argument("--workers", type=_count, metavar="N",
                      help="seeds side by side on a CPU (default: the fewest budget.workers of its runs)")  # fmt: skip
    jobs.add_argument("--dry-run", action="store_true", help="print what is missing, jobs and hours; train nothing")
    jobs.add_argument("--on", choices=["slurm"], help="send jobs to a cluster; without it, train on this machine")
    jobs.add_argument("--slurm", nargs="+", default=[], metavar="key=value",
                      help="options of sbatch, such as partition=gpu gpus=1 time=8h; a job that needs more time is "
                      "queued again; array=64 runs so many jobs at once")  # fmt: skip
    jobs.add_argument("--seeds-per-job", type=_count, default=1, metavar="N",
                      help="side by side by budget.workers (default: 1)")  # fmt: skip
    jobs.add_argument("--gpus-per-run", type=_count, default=1, metavar="N",
                      help="GPUs of one node that share each batch (default: 1)")  # fmt: skip

    text = "print a line for each seed of a plan that was started: state, step, speed, time left, node"
    verb("status", of("jobs", "status"), text).add_argument("plan", help=one_plan)
    text = "end a plan's jobs, or its training on this machine; what is saved stays"
    verb("cancel", of("jobs", "cancel"), text).add_argument("plan", help=one_plan)

    add = verb("prepare", prepare, "compose and check every run of a plan, and prepare its data")
    add.add_argument("--plan", type=Path, default=Path("params.yaml"), help=or_params)

    text = "train one run of the prepared plan; started again, it goes on where it was"
    add = verb("train", train, text)
    add.add_argument("run", help="a run of the plan")
    add.add_argument("--seeds", required=True, help="such as 0-4 or 0,2,5")

    text = "evaluate trained runs on their test data: results/runs/"
    add = verb("evaluate", of("evaluate.evaluate", "evaluate_runs"), text)
    add.add_argument("runs", nargs="*", help="runs to evaluate (default: all of the plan)")
    add.add_argument("--plan", type=Path, default=Path("params.yaml"), help=or_params)

    add = verb("verify", verify, "recompute every recorded accuracy and judge all claims: results/verdicts.json")
    add.add_argument("results", nargs="?", type=Path, help="a results folder elsewhere: nothing is written")
    add.add_argument("--retrain", nargs="+", metavar="N|run:seed",
                     help="instead, train N recorded seeds again, drawn at random, or those that are named, and hold "
                     "them against their records")  # fmt: skip

    verb("report", report, "write the report from what is recorded: results/REPORT.md, its pages and figures")
    verb("verdicts", verdicts, "print the answers, and put them into the README")

    text = "time a step beside a plain implementation and the device's ceilings: results/bench/"
    add = verb("bench", of("bench.measure", "bench"), text)
    add.add_argument("run", nargs="?", default="cifar10_released_mpl", help="MPL on CIFAR-10 (default: %(default)s)")
    add.add_argument("overrides", nargs="*", metavar="key=value", help="changed settings")
    add.add_argument("--steps", type=_count, help="timed in each round (default: 6; on a GPU 100)")
    add.add_argument("--rounds", type=_count, default=2, help="of all ways to compute the step (default: 2)")
    add.add_argument("--uncompiled", action="store_true", help="leave out the compiled ways, which take minutes")

    add = verb("fit", fit, "train a classifier on a folder of your own images", outside=True)
    methods = ["uda", "supervised", "mpl", "fixmatch", "probe"]
    add.add_argument("images", type=Path, help="the folder of images: in it a folder for each class; images beside "
                     "these, or in `unlabelled`, have no class")  # fmt: skip
    add.add_argument("settings", nargs="*", metavar="key=value",
                     help="any other setting that `repro show folder_uda` prints: data.views.flip=false for "
                          "digits, writing or whatever else is not the same mirrored")  # fmt: skip
    add.add_argument("--out", type=Path, help="the folder to leave the model in (default: models/<images>)")
    add.add_argument("--minutes", type=float, help="in all, from start to end (default: 30)")
    add.add_argument("--steps", type=int, default=0, help="train so many steps, in place of minutes")
    add.add_argument("--method", choices=methods, help="(default: uda); probe: the linear probe of a backbone alone")
    add.add_argument("--seed", type=int, help="of all that is drawn (default: 0)")
    data = add.add_argument_group("images")
    data.add_argument("--test", type=Path, metavar="FOLDER", help="test images, in folders named like the classes")
    which = data.add_mutually_exclusive_group()
    which.add_argument("--labels", type=int, default=0, metavar="N",
                       help="use the labels of so many images, drawn by the seed (default: of all)")  # fmt: skip
    which.add_argument("--labelled", default="", metavar="FILE",
                       help="which images have a class: a CSV with path,label, or a list of paths")  # fmt: skip
    data.add_argument("--size", type=int, default=0, metavar="PIXELS",
                      help="side of what the network sees (default: 32; with a backbone 128)")  # fmt: skip
    net = add.add_argument_group("network")
    net.add_argument("--backbone", default="", metavar="NAME", help="start from a pretrained network of torchvision or "
                     "timm; auto is EfficientNet-Lite0, whose weights are in a package")  # fmt: skip
    net.add_argument(
        "--weights", type=Path, metavar="FILE", help="the backbone's state dictionary (.pth, .safetensors)"
    )
    net.add_argument("--model", default="", metavar="NAME", help="without a backbone: wide_resnet_10 (default), "
                     "resnet50_narrow, wide_resnet, resnet50, which start at random")  # fmt: skip
    several = add.add_argument_group("comparison")
    several.add_argument("--compare", nargs="+", choices=methods, metavar="METHOD",
                         help=f"fit each of two or more, and compare them by seed: {', '.join(methods)}")  # fmt: skip
    several.add_argument("--seeds", help="of a comparison (default: 0-2)")

    add = verb("predict", of("fit.saved", "predict"), "classify images with a model that fit left", outside=True)
    add.add_argument("model", type=Path, help="the folder that fit left")
    add.add_argument("images", nargs="+", help="folders or image files")
    add.add_argument("--csv", type=Path, metavar="FILE", help="the file to write (default: the screen)")
    add.add_argument("--probabilities", action="store_true", help="a column for each class too")

    add = verb("export", export, "keep a trained network: of a run in half precision, of a fit as ONNX")
    add.add_argument("run", help="a trained run; with --onnx, the folder that fit left")
    add.add_argument("--onnx", type=Path, metavar="FILE", help="the file to write")
    add.add_argument("--seed", type=int, default=0, help="one of its seeds (default: 0)")
    add.add_argument("--network", help="such as teacher_average (default: the one whose accuracy counts)")

    add = verb("recompute", of("evaluate.weights", "recompute"), "compute the test accuracy of exported networks again")
    add.add_argument("files", nargs="+", type=Path, help="that export left: results/weights/*.safetensors")
    return top, each


def complete(top: argparse.ArgumentParser, each: dict[str, argparse.ArgumentParser]) -> None:
    """Answers a shell that asks for completions, where the package argcomplete is installed, and exits."""
    try:
        import argcomplete
    except ImportError:
        return
    from repro.plan import keys_of, plan_names, run_names

    def keys(parsed_args: argparse.Namespace, **_: object) -> list[str]:
        return [f"{key}=" for key in keys_of(parsed_args.run)]

    known = dict.fromkeys(("run", "runs", "against"), lambda **_: run_names())
    known |= {"plan": lambda **_: list(plan_names()), "what": lambda **_: [*plan_names(), *run_names()]}
    for action in (action for parser in each.values() for action in parser._actions):  # noqa: SLF001 - no other way
        if completer := (known | {"overrides": keys}).get(action.dest):
            action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(top)


def show(arguments: argparse.Namespace) -> None:
    """Prints; writes nothing."""
    import yaml

    from repro.config import as_mapping, departures
    from repro.plan import compose, run_names, setting_and_arm

    if not arguments.run:
        for name in run_names():
            comparison, arm = setting_and_arm(name)
            print(f"{name:44} {comparison.title(arm)}")
        return
    config = compose(arguments.run, arguments.overrides)
    print(yaml.safe_dump(as_mapping(config), sort_keys=False), end="")
    for departure in departures(config):
        kind = "open" if departure.open else "departs"
        print(f"# {kind}: {departure.key} = {departure.here}; {config.recipe.name}: {departure.prescribed}")


def plan(arguments: argparse.Namespace) -> None:
    """What a plan takes, or which plans there are."""
    if arguments.list:
        from repro.plan import plan_names

        for name, text in plan_names().items():
            print(f"{name:20} {text}")
        return
    from repro.cost import measured

    measured(arguments)


def reproduce(arguments: argparse.Namespace) -> None:
    """This process becomes `dvc repro`, which so gets the signals and holds the lock."""
    from repro.files import only_writer
    from repro.plan import put_in_use

    for part in (Path("dvc.yaml"), Path(".dvc")):
        if not part.exists():
            raise ValueError(f"{part} is missing, without which DVC runs nothing; take the whole project: git clone")
    local = Path(".dvc/config.local")
    in_git = any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents))
    if not in_git and "no_scm" not in (local.read_text() if local.is_file() else ""):
        raise ValueError("this folder is no git repository, which DVC asks for; make it one: git init && git add . && "
                         "git commit -m start; or do without: dvc config --local core.no_scm true")  # fmt: skip
    with only_writer("reproduce", "this folder") as lock:
        _refuse_beside_dvc(Path(".dvc/tmp"))
        put_in_use(arguments.name)
        os.set_inheritable(lock, True)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro"])  # noqa: S606 - no shell is wanted


def _refuse_beside_dvc(place: Path) -> None:
    """One DVC at a time: RuntimeError where one is at work. Removes the list of writers that a killed one left."""
    import json
    import re

    listed = place / "rwlock"
    text = listed.read_text() if listed.is_file() else ""
    try:
        json.loads(text)
    except ValueError:
        text = ""  # killed while it wrote: DVC itself would refuse to go on
    for process in {int(found) for found in re.findall(r'"pid": (\d+)', text)}:
        with contextlib.suppress(OSError):  # it is gone
            words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(Path(word).name == "dvc" for word in words):
                raise RuntimeError(f"DVC is at work here already, as process {process}; wait for it, or stop it: "
                                   f"kill {process}")  # fmt: skip
    listed.unlink(missing_ok=True)


def run(arguments: argparse.Namespace) -> int:
    """A plan, or a trial of one run."""
    from repro.files import plan_path
    from repro.plan import plan_names, run_names
    from repro.settings import closest

    name = arguments.run
    if name.endswith(".yaml") or plan_path(name) != name:
        if arguments.overrides or arguments.seeds or arguments.against:
            raise ValueError(f"{name} is a plan, whose file says what is changed and which seeds; leave out key=value, "
                             "--seeds and --against, or name a run")  # fmt: skip
        from repro.jobs import run as run_plan

        return run_plan(arguments)
    if name not in (names := run_names()):
        raise ValueError(f"{name} is neither a plan nor a run; {closest(name, [*plan_names(), *names])}")
    several = max(arguments.seeds_per_job, arguments.gpus_per_run) > 1
    if arguments.on or arguments.slurm or arguments.dry_run or arguments.workers or several:
        raise ValueError(f"{name} is a run: the options to train a plan are for plans: repro plan --list")
    if not arguments.seeds:
        raise ValueError(f"{name}: name its seeds, such as --seeds 0-4")
    from repro.trial import run as run_trial

    run_trial(arguments)
    return 0


def prepare(arguments: argparse.Namespace) -> None:
    """Of one plan."""
    from repro.files import plan_path
    from repro.train.prepare import prepare as prepare_plan

    prepare_plan(Path(plan_path(arguments.plan)))


def train(arguments: argparse.Namespace) -> int:
    """One run."""
    from repro.train.launch import train as train_run

    return train_run(arguments.run, arguments.seeds)


def verify(arguments: argparse.Namespace) -> int:
    """All claims."""
    if arguments.retrain:
        from repro.retrain import retrain

        return retrain(arguments.retrain)
    from repro.verify import rules

    return rules.verify_elsewhere(arguments.results) if arguments.results else rules.verify()


def report(_: argparse.Namespace) -> None:
    """All pages."""
    from repro.report.pages import write_report

    write_report()


def verdicts(_: argparse.Namespace) -> None:
    """The last screen of `make reproduce`: the answers, and what there is to commit."""
    from repro.files import replace_between, write_whole
    from repro.report.pages import read_for_answers, readme_rows, verdict_lines

    record, readme = read_for_answers(), Path("README.md")
    print("\n".join(verdict_lines(record, sys.stdout.encoding or "ascii")))
    before = readme.read_text()
    after = replace_between(before, BEGIN, END, readme_rows(record), "README.md")
    if after != before:
        write_whole(readme, after.encode())
    print("\n".join(_to_commit()))


WRITTEN = ("params.yaml", "dvc.lock", "README.md", "results")
"""What a plan changes of what git tracks."""


def _to_commit() -> list[str]:
    """What is changed, and the commands that keep it and that put it away; nothing without git, or without a change."""
    import subprocess

    command = ["git", "status", "--porcelain", "-uall", "--", *WRITTEN]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603 - own
    except (OSError, subprocess.CalledProcessError):
        return []
    counts = {name: sum(line[3:].strip('"').startswith(name) for line in told) for name in WRITTEN}
    changed = [name for name in WRITTEN if counts[name]]
    files = ", ".join(f"{counts[name]} files in {name}" if name == "results" else name for name in changed)
    paths = " ".join(changed)
    return [f"Changed: {files}. To keep them: git add {paths} && git commit -m 'Plan run'",
            f"To put them away: git stash push --include-untracked -- {paths}"] if changed else []  # fmt: skip


def fit(arguments: argparse.Namespace) -> int:
    """A classifier."""
    arguments.begun = time.monotonic()  # what is imported takes seconds of the minutes
    from repro.fit.command import fit as fit_one

    return fit_one(arguments)


def export(arguments: argparse.Namespace) -> None:
    """One network."""
    if arguments.onnx:
        from repro.fit.saved import export_onnx

        export_onnx(Path(arguments.run), arguments.onnx)
    else:
        from repro.evaluate.weights import export as export_seed

        export_seed(arguments)


def main(words: list[str] | None = None) -> None:
    """Runs a verb and exits: 0, its own status, or 2 with one sentence for a mistake that the user can mend."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of what it cannot print
    try:
        try:
            status = _status(sys.argv[1:] if words is None else words)
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python would still write at its end
        status = EXIT_NOBODY_READS
    sys.exit(status)


def _status(words: list[str]) -> int:
    top, each = parsers()
    if "_ARGCOMPLETE" in os.environ:
        complete(top, each)
    known = bool(words) and words[0] in each  # options may stand between the words of a list
    arguments = each[words[0]].parse_intermixed_args(words[1:]) if known else top.parse_args(words)
    outside = arguments.outside or vars(arguments).get("results") or vars(arguments).get("onnx")
    if not outside and not Path("experiments/arms.yaml").is_file():
        return _complain(f"{Path.cwd()} is not the project's folder: it has no experiments; "
                         "cd to the folder with dvc.yaml")  # fmt: skip
    try:
        return arguments.command(arguments) or 0
    except BrokenPipeError:
        raise
    except FileNotFoundError as error:
        lost = error.filename
        remedy = f"{lost} is missing; where it belongs to the project: git checkout -- {lost}"
        return _complain(remedy if lost else str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}; check that the place exists, is writable and has room")
    except (ValueError, RuntimeError) as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return _complain("interrupted; run the same command again to go on from the last saved state", 130)


def _complain(sentence: str, status: int = EXIT_USER_ERROR) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
