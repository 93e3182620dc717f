"""A job's graph, printed for people and for tools."""

import json

import typer
from rich.console import Console
from rich.table import Table

from orion_beam.inspect.job_graph import JobGraph


def print_graph(graph: JobGraph, *, dot: bool, as_json: bool) -> None:
    """Print a graph as tables, in Graphviz's language or as JSON."""
    if dot:
        typer.echo(graph.as_dot())
    elif as_json:
        typer.echo(json.dumps(graph.as_json(), indent=2))
    else:
        console = Console()
        console.print(_steps(graph), _endpoints(graph))
        console.print("Nothing was started, and no broker was asked.")


def _steps(graph: JobGraph) -> Table:
    table = Table(title=f"Job over {', '.join(graph.countries)}")
    for column in ("step", "takes from", "reads", "writes", "rejects as"):
        table.add_column(column, overflow="fold")
    for step in graph.steps:
        sources = [edge.source for edge in graph.edges if edge.target == step.name and not edge.rejects]
        if rejecting := sum(edge.rejects for edge in graph.edges if edge.target == step.name):
            sources.append(f"dead letters of {rejecting} step{'s' * (rejecting > 1)}")
        table.add_row(step.name, "\n".join(sources), "\n".join(step.reads), "\n".join(step.writes), step.stage)
    return table


def _endpoints(graph: JobGraph) -> Table:
    table = Table()
    for column in ("topic or file", "is", "schema", "values"):
        table.add_column(column, overflow="fold")
    for endpoint in graph.endpoints:
        table.add_row(endpoint.name, endpoint.use, endpoint.schema, endpoint.values)
    return table
