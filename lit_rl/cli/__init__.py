"""The command line: ``lit-rl fit | validate | test | predict | play | export | list``.

Exit status: 0 done, 1 a run failed, 2 what was asked for is wrong (and nothing was touched), 130 stopped
by Ctrl-C, 143 by SIGTERM. Errors are one line; ``LIT_RL_TRACEBACK=1`` shows where they come from.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from lit_rl import __version__
from lit_rl.cli.refusal import Refusal, did_you_mean, one_line

COMMANDS = {
    "fit": "train: --config FILE, or --model NAME --model.env ID; go on with --ckpt_path last",
    "validate": "greedy episodes: val/return and its spread",
    "test": "100 greedy episodes on other seeds than those of validation",
    "predict": "write trajectories as a data set: --output FILE.npz",
    "play": "show episodes, or --record FILE.gif",
    "export": "write the policy as ONNX and torch.export, checked",
    "list": "algorithms, the spaces that they serve, configs",
}
USAGE = "usage: lit-rl {" + ",".join(COMMANDS) + "} ..."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status.

    Args:
        argv: the words after ``lit-rl``; by default those of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        packages, arguments = _take_packages(arguments)
        command = arguments.pop(0) if arguments else "--help"
        if command in ("-h", "--help", "help"):
            return _print_help()
        if command == "--version":
            print(f"lit_rl {__version__}")
            return 0
        if command not in COMMANDS:
            raise Refusal(f"there is no command {command!r}{did_you_mean(command, list(COMMANDS))}. {USAGE}")
        if command == "list":
            return _list(arguments)
        return _run(command, arguments, packages)
    except Refusal as refusal:
        return _fail(refusal, 2)
    except KeyboardInterrupt:
        return 130
    except SystemExit as done:  # argparse after --help
        return done.code if isinstance(done.code, int) else 1
    except Exception as error:
        return _fail(error, 1)


def _run(command: str, arguments: list[str], packages: list[str]) -> int:
    from lit_rl.cli import commands  # and with it torch and Lightning: seconds

    for package in packages:
        commands.allow(package)
    return getattr(commands, command)(arguments)


def _list(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(f"usage: lit-rl list\n{COMMANDS['list']}")
        return 0
    if arguments:
        raise Refusal(f"list takes no arguments, and there is {arguments[0]!r}")
    import_module("lit_rl.listing").print_listing()
    return 0


def _take_packages(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Each ``--allow PACKAGE``, wherever it stands, and what remains."""
    packages, rest = [], []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name != "--allow":
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value.replace(".", "_").isidentifier():
            raise Refusal("--allow needs the name of a package, as in --allow my_package")
        packages.append(value)
    return packages, rest


def _print_help() -> int:
    print(USAGE + "\n")
    for command, text in COMMANDS.items():
        print(f"  {command:10} {text}")
    print(
        "\n  --allow PACKAGE  import a package of yours, and let class paths name it (repeatable)"
        "\n  --version        print the version"
        "\n\n'lit-rl COMMAND --help' shows the arguments of one command."
    )
    return 0


def _fail(error: Exception, status: int) -> int:
    if os.environ.get("LIT_RL_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"lit-rl: {one_line(error)}", file=sys.stderr)
    return status
