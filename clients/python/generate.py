#!/usr/bin/env python3
"""Writes `moe_gps/models.py` from the API description; with `--check` only says whether it is current.

Needs `pip install datamodel-code-generator==0.89.0` (Python 3.10 or later) on the interpreter that runs it: another
version writes other text. The package itself needs none of it.
"""

import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DESCRIPTION = HERE.parents[1] / "openapi" / "moe-gps.v1.json"
MODELS = HERE / "moe_gps" / "models.py"
HEAD = '''"""The bodies of requests and answers, as the API description has them.

Written by `generate.py`: change the service instead. Each is a plain dictionary at run time; the types are for editors
and checkers. A later service may answer with more fields than these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Optional, TypedDict, Union

if TYPE_CHECKING:
    # Newer than Python 3.9, and of use to checkers only.
    from typing_extensions import NotRequired, TypeAlias
else:
    # Objects with a field that is a word of Python, such as `from`, are evaluated.
    NotRequired = Optional
'''


def generated() -> str:
    """The text of the models."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "models.py"
        command = [sys.executable, "-m", "datamodel_code_generator", "--input", str(DESCRIPTION), "--input-file-type", "openapi",
                   "--output", str(output), "--output-model-type", "typing.TypedDict", "--target-python-version", "3.10",
                   "--enum-field-as-literal", "all", "--use-schema-description", "--no-use-union-operator",
                   "--no-use-closed-typed-dict", "--disable-timestamp", "--formatters", "builtin"]  # fmt: skip
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        body = output.read_text(encoding="utf-8")
    # What comes before the first class is the head of a newer Python.
    return HEAD + "\n\n" + body[body.index("class ") :]


def main() -> int:
    """Writes or compares."""
    text = generated()
    if "--check" not in sys.argv[1:]:
        MODELS.write_text(text, encoding="utf-8")
        return 0
    kept = MODELS.read_text(encoding="utf-8")
    if kept != text:
        lines = difflib.unified_diff(kept.splitlines(True), text.splitlines(True), str(MODELS), "generated")
        sys.stderr.writelines(lines)
        sys.stderr.write("the models are not those of the API description; run clients/python/generate.py\n")
    return int(kept != text)


if __name__ == "__main__":
    sys.exit(main())
