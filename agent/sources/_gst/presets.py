"""Ready-made pieces of pipelines: which elements decode what on which hardware, and which package brings them.

The pieces for Jetson, NVDEC and VA-API are written from their elements' documentation; `docs/configuring.md` says which
of them have been run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from agent.errors import SourceError

DecoderName = Literal["auto", "jetson", "nvdec", "vaapi", "software"]
Exists = Callable[[str], bool]
"""Whether there is an element of that name."""


@dataclass(frozen=True)
class Decoder:
    """One way to decode: for each codec the pieces that do it, best first."""

    chains: dict[str, tuple[str, ...]]
    package: str


#: best first: what `auto` tries in turn. What is not there for want of a driver is not registered either.
DECODERS: dict[str, Decoder] = {
    "jetson": Decoder(
        # Decoded pictures lie in the Jetson's own memory (NVMM); nvvidconv brings them into the system's.
        dict.fromkeys(
            ("h264", "hevc"), ("nvv4l2decoder enable-max-performance=true ! nvvidconv ! video/x-raw,format=NV12",)
        ),
        "nvidia-l4t-gstreamer",
    ),
    "nvdec": Decoder(
        {"h264": ("nvh264dec",), "hevc": ("nvh265dec",)},
        "gstreamer1.0-plugins-bad and the NVIDIA driver",
    ),
    "vaapi": Decoder(
        {
            "h264": ("vah264dec", "vaapih264dec"),
            "hevc": ("vah265dec", "vaapih265dec"),
            "mjpeg": ("vajpegdec", "vaapijpegdec"),
        },
        "gstreamer1.0-plugins-bad and intel-media-va-driver or mesa-va-drivers",
    ),
    "software": Decoder(
        # Each further thread of libav holds one more picture back.
        {
            "h264": ("avdec_h264 max-threads=1", "openh264dec"),
            "hevc": ("avdec_h265 max-threads=1", "libde265dec max-threads=1"),
            "mjpeg": ("jpegdec", "avdec_mjpeg max-threads=1"),
        },
        "gstreamer1.0-libav",
    ),
}

#: encoding name in SDP -> codec, and what makes whole pictures of its packets
_RTP = {
    "H264": ("h264", "rtph264depay ! h264parse"),
    "H265": ("hevc", "rtph265depay ! h265parse"),
    "JPEG": ("mjpeg", "rtpjpegdepay"),
}


def elements(chain: str) -> list[str]:
    """The elements that a piece of a pipeline names, caps left out."""
    words = [part.split()[0] for part in chain.split("!")]
    return [word for word in words if "/" not in word]


def check_decoder(name: DecoderName, exists: Exists) -> None:
    """Raise SourceError, without a label, where a decoder was asked for by name and nothing of it is here."""
    decoder = DECODERS.get(name)
    if decoder is not None and not any(_usable(chain, exists) for group in decoder.chains.values() for chain in group):
        first = elements(next(iter(decoder.chains.values()))[0])[0]
        raise SourceError(f"decoder {name}: there is no element {first} here: install {decoder.package}")


def rtp_chain(encoding: str, name: DecoderName, exists: Exists) -> str:
    """From RTP packets to pictures. Raises SourceError, without a label, where there is no way."""
    if encoding not in _RTP:
        raise SourceError(f"the camera sends {encoding}; known: {', '.join(_RTP)}; for others write a pipeline")
    codec, unpack = _RTP[encoding]
    for decoder in DECODERS.values() if name == "auto" else [DECODERS[name]]:
        for chain in decoder.chains.get(codec, ()):
            if _usable(chain, exists):
                return f"{unpack} ! {chain}"
    package = DECODERS["software" if name == "auto" else name].package
    raise SourceError(f"there is no {name} decoder for {codec} here: install {package}, or set another decoder")


def csi_source(sensor: int, width: int, height: int, rate: float, exists: Exists) -> str:
    """A camera on a Jetson's CSI connector. Raises SourceError, without a label, on other machines."""
    fraction = Fraction(rate).limit_denominator(1001)
    chain = (
        f"nvarguscamerasrc sensor-id={sensor}"
        f" ! video/x-raw(memory:NVMM),format=NV12,width={width},height={height}"
        f",framerate={fraction.numerator}/{fraction.denominator} ! nvvidconv ! video/x-raw,format=NV12"
    )
    for element in elements(chain):
        if not exists(element):
            raise SourceError(f"there is no element {element} here: on a Jetson install nvidia-l4t-gstreamer")
    return chain


def _usable(chain: str, exists: Exists) -> bool:
    return all(exists(element) for element in elements(chain))
