"""What makes a run faster: the apps of its tests share what is compiled, and its files are in memory."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from sqlalchemy import Column, event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache
from werkzeug.routing import Rule

MEMORY = Path("/dev/shm")  # noqa: S108
ROOM_MIN = 8 << 30  # bytes; a run writes half of it
GARBAGE_MIN = 20_000  # new objects; Python collects after 700, which takes a tenth of the time of a run


class CompiledTemplates(BytecodeCache):
    """Compiles each template once. A changed template has another checksum."""

    def __init__(self) -> None:
        self.compiled: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self.compiled.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.compiled[bucket.key, bucket.checksum] = bucket.code


def share_rules() -> None:
    """Compile each URL rule once."""
    compiled: dict[Any, Callable[..., Any]] = {}
    compile_builder = Rule._compile_builder

    def compile_once(rule: Rule, append_unknown: bool = True) -> Callable[..., Any]:
        key = (rule.rule, *rule._trace, *(rule.defaults or {}).items(), append_unknown)
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    Rule._compile_builder = compile_once  # type: ignore[method-assign]


def share_statements() -> None:
    """Compile each statement once a dialect, not once an engine, until a table gets a column."""
    statements: Any = LRUCache(3000)
    DefaultDialect.__hash__ = lambda dialect: hash(type(dialect))  # type: ignore[method-assign]
    DefaultDialect.__eq__ = lambda dialect, other: type(dialect) is type(other)  # type: ignore[method-assign]
    Engine._compiled_cache = property(lambda _: statements, lambda *_: None)  # type: ignore[assignment]
    # A statement's key names its table, not its columns. An app may add one for its kind of identity.
    event.listen(Column, "after_parent_attach", lambda *_: statements.clear())


def share() -> None:
    Flask.jinja_options = {"bytecode_cache": CompiledTemplates()}
    share_rules()
    share_statements()


def pytest_configure() -> None:
    """Write files to memory if it has room, because each commit to a database waits for the disk."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_MIN:
        os.environ.setdefault("TMPDIR", str(MEMORY))
        tempfile.tempdir = None


def pytest_collection_finish() -> None:
    """Never look for garbage in what the imports have made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_MIN)
