"""What a package defines, read from its source: nothing is imported, so nothing can break.

Three things are taken for science modules: functions decorated with ``pandas_udf``, ``udf`` or ``science_module``;
names to which such a call is assigned; and a plain function ``x`` in the module ``….filter_x.filter``, which is how
Fink's filters of Rubin alerts are written.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DECORATORS = ("pandas_udf", "udf", "science_module")
# Modules of these names are listed even if they define nothing that can be called by column.
LISTED = ("processor", "filter")


@dataclass(frozen=True)
class Found:
    """A function that may be a science module; without a name, a module that has none."""

    module: str
    function: str = None
    line: int = 1
    # "decorated", "plain" (by convention), "inner" (inside of another function) or "none".
    how: str = "decorated"


class Source:
    """One module's syntax tree, and what its names stand for."""

    def __init__(self, name, path):
        self.name = name
        self.path = Path(path)
        self.tree = ast.parse(self.path.read_text(encoding="utf-8", errors="replace"), str(path))

    @cached_property
    def functions(self):
        """Nodes of functions and classes of the module, and of what is assigned to names, by name."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node.value
        return found

    @cached_property
    def imports(self):
        """Full names of what the module imports, anywhere in it, by the names that it uses."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                found.update({alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names})
        return found

    def _absolute(self, node):
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        parts = package[: len(package) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def full_name(self, node):
        """``requests.post`` for the expression ``r.post`` after ``import requests as r``; None for other expressions."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.full_name(node.value)
            return f"{base}.{node.attr}" if base else None
        return None


def locate(package):
    """The folder or file of a package, without importing it; None if there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    return Path(next(iter(spec.submodule_search_locations))) if spec.submodule_search_locations else Path(spec.origin)


def module_files(package):
    """(name, file) of each module of a package, in order of names."""
    root = locate(package)
    if root is None:
        return []
    if root.is_file():
        return [(package, root)]
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = [package, *path.relative_to(root).with_suffix("").parts]
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def found_in(source):
    """What a module defines, in the order of its lines."""
    found = [Found(source.name, name, node.lineno) for name, node in source.functions.items() if _is_declared(source, node)]
    folder, _, leaf = source.name.rpartition(".")
    convention = folder.rpartition(".")[2].removeprefix("filter_")
    if leaf == "filter" and not found and isinstance(source.functions.get(convention), ast.FunctionDef):
        found.append(Found(source.name, convention, source.functions[convention].lineno, "plain"))
    tops = {id(node) for node in source.tree.body}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef) and id(node) not in tops and _is_declared(source, node):
            found.append(Found(source.name, node.name, node.lineno, "inner"))
    if not found and leaf in LISTED:
        found.append(Found(source.name, how="none"))
    return sorted(found, key=lambda one: one.line)


def _is_declared(source, node):
    if isinstance(node, ast.FunctionDef):
        return any(_is_decorator(source, decorator) for decorator in node.decorator_list)
    return isinstance(node, ast.Call) and _is_decorator(source, node)


def _is_decorator(source, node):
    target = node.func if isinstance(node, ast.Call) else node
    name = source.full_name(target) or ""
    return name.split(".")[0] in ("pyspark", "redpoll") and name.split(".")[-1] in DECORATORS
