"""`cinelabel token`: who may use a server that other machines can reach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinelabel.serving.tokens import Role

app = typer.Typer(help="Log-in tokens of the server: add, list, remove.", no_args_is_help=True)

TokensFile = Annotated[
    Path | None,
    typer.Option("--tokens", help="File of tokens (default: in the user's configuration folder)."),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Who gets it; a name of a person or a machine.")],
    role: Annotated[
        Role,
        typer.Option(help="reader: look; annotator: also label and segment; admin: also train."),
    ] = Role.annotator,
    days: Annotated[int | None, typer.Option(help="Days it is valid (default: no end).")] = None,
    file: TokensFile = None,
) -> None:
    """Make a token and print it, once: only its hash is kept."""
    from cinelabel.cli import terminal
    from cinelabel.serving.tokens import Tokens, default_tokens

    tokens = Tokens(file or default_tokens())
    print(tokens.add(name, role, days))
    terminal.note(
        f"Give it to {name}; it cannot be shown again. In 3D Slicer it is the password, with any "
        "user name. Running servers know it already."
    )


@app.command("list")
def list_tokens(file: TokensFile = None) -> None:
    """Names, roles and times; the tokens themselves are nowhere kept."""
    from rich.table import Table

    from cinelabel.cli import terminal
    from cinelabel.serving.tokens import Tokens, default_tokens

    tokens = Tokens(file or default_tokens())
    table = Table("Name", "Role", "Added", "Valid until", title=str(tokens.path))
    for record in tokens.records():
        until = "always" if record.expires is None else record.expires[:16].replace("T", " ")
        if record.expired:
            until += " (over)"
        added = record.created[:16].replace("T", " ")
        table.add_row(record.name, record.role.value, added, until)
    terminal.print_table(table)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="As `cinelabel token list` shows it.")],
    file: TokensFile = None,
) -> None:
    """Forget a token; running servers refuse it at once."""
    from cinelabel.serving.tokens import Tokens, default_tokens

    Tokens(file or default_tokens()).remove(name)
    print(f"{name} is no longer let in.")
