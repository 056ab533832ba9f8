"""Names that a file uses and nothing defines, by the scopes of Python, without running anything."""

import ast
import builtins

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
MODULE_NAMES = {"__file__", "__name__", "__doc__", "__package__", "__spec__", "__path__", "__annotations__"}


def undefined(tree):
    """The ``ast.Name`` nodes of names that no scope around them defines, each with the names that are visible there.

    A file with ``from x import *``, or one that changes its ``globals()``, may define anything: nothing is said of it.
    """
    if any(_defines_anything(node) for node in ast.walk(tree)):
        return []
    module = _Scope(None, tree)
    _Binder(module).all(tree.body)
    for node in ast.walk(tree):
        module.names.update(node.names if isinstance(node, ast.Global) else ())
    found = []
    reader = _Reader(module, found, _annotations_are_text(tree))
    for statement in tree.body:
        reader.visit(statement)
    return found


def bound(tree):
    """Names that the file itself defines at its top level."""
    module = _Scope(None, tree)
    _Binder(module).all(tree.body)
    return module.names


def _defines_anything(node):
    if isinstance(node, ast.ImportFrom):
        return node.names[0].name == "*"
    return isinstance(node, ast.Name) and node.id in ("globals", "exec")


def _annotations_are_text(tree):
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and any(a.name == "annotations" for a in node.names)
        for node in tree.body
    )


class _Scope:
    def __init__(self, parent, node):
        self.parent = parent
        self.is_class = isinstance(node, ast.ClassDef)
        self.is_comprehension = isinstance(node, COMPREHENSIONS)
        self.names = set()
        self.globals = set()

    @property
    def module(self):
        return self if self.parent is None else self.parent.module

    def bind(self, name):
        (self.module if name in self.globals else self).names.add(name)

    def sees(self, name):
        scope, own = self, True
        while scope is not None:
            # Names of a class are not seen by the functions inside of it.
            if name in scope.names and (own or not scope.is_class):
                return True
            own = own and scope.is_comprehension
            scope = scope.parent
        return hasattr(builtins, name) or name in MODULE_NAMES

    def visible(self):
        scope, names = self, set()
        while scope is not None:
            names |= scope.names
            scope = scope.parent
        return names


class _Binder(ast.NodeVisitor):
    """Collects what the statements of one scope define, not those of scopes inside of it."""

    def __init__(self, scope):
        self.scope = scope

    def all(self, nodes):
        for node in nodes:
            self.visit(node)

    def visit_Name(self, node):
        if isinstance(node.ctx, (ast.Store, ast.Del)):
            self.scope.bind(node.id)

    def visit_Global(self, node):
        self.scope.globals.update(node.names)

    def visit_Nonlocal(self, node):
        pass

    def visit_Import(self, node):
        for alias in node.names:
            self.scope.bind(alias.asname or alias.name.split(".")[0])

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node):
        if node.name:
            self.scope.bind(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node):
        if node.name:
            self.scope.bind(node.name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node):
        if node.rest:
            self.scope.bind(node.rest)
        self.generic_visit(node)

    def visit_FunctionDef(self, node):
        self.scope.bind(node.name)
        self.all(node.decorator_list)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node):
        self.scope.bind(node.name)
        self.all(node.decorator_list)

    def visit_Lambda(self, node):
        pass

    def _comprehension(self, node):
        # `:=` inside of one binds in the scope around it; its own targets do not.
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self.scope.bind(inner.target.id)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension


class _Reader(ast.NodeVisitor):
    """Looks each name up where it is used."""

    def __init__(self, scope, found, annotations_are_text):
        self.scope = scope
        self.found = found
        self.annotations_are_text = annotations_are_text

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load) and not self.scope.sees(node.id):
            self.found.append((node, self.scope.visible()))

    def visit_Try(self, node):
        # Who catches NameError asks whether a name is there.
        caught = [handler for handler in node.handlers if "NameError" in _text(handler.type)]
        for part in (*([] if caught else node.body), *node.handlers, *node.orelse, *node.finalbody):
            self.visit(part)

    def visit_AnnAssign(self, node):
        self.visit(node.target)
        if node.value:
            self.visit(node.value)
        self._annotation(node.annotation)

    def visit_FunctionDef(self, node):
        for part in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(part)
        scope = self._inside(node)
        scope.scope.names |= {p.name for p in getattr(node, "type_params", [])}
        arguments = _arguments(node.args)
        for annotation in (*(a.annotation for a in arguments), node.returns):
            scope._annotation(annotation)
        scope._body(arguments, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node):
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(part)
        self._inside(node)._body(_arguments(node.args), [node.body])

    def visit_ClassDef(self, node):
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        inside = self._inside(node)
        inside.scope.names |= {"__qualname__", "__module__", *(p.name for p in getattr(node, "type_params", []))}
        inside._body([], node.body)

    def _comprehension(self, node):
        inside = self._inside(node)
        for generator in node.generators:
            _Binder(inside.scope).visit(generator.target)
        for part in ast.iter_child_nodes(node):
            inside.visit(part)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _inside(self, node):
        return _Reader(_Scope(self.scope, node), self.found, self.annotations_are_text)

    def _body(self, arguments, body):
        self.scope.names |= {argument.arg for argument in arguments} | {"__class__"}
        binder = _Binder(self.scope)
        # What is global must be known before what is bound.
        for statement in body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Global):
                    binder.visit_Global(node)
        binder.all(body)
        for statement in body:
            self.visit(statement)

    def _annotation(self, annotation):
        if annotation is not None and not self.annotations_are_text:
            self.visit(annotation)


def _arguments(args):
    several = [args.vararg, args.kwarg]
    return [*getattr(args, "posonlyargs", []), *args.args, *args.kwonlyargs, *filter(None, several)]


def _text(node):
    return "" if node is None else ast.dump(node)
