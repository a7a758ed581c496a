"""Guides: reStructuredText from Django templates, and how a terminal shows it.

A guide is full of command lines to copy: :func:`render_for_terminal` never wraps or clips one.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exceptions import DbdevError

if TYPE_CHECKING:
    from django.template import Engine
    from django.template.base import Template
    from docutils import nodes

# From a name to a text.


def template_names(backend: type) -> list[str]:
    """The names of a backend's guide: its own, then those of the classes that it extends."""
    classes = (base for base in backend.__mro__ if base is not object)
    return [f"django_dbdev/{base.__name__.lower()}.rst" for base in classes]


def render_template(name: str | Sequence[str], context: Mapping[str, Any]) -> str:
    """Render a guide; of several names the first that exists.

    The template is looked for in DIRS of the project's TEMPLATES, in ``templates`` of the
    installed apps, beside the class of ``context["backend"]`` and beside its packages, and
    last by the project's own engines, whose loaders may know other places. Nothing is escaped:
    the result is text.

    :raises DbdevError: when there is none, or it cannot be rendered.
    """
    from django.template import Context, TemplateDoesNotExist, TemplateSyntaxError

    names = [name] if isinstance(name, str) else list(name)
    beside = list(_folders_beside(context.get("backend")))
    try:
        template = _find_template(names, beside)
        # Not localised either: a port is not 20,021.
        text = template.render(Context(dict(context), autoescape=False, use_l10n=False))
    except TemplateSyntaxError as error:
        raise DbdevError(f"The guide {' or '.join(names)} cannot be rendered: {error}") from error
    except TemplateDoesNotExist as error:
        raise DbdevError(
            f"The guide {names[0]} uses the template {error}, which does not exist."
        ) from error
    return text.strip("\n") + "\n"


def _find_template(names: Sequence[str], beside: Sequence[Path]) -> Template:
    from django.template import Engine, TemplateDoesNotExist

    folders = [*_project_folders(), *beside, Path(__file__).parent / "templates"]
    engine = Engine(
        dirs=[str(folder) for folder in folders],
        libraries=_project_tags(),
        autoescape=False,
    )
    engines = [engine, *_project_engines()]
    for name in names:
        for candidate in engines:
            try:
                return candidate.get_template(name)
            except TemplateDoesNotExist:
                continue
    hint = "create it in the folder `templates` of an installed app"
    if beside:
        hint += f", or as {beside[0] / names[0]}"
    raise DbdevError(
        f"There is no guide: the template {names[0]} does not exist.",
        hints=[hint, "it is a Django template of a text in reStructuredText"],
    )


def _folders_beside(backend: object) -> Iterator[Path]:
    """``templates`` beside the backend's module, then beside each of its packages."""
    cls = backend if isinstance(backend, type) else type(backend)
    for base in cls.__mro__:
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        if base is object or not file or backend is None:
            continue
        for folder, _ in zip(Path(file).parents, base.__module__.split("."), strict=False):
            yield folder / "templates"


def _project_folders() -> Iterator[Path]:
    from django.apps import apps
    from django.conf import settings
    from django.template.utils import get_app_template_dirs

    if apps.ready:
        for engine in settings.TEMPLATES:
            yield from map(Path, engine.get("DIRS", ()))
        yield from map(Path, get_app_template_dirs("templates"))


def _project_tags() -> dict[str, str]:
    """The template tags of the installed apps."""
    from django.apps import apps
    from django.template.backends.django import get_installed_libraries

    try:
        return get_installed_libraries() if apps.ready else {}
    except Exception:
        # One app's broken tags must not cost the guides that do without.
        return {}


def _project_engines() -> Iterator[Engine]:
    from django.apps import apps
    from django.template import engines
    from django.template.backends.django import DjangoTemplates

    if not apps.ready:
        return
    try:
        configured = engines.all()
    except Exception:
        # A guide does not depend on the project's engines: one may lack its package.
        return
    for engine in configured:
        if isinstance(engine, DjangoTemplates):
            yield engine.engine


# From a text to a terminal.

