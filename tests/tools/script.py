"""Loads a program of tools/ as a module, so that tests can call its functions."""

import importlib.machinery
import importlib.util
import pathlib
import sys
import types

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def load(path: str) -> types.ModuleType:
    """The program at `path`, from the project's root, as a module; its `__main__` part does not run."""
    sys.dont_write_bytecode = True
    name = pathlib.PurePath(path).stem
    spec = importlib.util.spec_from_loader(name, importlib.machinery.SourceFileLoader(name, str(ROOT / path)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
