"""Composes the `flotilla` command from its groups; each group is a module with a typer `app` of its own."""

from __future__ import annotations

import typer

from services.cli import dev, workloads
from services.cli import why as explaining
from services.cli.demo.command import demo

app = typer.Typer(
    name="flotilla",
    help="Run many Kubernetes clusters as one fleet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.add_typer(dev.app, name="dev")
app.command()(demo)
for command in (workloads.apply, workloads.delete, workloads.get, workloads.watch, explaining.why):
    app.command()(command)


@app.callback()
def root() -> None:
    """Run many Kubernetes clusters as one fleet."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
