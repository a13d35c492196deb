"""What real programmers wrote about real functions: the documentation inside packages that the lock pins.

Nothing is downloaded and nothing is imported; the sources are read. Licences: networkx, numpy, pandas,
sympy and torch are BSD-3-Clause, numba is BSD-2-Clause.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

FOLDERS: Mapping[str, str] = {
    "networkx": "networkx/algorithms",
    "numba": "numba/core",
    "numpy": "numpy/lib",
    "pandas": "pandas/core",
    "sympy": "sympy/polys",
    "torch": "torch/nn",
}
"""Where each library's functions are read; parts of the larger ones, to be quick."""

_PARAMETERS = re.compile(r"^Parameters\n-+\n(.*?)(?=\n\n\w[\w ]*\n-+\n|\Z)", re.MULTILINE | re.DOTALL)
_PARAMETER = re.compile(r"^(\w+) ?: (\S.*)\n((?:[ ]+\S.*\n?)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Function:
    """A documented function. module: its file, relative to the library's folder. signature: `name(a, b)`."""

    library: str
    module: str
    signature: str
    documentation: str

    @property
    def summary(self) -> str:
        """The documentation's first paragraph, on one line."""
        return " ".join(self.documentation.partition("\n\n")[0].split())

    def parameters(self) -> Iterator[tuple[str, str, str]]:
        """(name, type as written, explanation) of each parameter that is documented in numpydoc's form."""
        if section := _PARAMETERS.search(self.documentation):
            for name, kind, text in _PARAMETER.findall(section[1]):
                yield name, kind.strip(), " ".join(text.split())


@cache
def functions(library: str) -> tuple[Function, ...]:
    """A library's public functions with documentation, in the order of its files."""
    root = Path(str(metadata.distribution(library).locate_file(FOLDERS[library])))
    files = (path for path in sorted(root.rglob("*.py")) if "tests" not in path.parts)
    return tuple(
        Function(library, path.relative_to(root).as_posix(), _signature(node), text)
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if (text := ast.get_docstring(node))
    )


def _signature(node: ast.FunctionDef) -> str:
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return f"{node.name}({', '.join(name for name in names if name not in ('self', 'cls'))})"
