"""The real program, started for a test."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
sys.path.insert(0, str(PACKAGE))


def program() -> Path:
    """`MOE_GPS_PROGRAM`, or what Cargo built last."""
    if "MOE_GPS_PROGRAM" in os.environ:
        return Path(os.environ["MOE_GPS_PROGRAM"])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for kind in ("release", "debug") if (path := target / kind / "moe-gps").exists()]
    if not built:
        raise SystemExit(f"moe-gps is not built in {target}: run `cargo build`, or name the program in MOE_GPS_PROGRAM")
    return max(built, key=lambda path: path.stat().st_mtime)


class Service:
    """`moe-gps serve` in a directory of its own; `with Service(…) as service` ends it."""

    def __init__(self, *arguments: str, listen: str = "127.0.0.1:0") -> None:
        self.data = Path(tempfile.mkdtemp(prefix="moe-gps-client-"))
        command = [str(program()), "serve", "--data-dir", str(self.data), "--listen", listen, "--log", "warn",
                   "--drain-delay-s", "0", *arguments]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MOE_GPS_")}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        address = self.data / "address"
        deadline = time.monotonic() + 30
        while not (address.exists() and address.read_text().endswith("\n")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(0.02)
        self.url = "http://" + address.read_text().strip()

    def stop(self) -> None:
        """Ends it and removes what it kept."""
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