#: What a terminal would obey, not show; and what shows a line in another order than it runs.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ERROR = 3  # The level of docutils from which on a part of the text is left out.
_INDENT = 4
_RULES = "=-~^"
_BOLD, _ITALIC, _UNDERLINE, _YELLOW, _CYAN = "1", "3", "4", "33", "36"


def render_for_terminal(rst: str, *, color: bool, width: int) -> str:
    """The guide as text, its paragraphs ``width`` wide; escape codes only with ``color``.

    What is no valid reStructuredText is given as it is, with a notice above.
    """
    rst = _UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", rst.replace("\r\n", "\n"))
    try:
        document = parse(rst)
        problem = _problem(document)
        lines = [] if problem else _Terminal(color).block(document, max(width, 20))
    # docutils raises what it likes on text that it was not made for.
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        lines = [f"This guide is not valid reStructuredText ({problem}). As it is:", "", rst]
    return "\n".join(lines).strip("\n") + "\n"


def parse(rst: str) -> nodes.document:
    """The document, with what docutils had to say about it in it."""
    from docutils.core import publish_doctree

    return publish_doctree(
        rst,
        settings_overrides={
            # Messages stay in the document, where _problem finds them; none is printed, none
            # ends the parsing, and an error of docutils itself reaches us.
            "report_level": 1,
            "halt_level": 6,
            "exit_status_level": 6,
            "warning_stream": io.StringIO(),
            "traceback": True,
            # A guide reads no files, and no configuration of the user's.
            "file_insertion_enabled": False,
            "raw_enabled": False,
            "_disable_config": True,
            "doctitle_xform": False,
            "docinfo_xform": False,
            "syntax_highlight": "none",
            "line_length_limit": 1_000_000,
        },
    )


def _problem(document: nodes.document) -> str:
    """The first error of the parsing; empty when there is none."""
    from docutils import nodes

    for message in document.findall(nodes.system_message):
        if message["level"] >= _ERROR:
            text = message.children[0].astext() if message.children else "no reason given"
            return f"line {message.get('line', '?')}: {' '.join(text.split())}"
    return ""


@dataclass(frozen=True)
class _Run:
    """Text in one style. ``whole`` text is never broken between lines."""

    text: str
    style: tuple[str, ...] = ()
    whole: bool = False


