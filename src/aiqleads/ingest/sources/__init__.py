"""Every source that feeds come from: a module of this package with a `SOURCE`, found by itself."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from aiqleads.errors import UnknownName
from aiqleads.ingest.source import Source


def _found() -> dict[str, Source]:
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(__path__)]
    sources = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in sorted(sources, key=lambda each: str(each.name))}


SOURCES: dict[str, Source] = _found()


def source_named(name: str) -> Source:
    """The source of that name; UnknownName says which there are."""
    if name not in SOURCES:
        raise UnknownName(f"no source {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]
