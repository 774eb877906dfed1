"""Picture files as people keep them: the one reader, as 8-bit RGB."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from common.media.fault import FilePath, MediaError, check_file, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA")
"""Formats that Pillow may decode; of others, EPS would start Ghostscript on the file."""
_FULL_SCALE_16: Final = 65_535
"""Of 16-bit grey pictures, to which Pillow also scales a PGM of any other depth above 8 bits."""
_SIXTEEN: Final = ("I;16", "I;16L", "I;16B", "I;16N")


def read_picture(path: FilePath) -> NDArray[np.uint8]:
    """The picture as RGB, uint8 [H, W, 3]; of an animation the first frame, of transparency nothing.

    Grey of 16 bits is divided by 257, so that its full scale is white; grey in floats must lie in 0..1. The picture is
    as it is stored: an EXIF turn is not made, as the published ImageBind code makes none.
    Raises MediaError, also for more pixels than Pillow's limit against decompression bombs (89 million).
    """
    from PIL import Image, UnidentifiedImageError

    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that nothing here reads
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                return _rgb(path, image)
    except UnidentifiedImageError:
        raise MediaError(f"{path}: not a picture that can be read; use one of {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise MediaError(f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down first") from None
    except MediaError:
        raise
    except Exception as error:  # whatever a damaged file makes of Pillow's plugins
        raise MediaError(f"{path}: damaged or truncated picture ({first_line(error)}); write it again") from error


def _rgb(path: FilePath, image: Image) -> NDArray[np.uint8]:
    """8 bits by the full scale of the format; Pillow's own conversion cuts larger values off at 255, to white."""
    if image.mode in _SIXTEEN or (image.mode == "I" and image.format in ("PPM", "PNG")):
        grey = np.asarray(image).astype(np.float32) * (255 / _FULL_SCALE_16)
    elif image.mode == "F":
        values = np.asarray(image)
        if not (values.size and values.min() >= 0 and values.max() <= 1):  # NaN fails as well
            raise MediaError(
                f"{path}: grey in floats of {np.min(values):g} to {np.max(values):g}, which have no white; "
                f"save it as 8 or 16 bits, or scaled to 0..1"
            )
        grey = values * np.float32(255)
    elif image.mode == "I":
        raise MediaError(f"{path}: grey of 32 bits, which has no known white; save it as 8 or 16 bits")
    else:
        return np.array(image.convert("RGB"))
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=-1)