class _Terminal:
    """Visits a document: ``block_X`` gives the lines of a node X, ``inline_X`` its runs.

    Nodes without a method give what their children give.
    """

    def __init__(self, color: bool) -> None:
        self._color = color
        self._depth = 0

    # Blocks.

    def block(self, node: nodes.Node, width: int) -> list[str]:
        visit: Callable[[Any, int], list[str]]
        visit = getattr(self, f"block_{_tag(node)}", self._other_block)
        return visit(node, width)

    def _other_block(self, node: nodes.Node, width: int) -> list[str]:
        from docutils import nodes

        if isinstance(node, nodes.Invisible):
            return []
        if isinstance(node, nodes.Admonition):
            return self._labelled(_tag(node).capitalize(), node.children, width)
        if isinstance(node, nodes.TextElement | nodes.Text | nodes.Inline):
            return self._paragraph(node, width)
        return self._blocks(node.children, width)

    def _blocks(self, children: Iterable[nodes.Node], width: int) -> list[str]:
        lines: list[str] = []
        for child in children:
            if part := self.block(child, width):
                lines += [*([""] if lines else []), *part]
        return lines

    def _paragraph(self, node: nodes.Node, width: int, *style: str) -> list[str]:
        return [self._painted(line) for line in _wrap(self._inline(node, style), width)]

    def _indented(self, lines: Iterable[str], first: str = "", by: int = _INDENT) -> list[str]:
        indented = [" " * by + line if line else "" for line in lines]
        if first:
            indented[:1] = [first + (indented[0][by:] if indented else "")]
        return indented

    def _labelled(self, label: str, body: Iterable[nodes.Node], width: int) -> list[str]:
        heading = self._painted([_Run(f"{label}:", (_BOLD, _YELLOW))])
        return [heading, *self._indented(self._blocks(body, width - _INDENT))]

    def block_section(self, node: nodes.section, width: int) -> list[str]:
        self._depth += 1
        lines = self._blocks(node.children, width)
        self._depth -= 1
        # Two lines apart, but for one that begins right below a title.
        position = node.parent.index(node)
        below_text = position > 0 and _tag(node.parent.children[position - 1]) != "title"
        return ["", *lines] if below_text else lines

    def block_title(self, node: nodes.title, width: int) -> list[str]:
        if self._color:
            return self._paragraph(node, width, _BOLD, _UNDERLINE)
        lines = self._paragraph(node, width)
        rule = _RULES[min(max(self._depth, 1), len(_RULES)) - 1]
        return [*lines, rule * max(map(_cells, lines), default=0)]

    def block_literal_block(self, node: nodes.literal_block, width: int) -> list[str]:
        lines = (self._painted([_Run(line, (_CYAN,))]) for line in node.astext().split("\n"))
        return self._indented(lines)

    block_doctest_block = block_literal_block
    block_math_block = block_literal_block

    def block_block_quote(self, node: nodes.block_quote, width: int) -> list[str]:
        return self._indented(self._blocks(node.children, width - _INDENT))

    def block_line(self, node: nodes.line, width: int) -> list[str]:
        return self._paragraph(node, width) or [""]

    def block_line_block(self, node: nodes.line_block, width: int) -> list[str]:
        lines = [line for child in node.children for line in self.block(child, width - _INDENT)]
        return self._indented(lines, by=_INDENT if node.parent.tagname == "line_block" else 0)

    def block_transition(self, node: nodes.transition, width: int) -> list[str]:
        return ["-" * width]

    def block_bullet_list(self, node: nodes.bullet_list, width: int) -> list[str]:
        return self._list(node, ["- "] * len(node.children), width)

    def block_enumerated_list(self, node: nodes.enumerated_list, width: int) -> list[str]:
        start = node.get("start", 1)
        markers = [f"{start + index}. " for index in range(len(node.children))]
        if node.get("enumtype") in ("loweralpha", "upperalpha"):
            first = ord("a" if node["enumtype"] == "loweralpha" else "A") + start - 1
            markers = [f"{chr(first + index)}. " for index in range(len(node.children))]
        return self._list(node, markers, width)

    def _list(self, node: nodes.Element, markers: Sequence[str], width: int) -> list[str]:
        by = max(map(len, markers), default=0)
        items = [
            self._indented(self._blocks(item.children, width - by), marker.rjust(by), by)
            for item, marker in zip(node.children, markers, strict=True)
        ]
        return _joined(items, tight=all(len(item.children) < 2 for item in node.children))

    def block_definition_list(self, node: nodes.definition_list, width: int) -> list[str]:
        return _joined([self.block(item, width) for item in node.children])

    def block_definition_list_item(self, node: nodes.definition_list_item, width: int) -> list[str]:
        return [line for child in node.children for line in self.block(child, width)]

    def block_term(self, node: nodes.term, width: int) -> list[str]:
        return self._paragraph(node, width, _BOLD)

    def block_definition(self, node: nodes.Element, width: int) -> list[str]:
        return self._indented(self._blocks(node.children, width - _INDENT))

    block_classifier = block_field_body = block_description = block_definition
    block_field = block_option_list_item = block_definition_list_item
    block_field_list = block_option_list = block_definition_list
    block_field_name = block_option_group = block_term

    def block_admonition(self, node: nodes.Element, width: int) -> list[str]:
        title, *body = node.children
        return self._labelled(title.astext(), body, width)

    block_topic = block_admonition

    def block_row(self, node: nodes.row, width: int) -> list[str]:
        cells = (" ".join(cell.astext().split()) for cell in node.children)
        return [self._painted([_Run(" | ".join(cells))])]

    def block_thead(self, node: nodes.Element, width: int) -> list[str]:
        return [line for row in node.children for line in self.block(row, width)]

    block_tbody = block_thead

    def block_footnote(self, node: nodes.footnote, width: int) -> list[str]:
        label, *body = node.children
        first = f"[{label.astext()}] "
        return self._indented(self._blocks(body, width - len(first)), first, len(first))

    block_citation = block_footnote

    def block_system_message(self, node: nodes.system_message, width: int) -> list[str]:
        """Below an error: what is lost, such as a forbidden directive, is shown as written."""
        lost = [child for child in node.children if _tag(child) == "literal_block"]
        return self._blocks(lost, width)

    # Inline.

    def _inline(self, node: nodes.Node, style: tuple[str, ...]) -> Iterator[_Run]:
        visit: Callable[[Any, tuple[str, ...]], Iterator[_Run]]
        visit = getattr(self, f"inline_{_tag(node)}", self._children)
        yield from visit(node, style)

    def _children(self, node: nodes.Node, style: tuple[str, ...]) -> Iterator[_Run]:
        for child in node.children:
            yield from self._inline(child, style)

    def inline_text(self, node: nodes.Text, style: tuple[str, ...]) -> Iterator[_Run]:
        yield _Run(node.astext(), style)

    def inline_literal(self, node: nodes.literal, style: tuple[str, ...]) -> Iterator[_Run]:
        yield _Run(node.astext(), (*style, _CYAN), whole=True)

    inline_math = inline_literal

    def inline_strong(self, node: nodes.strong, style: tuple[str, ...]) -> Iterator[_Run]:
        yield from self._children(node, (*style, _BOLD))

    def inline_emphasis(self, node: nodes.Element, style: tuple[str, ...]) -> Iterator[_Run]:
        yield from self._children(node, (*style, _ITALIC))

    inline_title_reference = inline_emphasis

    def inline_reference(self, node: nodes.reference, style: tuple[str, ...]) -> Iterator[_Run]:
        yield from self._children(node, style)
        address = str(node.get("refuri", ""))
        if address and address.removeprefix("mailto:") != node.astext():
            yield _Run(f" ({address})", style)

    def inline_option_argument(
        self, node: nodes.option_argument, style: tuple[str, ...]
    ) -> Iterator[_Run]:
        yield _Run(node.get("delimiter", " ") + node.astext(), style)

    def inline_footnote_reference(
        self, node: nodes.Element, style: tuple[str, ...]
    ) -> Iterator[_Run]:
        yield _Run(f"[{node.astext()}]", style)

    inline_citation_reference = inline_footnote_reference

    def inline_image(self, node: nodes.image, style: tuple[str, ...]) -> Iterator[_Run]:
        yield _Run(str(node.get("alt") or node.get("uri", "")), style)

    def block_image(self, node: nodes.image, width: int) -> list[str]:
        return self._paragraph(node, width)

    # Lines.

    def _painted(self, runs: Iterable[_Run]) -> str:
        line = ""
        for style, group in groupby(runs, key=lambda run: run.style):
            text = "".join(run.text for run in group)
            paint = self._color and style and text
            line += f"\x1b[{';'.join(style)}m{text}\x1b[0m" if paint else text
        return line


