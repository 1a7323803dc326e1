"""Write a report beside its page, and read it back. ``structure.py`` says what is in it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from ..errors import DataError
from .page import render
from .structure import Report

REPORT, PAGE = "report.json", "report.html"
_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
_structure = TypeAdapter[Report](Report)


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json`` and ``report.html`` and return the path of the former.

    Both are complete on disk before either takes the place of an older one. A report that does
    not have the structure is a bug of the caller: pydantic's error says where.
    """
    checked = _structure.validate_python(report)
    contents = {PAGE: render(checked).encode(), REPORT: orjson.dumps(checked, option=_INDENTED)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace_all(folder, contents)
    except OSError as error:
        raise DataError(f"{folder}: the report cannot be written ({error.strerror})") from None
    return folder / REPORT


def read_report(folder: Path) -> Report:
    """Read the report that ``write_report`` left in this folder."""
    path = folder / REPORT
    try:
        return _structure.validate_json(path.read_bytes())
    except OSError as error:
        remedy = "run `headrace evaluate` first"
        raise DataError(f"{path}: no report to read ({error.strerror}); {remedy}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise DataError(
            f"{path}: {place}: {first['msg']}; not a report of this version, evaluate again"
        ) from None


def _replace_all(folder: Path, contents: dict[str, bytes]) -> None:
    """Write every file under a passing name, then move them all into place."""
    drafts = {name: folder / f".{name}-{uuid.uuid4().hex[:8]}" for name in contents}
    try:
        for name, draft in drafts.items():
            with draft.open("wb") as file:
                file.write(contents[name])
                file.flush()
                os.fsync(file.fileno())
        for name, draft in drafts.items():
            draft.replace(folder / name)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
