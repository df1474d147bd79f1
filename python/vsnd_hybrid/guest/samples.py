"""Sound as bytes and as arrays. NumPy is used where an array is wanted or must be converted, and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, cast

from vsnd_hybrid._core import numbered_frames
from vsnd_hybrid.wire import RATE_CODES, SAMPLES, PcmFormat

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Buffer

    #: What can be played. NumPy's types do not tell Python 3.11's that arrays are buffers.
    Samples = Buffer | np.ndarray[Any, Any]

#: Format of an array whose elements are of this type (see `struct`).
_NATIVE = {"b": "S8", "h": "S16", "H": "U16", "i": "S32", "I": "U32", "f": "FLOAT", "d": "FLOAT64"}
#: NumPy's type for a format's samples.
_DTYPES = {
    "S8": "i1", "U8": "u1", "S16": "<i2", "U16": "<u2", "S20": "<i4", "U20": "<u4", "S24": "<i4", "U24": "<u4",
    "S32": "<i4", "U32": "<u4", "FLOAT": "<f4", "FLOAT64": "<f8",
}  # fmt: skip
#: Full scale of the formats that floating-point arrays are converted to.
_SCALE = {"S16": 2.0**15, "S24": 2.0**23, "S32": 2.0**31}


#: What a request's field of 32 bits holds.
U32_MAX: Final = (1 << 32) - 1


def checked(what: str, number: int, lowest: int, highest: int = U32_MAX) -> None:
    """ValueError if `number` is not from `lowest` to `highest`."""
    if not lowest <= number <= highest:
        raise ValueError(f"{what} is {number}: expected a number from {lowest} to {highest}")


def frame_bytes(format: str, channels: int) -> int:
    """Bytes of a frame. ValueError if the format is unknown or has no whole bytes."""
    try:
        width = SAMPLES[PcmFormat[format]].width_bytes
    except KeyError:
        names = ", ".join(PcmFormat.__members__)
        raise ValueError(f"no format {format!r}: expected one of {names}") from None
    if not width:
        raise ValueError(f"format {format} has no whole bytes a sample")
    checked("channels", channels, 1, 255)
    return width * channels


def rate_code(rate: int) -> int:
    """The code of a rate in Hz; a number below 256 is a code itself, also one that means nothing. Else ValueError."""
    code = RATE_CODES.get(rate, rate)
    if not 0 <= code < 256:
        raise ValueError(f"no rate {rate} Hz: expected one of {', '.join(map(str, RATE_CODES))}")
    return code


def numbered(frames: int, frame_bytes: int = 4, first: int = 1) -> bytes:
    """Frames that count from `first`, little-endian: each can be recognised where it arrives."""
    return numbered_frames(first, frames, frame_bytes)


def as_bytes(
    data: Samples, format: str | None, channels: int | None, offered: Collection[str]
) -> tuple[bytes, str, int]:
    """Bytes, format and channels of what is to be played.

    Bytes are taken as they are, S16 stereo unless said otherwise. An array is a row of mono samples or has the shape
    (frames, channels); its type tells the format. Floating point (±1.0) becomes the format asked for, else FLOAT if that
    is among the offered ones, else S16.
    """
    view = memoryview(cast("Buffer", data))
    kind = view.format.lstrip("<=@") if view.format else "B"
    if kind in ("B", "c") and view.ndim == 1:
        return view.tobytes(), format or "S16", 2 if channels is None else channels
    if kind == "B":
        native = "U8"
    elif kind == "l":
        native = "S32" if view.itemsize == 4 else ""
    else:
        native = _NATIVE.get(kind, "")
    if not native or view.ndim > 2:
        raise ValueError(
            f"an array of type {view.format!r} with {view.ndim} dimensions: expected (frames, channels) of samples"
        )
    shape = view.shape or (1,)
    width = shape[1] if view.ndim == 2 else 1 if channels is None else channels
    if kind not in "fd":
        return view.tobytes(), format or native, width
    wanted = format or ("FLOAT" if "FLOAT" in offered else "S16")
    return (view.tobytes() if wanted == native else _from_float(data, wanted)), wanted, width


def _from_float(data: Samples, format: str) -> bytes:
    import numpy as np

    samples = np.asarray(data)
    if format in _SCALE:
        scale = _SCALE[format]
        samples = np.clip(np.rint(samples.astype("f8") * scale), -scale, scale - 1)
    elif not format.startswith("FLOAT"):
        raise ValueError(f"a floating-point array as {format}: expected FLOAT, FLOAT64, {', '.join(_SCALE)}")
    return samples.astype(_DTYPES[format]).tobytes()


def as_array(data: bytes, format: str, channels: int) -> np.ndarray[Any, Any]:
    """An array of shape (frames, channels). ValueError for formats that NumPy has no type for."""
    import numpy as np

    try:
        dtype = _DTYPES[format]
    except KeyError:
        raise ValueError(f"NumPy has no type for {format}: take the bytes") from None
    whole = len(data) - len(data) % frame_bytes(format, channels)
    return np.frombuffer(data[:whole], dtype=dtype).reshape(-1, channels)
