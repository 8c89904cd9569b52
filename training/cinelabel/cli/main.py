"""The `cinelabel` command: puts the sub-commands together and turns errors into one sentence."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cinelabel import __version__
from cinelabel.core.errors import CineLabelError

COMMANDS = (
    *("segment", "measure", "evaluate", "serve", "token", "demo", "phantom", "data", "train"),
    *("crossvalidate", "finetune", "simulate", "ensemble", "models", "labels"),
)
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

DESCRIPTION = """Segment short-axis cardiac cine MRI, measure it, and serve it to 3D Slicer.

Research software, not a medical device."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cinelabel {__version__}")
        raise typer.Exit()


def _frame(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; anywhere on the line.")
    ] = False,
) -> None:
    """The options before the sub-command; `debug` is read by `main`."""


def build_app() -> typer.Typer:
    """The Typer application with every sub-command.

    A module of this folder offers either a function with its own name or, if it has
    sub-commands itself, a Typer application named `app`. Their heavy imports are inside functions.
    """
    application = typer.Typer(
        help=DESCRIPTION,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback()(_frame)
    for name in COMMANDS:
        module = importlib.import_module(f"cinelabel.cli.{name}")
        group = getattr(module, "app", None)
        if isinstance(group, typer.Typer):
            application.add_typer(group, name=name)
        else:
            application.command(name)(getattr(module, name))
    return application


app = build_app()


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which may stand anywhere before `--`, and if it stood."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*kept, *arguments[end:]], len(kept) < end


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: what follows the program name; of the process if None.

    Raises:
        SystemExit: 0 on success, 2 after bad input or usage, 130 after an interruption, 1 if the
            reader of the output went away; the exception itself with `--debug`.
    """
    given, debug = _without_debug(list(sys.argv[1:] if arguments is None else arguments))
    try:
        app(given, prog_name="cinelabel")
    except CineLabelError as error:
        if debug:
            raise
        print(f"cinelabel: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, KeyboardInterrupt) or end.code == EXIT_INTERRUPTED:
            with contextlib.suppress(OSError):
                print("cinelabel: interrupted.", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        raise
