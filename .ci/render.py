"""The documents as pages: `python .ci/render.py OUT` writes them with their pictures and checks every link.

Needs Python-Markdown; the style is that of reports. Other files that documents link to are copied beside them.
"""

import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import markdown

ROOT = Path(__file__).resolve().parents[1]
STYLE = (ROOT / "src/app/report/page.css").read_text() + (
    "main{max-width:60rem}nav{font-size:.88rem;margin-bottom:1.5rem}nav a{margin-right:.9rem;display:inline-block}"
    "pre{overflow-x:auto;padding:.6rem;border:1px solid var(--rule)}img{max-width:100%;background:#fff}table{display:block;overflow-x:auto}"
)
LINK = re.compile(r'(?P<before>(?:href|src)=")(?P<to>[^"]+)(?=")')


def slug(text: str, separator: str) -> str:
    """The name of a heading as GitHub makes it, which the documents' links use."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", separator)


def documents() -> list[Path]:
    found = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(line) for line in found.splitlines() if not line.startswith("tests/")]


def page(document: Path, every: list[Path]) -> tuple[str, list[str]]:
    """A document as a page, and what it links to in this repository."""
    text = (ROOT / document).read_text()
    body = markdown.markdown(text, extensions=["tables", "fenced_code", "toc", "sane_lists"],
                             extension_configs={"toc": {"slugify": slug}})  # fmt: skip
    up, linked = "../" * (len(document.parts) - 1), []

    def turned(match: re.Match[str]) -> str:
        to = urlsplit(match["to"])
        if to.scheme or to.netloc or not (to.path or to.fragment):
            return match[0]
        linked.append(match["to"])
        path = re.sub(r"\.md$", ".html", to.path)
        if to.path and (ROOT / document.parent / unquote(to.path)).is_dir():
            path = f"{path.rstrip('/')}/README.html"
        return f"{match['before']}{path}{'#' + to.fragment if to.fragment else ''}"

    body = LINK.sub(turned, body)
    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), str(document))
    links = "".join(f'<a href="{up}{one.with_suffix(".html")}">{escape(str(one.with_suffix("")))}</a>' for one in every)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><nav>{links}</nav>{body}</main></body></html>\n",
        linked,
    )


def main() -> int:
    out, every = Path(sys.argv[1]), documents()
    rendered = {document: page(document, every) for document in every}
    names = {document: set(re.findall(r' id="([^"]+)"', text)) for document, (text, _) in rendered.items()}
    wrong = []
    for document, (text, linked) in rendered.items():
        target = out / document.with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        for link in linked:
            to = urlsplit(link)
            path = (ROOT / document.parent / unquote(to.path)).resolve() if to.path else ROOT / document
            relative = path.relative_to(ROOT) if path.is_relative_to(ROOT) else None
            if path.is_dir() and (path / "README.md").is_file() and relative is not None:
                path, relative = path / "README.md", relative / "README.md"
            if relative is None or not path.exists():
                wrong.append(f"{document}: {link} is not there")
            elif relative in names:
                if to.fragment and to.fragment not in names[relative]:
                    wrong.append(f"{document}: {link} has no such heading")
            elif path.is_file():
                (out / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, out / relative)
            else:
                wrong.append(f"{document}: {link} is a folder without README.md")
    print(f"{len(every)} documents, {sum(len(linked) for _, linked in rendered.values())} links")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
