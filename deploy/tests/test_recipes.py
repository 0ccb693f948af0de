"""The commands of `docs/recipes/`, word by word: every block marked `sh`, page by page, against the real program."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from test_deploy import ROOT, Service, program, tool

RECIPES = ROOT / "docs/recipes"
# What a page's commands must have left, and printed.
LEFT = {
    "vllm.md": (["plan/arguments"], "vllm serve Qwen/Qwen3-235B-A22B --data-parallel-size 8 --enable-expert-parallel --"),
    "sglang.md": (["plan/placement", "later/placement"], "--init-expert-location"),
    "tensorrt-llm.md": (["plan/placement"], "moe_config:\n  load_balancer: "),
    "dynamo.md": (["prefill.configmap.yaml", "decode.arguments.json"], ""),
    "llm-d.md": (["decode/arguments"], "eplb"),
}


class Recipes(unittest.TestCase):
    """One page, one folder, one shell."""

    def test_every_page_is_followed(self) -> None:
        self.assertEqual(LEFT.keys() | {"README.md"}, {page.name for page in RECIPES.iterdir()})
        for page, (files, printed) in LEFT.items():
            with self.subTest(page), Service() as service, tempfile.TemporaryDirectory() as folder:
                done = self.follow(RECIPES / page, Path(folder), service.url)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn("without advice", done.stderr)
                self.assertIn(printed, done.stdout)
                for file in files:
                    self.assertGreater((Path(folder) / file).stat().st_size, 0, file)

    @staticmethod
    def follow(page: Path, folder: Path, url: str) -> subprocess.CompletedProcess:
        blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", page.read_text())
        for name in ("examples", "clients", "deploy"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "bin").mkdir()
        (folder / "bin/moe-gps").symlink_to(program())
        if "kubectl" in "".join(blocks):
            (folder / "bin/kubectl").symlink_to(tool("kubectl"))
        environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "MOE_GPS_URL": url, "PYTHONPATH": str(ROOT / "clients/python")}
        script = "set -euo pipefail\n" + "\n".join(blocks)
        return subprocess.run([shutil.which("bash"), "-c", script], cwd=folder, env=environment, capture_output=True, text=True)


if __name__ == "__main__":
    unittest.main()
