"""The page of a backtest, read as strictly as it can be: as XML, and by the rules of HTML that it must keep."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "link", "img", "input", "br", "hr"}
"""Elements of HTML that this page may use and that have no end."""
Element = ET.Element


class Page:
    """Elements of a page. Raises AssertionError for one that is not valid, or not whole by itself."""

    def __init__(self, text: str) -> None:
        assert text.startswith("<!doctype html>\n")
        self.root = ET.fromstring(text.removeprefix("<!doctype html>\n"))
        assert Balance(text).open == []
        ids = [element.get("id") for element in self.root.iter() if element.get("id")]
        assert len(set(ids)) == len(ids)
        for element in self.root.iter():
            for name, value in element.items():
                assert not name.startswith("on"), "an attribute is a program"
                assert name != "style", "the policy of the page forbids it"
                if name == "href" and value.startswith("#"):
                    assert value[1:] in ids
                elif name in ("src", "href", "srcset", "action", "poster"):
                    assert value.startswith("data:"), "the page asks for something from elsewhere"
                elif name in ("for", "aria-labelledby", "aria-describedby"):
                    assert value in ids
        (style,) = self.all("style")
        self.style = style.text or ""
        assert not re.search(r"url\(|@import|//", self.style)

    def all(self, tag: str, class_: str | None = None, within: Element | None = None) -> list[Element]:
        """Elements of a tag, of HTML or of SVG, and of a class."""
        elements = (self.root if within is None else within).iter()
        named = [element for element in elements if element.tag.removeprefix(SVG) == tag]
        return [element for element in named if class_ is None or class_ in (element.get("class") or "").split()]

    def text(self) -> str:
        return "".join(self.root.itertext())

    def programs(self) -> list[Element]:
        return [script for script in self.all("script") if script.get("type") is None]

    def pictures(self) -> list[NDArray[np.uint8]]:
        """RGB, as large as the page says."""
        pictures = []
        for image in self.all("img"):
            decoded = cv2.imdecode(np.frombuffer(contents(image, "image/jpeg"), np.uint8), cv2.IMREAD_COLOR_RGB)
            assert decoded is not None
            assert decoded.shape[:2] == (int(image.get("height") or 0), int(image.get("width") or 0))
            pictures.append(np.asarray(decoded, np.uint8))
        return pictures

    def sounds(self) -> list[tuple[NDArray[np.int16], int]]:
        return [soundfile.read(io.BytesIO(contents(a, "audio/flac")), dtype="int16") for a in self.all("audio")]


def contents(element: Element, kind: str) -> bytes:
    head, _, body = (element.get("src") or "").partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(body, validate=True)


class Balance(HTMLParser):
    """Elements that a parser of HTML sees begin and not end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        # HTML ignores the slash: only void elements, and those within SVG, may be closed so.
        assert tag in VOID or "svg" in self.open, f"<{tag}/> stays open"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