def _tag(node: nodes.Node) -> str:
    """The name of the node's kind, such as "bullet_list"; "text" for the text in others."""
    return str(getattr(node, "tagname", "")).lstrip("#")


def _joined(items: Iterable[list[str]], tight: bool = False) -> list[str]:
    lines: list[str] = []
    for item in items:
        lines += [*([""] if lines and not tight else []), *item]
    return lines


def _wrap(runs: Iterable[_Run], width: int) -> Iterator[list[_Run]]:
    """Lines of at most ``width`` columns; a longer word has a line of its own, whole."""
    line: list[_Run] = []
    used = 0
    for word in _words(runs):
        length = sum(_cells(run.text) for run in word)
        if line and used + 1 + length > width:
            yield line
            line, used = [], 0
        if line:
            # A space between two words of one style bears it too: an underline goes on.
            same = line[-1].style == word[0].style
            line.append(_Run(" ", word[0].style if same else ()))
            used += 1
        line += word
        used += length
    if line:
        yield line


def _words(runs: Iterable[_Run]) -> Iterator[list[_Run]]:
    """What stands between spaces, which may be of several styles: ``dbdev_init``, or *this*."""
    word: list[_Run] = []
    for run in runs:
        if run.whole:
            word.append(_Run(run.text.replace("\n", " "), run.style))
            continue
        for index, part in enumerate(re.split(r"[ \t\n]+", run.text)):
            if index and word:
                yield word
                word = []
            if part:
                word.append(_Run(part, run.style))
    if word:
        yield word


def _cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    from rich.cells import cell_len

    return cell_len(text)
