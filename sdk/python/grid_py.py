"""The plugin `grid_py`: turns grids as the built-in `grid.rotate` does."""

import json

from componentize_py_types import Err
from wit_world.imports.types import ErrorKind, Example, Grid, Task, ToolError

MANIFEST = {
    "manifest": 1,
    "name": "grid_py",
    "version": "0.1.0",
    "tools": [
        {
            "name": "py.rotate",
            "kind": "puzzle_augmenter",
            "summary": "Rotates every grid counterclockwise by 90, 180 or 270 degrees.",
            "params": {
                "type": "object",
                "properties": {"degrees": {"enum": [90, 180, 270]}},
                "required": ["degrees"],
                "additionalProperties": False,
            },
            "laws": {"deterministic": True, "shape": "bounded", "growth_max": 1},
        }
    ],
}


TURNS = {
    90: lambda rows: list(zip(*rows))[::-1],
    180: lambda rows: [row[::-1] for row in rows[::-1]],
    270: lambda rows: list(zip(*rows[::-1])),
}


def refusal(kind: ErrorKind, message: str) -> Err:
    return Err(ToolError(kind, message))


def turn_of(params: str):
    try:
        given = json.loads(params)
    except ValueError as error:
        raise refusal(ErrorKind.INVALID_PARAMS, f"the parameters are not JSON: {error}") from error
    match given:
        case {"degrees": 90 | 180 | 270 as degrees, **rest} if not rest:
            return TURNS[degrees]
    raise refusal(ErrorKind.INVALID_PARAMS, "expected `degrees`, one of 90, 180 and 270, and nothing else")


def turned(grid: Grid, turn) -> Grid:
    rows = [grid.cells[at : at + grid.width] for at in range(0, len(grid.cells), grid.width)]
    rows = turn(rows)
    return Grid(len(rows), len(rows[0]), b"".join(map(bytes, rows)))


class Manifest:
    def describe(self) -> str:
        return json.dumps(MANIFEST)


class PuzzleAugmenter:
    def augment(self, tool: str, params: str, seed: int, tasks: list[Task]) -> list[Task]:
        if tool != "py.rotate":
            raise refusal(ErrorKind.UNKNOWN_TOOL, f"there is no tool `{tool}` here")
        turn = turn_of(params)

        def example(given: Example) -> Example:
            return Example(turned(given.input, turn), turned(given.output, turn))

        return [Task([example(given) for given in task.train], example(task.test)) for task in tasks]
