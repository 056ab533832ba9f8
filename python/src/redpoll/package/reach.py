"""What a function reaches outside of its process: services that it asks, messages that it sends.

Both are found by reading: from the function to those that it calls, within its package and the packages of the same
family (``fink_science`` and ``fink_utils``, say). What is only named but not called counts, too: a predicate that would
send a message once a token is set must not be one that a re-run repeats.
"""

import ast
import re
from dataclasses import dataclass

from redpoll.package.source import Source, locate

MESSAGES = ("fink_utils.tg_bot", "fink_utils.slack_bot", "slack_sdk", "slack", "telegram", "smtplib")
SERVICES = (
    "aiohttp", "astroquery", "ftplib", "http.client", "httpx", "pyvo", "requests", "socket", "urllib.request", "urllib3",
)  # fmt: skip
# A request whose function speaks of one of these is a message, not a question.
_HOOK = re.compile(r"webhook|slack|telegram|_TG_|hooks?\.", re.IGNORECASE)


@dataclass(frozen=True)
class Effect:
    """What is reached ("messages" or "service"), by what call, in which function."""

    kind: str
    call: str
    place: str

    def __str__(self):
        what = "sends messages" if self.kind == "messages" else "asks a network service"
        return f"{what}: {self.call} in {self.place}"


class Reach:
    """Follows calls; each module's source is read once."""

    def __init__(self, package):
        self._family = re.split(r"[._]", package)[0]
        self._sources = {}

    def effects(self, module, function):
        """Effects of a function of a module, each once, messages first."""
        found = []
        self._follow(module, function, found, set())
        return sorted(dict.fromkeys(found), key=lambda effect: effect.kind != "messages")

    def _follow(self, module, function, found, seen):
        source = self._source(module)
        if source is None or (module, function) in seen:
            return
        seen.add((module, function))
        node = source.functions.get(function)
        if node is None:
            self._step(source.imports.get(function), found, seen, None, module)
            return
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in source.functions and part.id not in source.imports:
                self._follow(module, part.id, found, seen)
            elif isinstance(part, (ast.Name, ast.Attribute)) and isinstance(part.ctx, ast.Load):
                self._step(source.full_name(part), found, seen, node, f"{module}.{function}, line {part.lineno}")

    def _step(self, name, found, seen, node, place):
        if name is None:
            return
        kind = "messages" if _within(name, MESSAGES) else "service" if _within(name, SERVICES) else None
        # The bare module is only part of the name of what is called.
        if kind and "." in name.removeprefix(next(p for p in (*MESSAGES, *SERVICES) if _within(name, (p,)))):
            kind = "messages" if node is not None and _speaks_of_hooks(node) else kind
            found.append(Effect(kind, name, place))
        elif not kind and "." in name:
            module, _, function = name.rpartition(".")
            self._follow(module, function, found, seen)

    def _source(self, module):
        if module not in self._sources:
            self._sources[module] = self._read(module)
        return self._sources[module]

    def _read(self, module):
        root, *rest = module.split(".")
        if re.split(r"[._]", root)[0] != self._family:
            return None
        place = locate(root)
        if place is None or (place.is_file() and rest):
            return None
        file = place if place.is_file() else place.joinpath(*rest, "__init__.py")
        file = file if file.is_file() else place.joinpath(*rest).with_suffix(".py")
        try:
            return Source(module, file) if file.is_file() else None
        except SyntaxError:
            return None


def _within(name, prefixes):
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _speaks_of_hooks(node):
    names = (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
    texts = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))
    docs = ast.get_docstring(node, clean=False) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None
    return any(_HOOK.search(text) for text in (*names, *texts) if text != docs)
