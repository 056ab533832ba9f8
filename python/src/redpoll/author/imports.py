"""Imports that cannot be found in this environment, and names that a package does not have."""

import ast
import difflib
import importlib
import importlib.util
import types


def problems(tree, exists_beside):
    """(node, message, remedy) for each import that fails here and each ``package.name`` that is not there.

    ``exists_beside(name)`` says whether a file beside the module is meant; it is not imported. What is imported inside
    of a ``try`` that catches ImportError may be missing.
    """
    found, modules = [], {}
    for node, guarded in _imports(tree):
        found += [] if guarded else _missing(node, exists_beside)
        _remember(node, modules, exists_beside)
    found += _attributes(tree, modules)
    return found


def _imports(node, guarded=False):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, guarded
        elif isinstance(child, ast.Try) and _catches_import(child):
            yield from _imports(ast.Module(child.body, []), True)
            rest = [*child.handlers, *child.orelse, *child.finalbody]
            yield from _imports(ast.Module(rest, []), True)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from _imports(ast.Module(child.orelse, []), guarded)
        else:
            yield from _imports(child, guarded)


def _catches_import(node):
    caught = " ".join("Exception" if h.type is None else ast.dump(h.type) for h in node.handlers)
    return any(name in caught for name in ("ImportError", "ModuleNotFoundError", "'Exception'", "Exception"))


def _missing(node, exists_beside):
    if isinstance(node, ast.Import):
        return [(node, *told) for alias in node.names if (told := _import(alias.name, exists_beside))]
    if node.level or exists_beside(node.module):
        return []
    told = _import(node.module, exists_beside)
    if told:
        return [(node, *told)]
    module = importlib.import_module(node.module)
    return [
        (node, f"`{node.module}` has no `{alias.name}`", nearest(alias.name, dir(module)))
        for alias in node.names
        if alias.name != "*" and not _has(module, alias.name)
    ]


def _import(name, exists_beside):
    """What is wrong with ``import name``, and the remedy; None if nothing."""
    if exists_beside(name):
        return None
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if "." not in missing:
            return f"there is no package `{missing}` in this environment", f"add it to the requirements{_near(missing)}"
        return f"there is no `{missing}` in this environment", "correct the name, or the version in the requirements"
    except Exception as error:
        return f"importing `{name}` failed with {type(error).__name__}: {error}", "correct the requirements"
    return None


def _near(package):
    import sys

    names = set(getattr(sys, "stdlib_module_names", ()))
    try:
        from importlib.metadata import packages_distributions

        names |= set(packages_distributions())
    except ImportError:
        pass  # before Python 3.10
    near = difflib.get_close_matches(package, names, n=1)
    return f", or did you mean `{near[0]}`?" if near else ""


def _has(module, name):
    if hasattr(module, name):
        return True
    try:
        return importlib.util.find_spec(f"{module.__name__}.{name}") is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _remember(node, modules, exists_beside):
    """Which names stand for which packages. A name that is bound twice stands for none."""
    if isinstance(node, ast.ImportFrom):
        if node.level or exists_beside(node.module):
            return
        for alias in node.names:
            _put(modules, alias.asname or alias.name, f"{node.module}.{alias.name}")
        return
    for alias in node.names:
        if exists_beside(alias.name):
            continue
        _put(modules, alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0])


def _put(modules, name, path):
    modules[name] = path if modules.get(name, path) == path else None


def _attributes(tree, modules):
    rebound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    rebound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            path = _path(node)
            package = modules.get(path[0]) if path and path[0] not in rebound else None
            if package and (missing := _absent(package, path[1:])):
                owner, name = missing
                found.append((node, f"`{owner.__name__}` has no `{name}`", nearest(name, dir(owner))))
    return found


def _path(node):
    """``a.b.c`` as names, if that is all there is to it."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _absent(package, names):
    """The last module of a path and the last name, if the module does not have it."""
    try:
        owner = importlib.import_module(package)
    except Exception:
        return None  # `from package import name` of what is no module, or a failure that is told at the import
    for name in names[:-1]:
        owner = getattr(owner, name, None)
        if not isinstance(owner, types.ModuleType):
            return None
    lazy = hasattr(owner, "__getattr__")
    return None if lazy and _gives(owner, names[-1]) or _has(owner, names[-1]) else (owner, names[-1])


def _gives(owner, name):
    try:
        getattr(owner, name)
    except Exception:
        return False
    return True


def nearest(wanted, known):
    near = difflib.get_close_matches(wanted, [name for name in known if not name.startswith("_")], n=1)
    return f"did you mean `{near[0]}`?" if near else "correct the name"
