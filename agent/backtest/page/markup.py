"""Elements of a page, every text in them escaped: valid as HTML and as XML. Pure."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from common.printable import printable

_LEAVES = frozenset(("input", "img", "line", "link", "meta", "path", "rect"))
"""Elements that need no end; the empty ones of HTML and the shapes of SVG."""
_NOT_IN_XML = re.compile("[\ufffe\uffff]")


class Markup(str):
    """Text that is markup; any other text is escaped where it is put into an element."""

    __slots__ = ()


def element(name: str, /, *children: str | None, **attributes: str | float | None) -> Markup:
    """Build an element. A child that is not Markup is text.

    `class_` stands for `class` and `aria_label` for `aria-label`; an attribute of None is left out.
    """
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_clean(_plain(value)))}"
        for key, value in attributes.items()
        if value is not None
    )
    if name in _LEAVES and not children:
        return Markup(f"<{name}{told}/>")
    return Markup(f"<{name}{told}>{joined(*children)}</{name}>")


def joined(*children: str | None) -> Markup:
    """Return children one after the other, without an element around them."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def foreign(text: str) -> Markup:
    """Return a text from elsewhere as an element; writing from right to left in it does not turn what is around it."""
    return element("bdi", text)


def data(value: Any, class_: str) -> Markup:
    """Return plain values as an element that a script can read and that nothing in them can end."""
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return element("script", Markup(text), type="application/json", class_=class_)


def number(value: float) -> str:
    """A coordinate to a tenth, as short as it can be."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def percent(fraction: float) -> str:
    """A share of the width, to a thousandth of a per cent."""
    return f"{100 * fraction:.3f}".rstrip("0").rstrip(".") + "%"


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else escape(_clean(child))


def _clean(text: str) -> str:
    """The text without characters that no markup may hold, as a terminal would show them."""
    return _NOT_IN_XML.sub("\ufffd", printable(text))
