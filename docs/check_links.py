"""Look at every link of the built pages, offline: ``python docs/check_links.py build/docs``.

A link within the pages must lead to a file and an anchor that are there, and nothing that a page
loads (scripts, styles, pictures) may come from elsewhere.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What is loaded with the page, by tag and attribute.
_LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("object", "data")}


@dataclass
class Page(HTMLParser):
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value is None:
                continue
            if name == "id":
                self.anchors.add(value)
            elif (tag, name) in _LOADED:
                self.loaded.append(value)
                self.links.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def problems(root: Path) -> list[str]:
    pages: dict[Path, Page] = {}
    for file in sorted(root.rglob("*.html")):
        page = pages[file.resolve()] = Page()
        page.feed(file.read_text("utf-8"))
    found = []
    for file, page in pages.items():
        name = file.relative_to(root.resolve())
        found += [f"{name} loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                found.append(f"{name}: {link}: no such file")
            elif (
                target in pages
                and parts.fragment
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                found.append(f"{name}: {link}: no such anchor")
    if not pages:
        found.append(f"{root} has no pages")
    return found


if __name__ == "__main__":
    said = problems(Path(sys.argv[1]))
    print("\n".join(said) or "All links lead somewhere.")
    sys.exit(1 if said else 0)
