"""Finds, in Python source, what would run or unpickle what comes from outside."""

import ast
from collections.abc import Iterator

MODULES = frozenset(
    "pickle cPickle _pickle dill cloudpickle joblib shelve marshal multiprocessing "
    "torch.multiprocessing xmlrpc code codeop".split()
)
CALLS = frozenset(
    "eval exec compile __import__ os.system os.popen recv_pyobj send_pyobj "
    "mktemp loads_pickle read_pickle yaml.load yaml.unsafe_load yaml.full_load".split()
)


def dangers(source: str) -> list[str]:
    """Return each danger with its line."""
    return [
        f"{node.lineno}: {what}"
        for node in ast.walk(ast.parse(source))
        for what in _found(node)
    ]


def _found(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {a.name}" for a in node.names if _is_bad(a.name))
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        names = [module, *(f"{module}.{a.name}" for a in node.names)]
        yield from (f"from {name}" for name in names if _is_bad(name))
    elif isinstance(node, ast.Call):
        yield from _call(node)


def _is_bad(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:n]) in MODULES for n in range(1, len(parts) + 1))


def _call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
    tail = name.rpartition(".")[2]
    if name in CALLS or (tail in CALLS and "." in name and tail not in BUILTINS):
        yield name
    if keywords.get("shell", "False") != "False":
        yield f"{name} with a shell"
    if keywords.get("allow_pickle", "False") != "False":
        yield f"{name} with pickle"
    if name == "torch.load" and keywords.get("weights_only") != "True":
        yield "torch.load without weights_only"


BUILTINS = frozenset(("eval", "exec", "compile", "__import__"))
"""As methods they are others: ``model.eval()``, ``re.compile()``."""
