"""GStreamer without a camera: made pictures, mistakes in pipelines, presets for hardware that is not here."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.errors import SourceError
from agent.sources import Intake
from agent.sources._gst import bindings, pictures
from agent.sources._gst.pictures import _is_bounded
from agent.sources._gst.presets import DECODERS, check_decoder, csi_source, elements, rtp_chain
from agent.sources._gst.text import masking
from agent.sources.gstreamer import Config
from engines.card import Input
from engines.pixels import Image, Picture, TensorWriter, fit
from tests.support.gstreamer import need_gstreamer


@pytest.fixture
def gst() -> object:
    need_gstreamer()
    return bindings.gstreamer()


def take(config: Config, count: int = 1, intake: Intake | None = None) -> list[Image]:
    with config.open(threading.Event(), intake or Intake()) as pictures:
        return [image for _, image in islice(pictures, count)]


def rgb(image: Image) -> np.ndarray:
    """The picture in the engines' own colours, (3, 64, 64)."""
    into = Input(width=64, height=64, fit="stretch")
    out = np.empty((3, 64, 64), np.uint8)
    TensorWriter().write(Picture(image), fit(image.size, None, into), out)
    return out


@pytest.mark.parametrize("size", [(640, 360), (322, 182), (71, 53)])
@pytest.mark.parametrize("name", ["I420", "NV12", "BGR", "RGB", "GRAY8", "YUY2", "I420_10LE", "RGBx"])
def test_every_format_is_read_in_its_own_colours(gst: object, name: str, size: tuple[int, int]) -> None:
    """What the engines do not read is converted; rows may be padded, sides may be odd."""
    caps = f"video/x-raw,format={name},width={size[0]},height={size[1]}"
    (image,) = take(Config(pipeline=f"videotestsrc pattern=solid-color foreground-color=0xffc83214 ! {caps}"))
    assert image.size == size
    expected = [200, 50, 20] if name != "GRAY8" else [rgb(image)[0, 0, 0]] * 3
    assert np.abs(rgb(image)[:, 2:-2, 2:-2].astype(int) - np.array(expected)[:, None, None]).max() <= 4


@pytest.mark.parametrize(
    ("colorimetry", "matrix", "level"),
    [
        ("bt601", "601", "limited"),
        ("bt709", "709", "limited"),
        ("1:4:0:0", "601", "full"),
        ("2:0:0:0", "601", "limited"),
    ],
)
def test_matrix_and_range_are_those_of_the_caps(gst: object, colorimetry: str, matrix: str, level: str) -> None:
    """Or what players assume where they say nothing."""
    caps = f"video/x-raw,format=I420,width=640,height=360,colorimetry={colorimetry}"
    (image,) = take(Config(pipeline=f"videotestsrc ! {caps}"))
    assert (image.matrix, image.range) == (matrix, level)


def test_pictures_are_views_and_cannot_be_written_to(gst: object) -> None:
    """No copy between the decoder and the engine."""
    (image,) = take(Config(pipeline="videotestsrc ! video/x-raw,format=I420"))
    assert not any(plane.flags.owndata or plane.flags.writeable for plane in image.planes)


def test_where_buffers_cannot_be_addressed_they_are_copied(gst: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with bindings that we do not know yet: the same pixels, by another way."""
    config = Config(pipeline="videotestsrc ! video/x-raw,format=I420")
    (view,) = take(config)
    monkeypatch.setattr(pictures, "_is_addressable", lambda: False)
    (copy,) = take(config)
    for one, other in zip(view.planes, copy.planes, strict=True):
        assert (one == other).all()


def test_a_picture_from_a_pool_with_a_bound_is_known(gst) -> None:
    """It is copied, because who keeps some of them would hold the source up."""
    for most, bounded in ((0, False), (4, True)):
        pool = gst.BufferPool.new()
        settings_of = pool.get_config()
        gst.BufferPool.config_set_params(settings_of, None, 64, 2, most)
        pool.set_config(settings_of)
        pool.set_active(True)
        _, buffer = pool.acquire_buffer(None)
        assert _is_bounded(buffer) is bounded
        del buffer
        pool.set_active(False)
    assert _is_bounded(gst.Buffer.new_allocate(None, 64, None)) is False


def test_a_live_source_is_stamped_when_its_picture_comes(gst: object) -> None:
    """At the rate that it has; without a decoder the codec is raw."""
    intake = Intake()
    with Config(pipeline="videotestsrc is-live=true ! video/x-raw,framerate=50/1").open(
        threading.Event(), intake
    ) as pictures:
        stamps = [captured for captured, _ in islice(pictures, 10)]
    steps = np.diff([stamp.monotonic_ns for stamp in stamps]) / 1e6
    assert 15 < np.median(steps) < 25
    assert {stamp.clock for stamp in stamps} == {"receive"}
    assert intake.facts == {"codec": "raw", "size": "320x240", "rate": "50"}


def test_a_pipeline_may_bring_its_own_appsink(gst: object) -> None:
    """With other branches beside it; two of them are one too many."""
    branches = "videotestsrc is-live=true ! tee name=t t. ! queue ! fakesink t. ! queue ! videoconvert ! appsink"
    assert len(take(Config(pipeline=branches), 3)) == 3
    with pytest.raises(SourceError, match="has 2 ends to take pictures from"):
        take(Config(pipeline=f"{branches} t. ! queue ! appsink"))


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("rtspsr location=x ! decodebin", "rtspsr ! decodebin: no element \"rtspsr\", did you mean 'rtspsrc'?"),
        ("videotestsrc patern=1", 'videotestsrc: the pipeline is not right: no property "patern" in element'),
        ("videotestsrc pattern=foo", 'could not set property "pattern" in element "videotestsrc" to "foo"'),
        ("videotestsrc !", "videotestsrc: the pipeline is not right: syntax error"),
        ("videotestsrc ! fakesink", "could not link fakesink"),
        ("audiotestsrc", "could not link audiotestsrc"),
        ("filesrc location=/absent.mp4 ! decodebin", 'Resource not found (No such file "/absent.mp4")'),
        ("videotestsrc ! video/x-raw,format=YUY2 ! appsink", "not-negotiated (-4)): put videoconvert"),
        ("videotestsrc ! appsink caps=video/x-raw,format=YUY2", "its appsink gets YUY2, the engines read I420"),
        ("fakesrc ! appsink", "its appsink gets no raw video"),
        ("fakesrc sizetype=fixed sizemax=9 ! video/x-raw,format=RGB,width=8,height=8,framerate=1/1", "cannot be read"),
        ("videotestsrc is-live=true num-buffers=2", "videotestsrc: the camera has ended the stream"),
    ],
)
def test_a_mistake_in_a_pipeline_is_said_in_gstreamers_words(
    gst: object, capfd: pytest.CaptureFixture[str], pipeline: str, said: str
) -> None:
    """In one line, with the pipeline's elements; nothing else is printed."""
    with pytest.raises(SourceError) as caught:
        take(Config(pipeline=pipeline, timeout_s=3), 10)
    assert str(caught.value).startswith("GStreamer ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_source_that_gives_nothing_is_lost_in_time(gst: object) -> None:
    """As a camera is."""
    with pytest.raises(SourceError, match=r"no picture for 0\.2 s"):
        take(Config(pipeline="appsrc", timeout_s=0.2))


def test_a_live_pipeline_cannot_be_lossless(gst: object) -> None:
    """It would wait for us."""
    with pytest.raises(SourceError, match="leave out 'pace: lossless'"):
        take(Config(pipeline="videotestsrc is-live=true", pace="lossless"))


def test_a_recording_ends_without_an_error(gst: object) -> None:
    """After its last picture."""
    assert len(take(Config(pipeline="videotestsrc num-buffers=7", pace="lossless"), 100)) == 7


_WORDS = ["videotestsrc", "!", "video/x-raw", "format=I420", "=", "name=t", "t.", "(", ")", '"', "'", "tee", "appsink"]
_WORDS += ["bin.(", "width=0", "framerate=1/0", "\\", "\x01", "é", "fakesrc", "@", "{", "}", "caps=", ";", ":", "%s%n"]
_WORDS += ["video/x-raw(memory:NVMM)", "decodebin", ".src_0", "videotestsrc.src", "num-buffers=1", "queue"]


def test_nonsense_is_refused_and_nothing_dies_of_it(gst: object) -> None:
    """In a process of its own, because GStreamer's parser does die of some texts that we refuse before."""
    command = [sys.executable, "-X", "faulthandler", "-c", f"from {__name__} import nonsense; nonsense()"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(st.sampled_from(_WORDS) | st.text(max_size=3), min_size=1, max_size=9), st.sampled_from(["", " "]))
def nonsense(words: list[str], space: str) -> None:
    with contextlib.suppress(ValidationError, SourceError):
        take(Config(pipeline=space.join(words), timeout_s=0.05))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"pipeline": "videotestsrc", "url": "rtsp://h/x"},
        {"pipeline": "videotestsrc", "decoder": "software"},
        {"url": "rtsp://h/x", "pace": "lossless"},
        {"csi": {}, "transport": "udp"},
        {"url": "http://h/x"},
        {"url": "rtsp://"},
        {"url": "rtsp://h/x", "password": "p"},
        {"pipeline": ""},
        {"pipeline": "videotestsrc ! queue t. ! fakesink"},
    ],
)
def test_what_does_not_fit_together_is_refused_by_the_configuration(keys: dict) -> None:
    """Without GStreamer, and without showing what was given."""
    with pytest.raises(ValidationError):
        Config.model_validate(keys)


def test_messages_name_no_secrets(gst: object) -> None:
    """Though GStreamer repeats a property's value; what is no secret stays readable."""
    with pytest.raises(SourceError) as caught:
        take(Config(pipeline='v4l2src device=0 ! fakesink user-pw="gehe im" sync=gehe'))
    assert "gehe im" not in str(caught.value)
    mask = masking("rtspsrc user-pw='a b' sensor-id=0 ! x password=geheim", "Pa$$")
    assert mask("a b, 0, geheim, Pa$$, rtsp://u:p@h") == "***, 0, ***, ***, rtsp://***@h"


def test_labels_name_no_secrets() -> None:
    """Neither of a URL nor of a pipeline."""
    config = Config(
        pipeline="souphttpsrc location=http://me:geheim@h/x user-pw=geheim ! jpegdec ! video/x-raw,a=geheim"
    )
    assert config.label == "GStreamer souphttpsrc ! jpegdec ! ..."
    assert Config(url="rtsp://me:geheim@10.0.0.7/x").label == "rtsp://***@10.0.0.7/x"
    assert "geheim" not in repr(config) + repr(Config(url="rtsp://me:geheim@10.0.0.7/x"))


def among(*names: str):
    """A machine that has these elements."""
    return lambda name: name in names


SOFTWARE = ("rtph264depay", "h264parse", "avdec_h264", "jpegdec")


def test_the_decoder_is_the_best_that_is_there() -> None:
    """Hardware before software, and of software the one with the least delay."""
    assert rtp_chain("H264", "auto", among(*SOFTWARE)) == "rtph264depay ! h264parse ! avdec_h264 max-threads=1"
    assert rtp_chain("H264", "auto", among(*SOFTWARE, "nvh264dec")).endswith("! nvh264dec")
    assert rtp_chain("H264", "auto", among(*SOFTWARE, "vah264dec")).endswith("! vah264dec")
    assert rtp_chain("H264", "auto", among(*SOFTWARE, "vaapih264dec")).endswith("! vaapih264dec")
    assert rtp_chain("H264", "software", among(*SOFTWARE, "vah264dec")).endswith("! avdec_h264 max-threads=1")
    jetson = rtp_chain("H264", "auto", among(*SOFTWARE, "nvv4l2decoder", "nvvidconv", "nvh264dec"))
    assert elements(jetson) == ["rtph264depay", "h264parse", "nvv4l2decoder", "nvvidconv"]
    assert rtp_chain("JPEG", "auto", among(*SOFTWARE, "nvh264dec")) == "rtpjpegdepay ! jpegdec"


def test_a_decoder_that_is_not_there_is_an_error_with_its_package() -> None:
    """One that was asked for by name already when opening."""
    for name, decoder in DECODERS.items():
        with pytest.raises(SourceError, match=f"decoder {name}: there is no element .* install {decoder.package}"):
            check_decoder(name, among())
    check_decoder("auto", among())
    with pytest.raises(SourceError, match=r"install gstreamer1\.0-libav"):
        rtp_chain("H264", "auto", among("rtph264depay", "h264parse"))
    with pytest.raises(SourceError, match="the camera sends VP8; known: H264, H265, JPEG"):
        rtp_chain("VP8", "auto", among())


@pytest.mark.parametrize(
    ("encoding", "codec", "camera"),
    [
        ("H264", "h264", "openh264enc ! rtph264pay"),
        ("H265", "hevc", "x265enc tune=zerolatency speed-preset=ultrafast log-level=none ! h265parse ! rtph265pay"),
        ("JPEG", "mjpeg", "jpegenc ! rtpjpegpay"),
    ],
)
def test_software_decodes_what_cameras_send(gst, encoding: str, codec: str, camera: str) -> None:
    """From RTP packets on."""
    made = "videotestsrc num-buffers=5 pattern=solid-color foreground-color=0xffc83214 ! video/x-raw,format=I420"
    chain = rtp_chain(encoding, "software", gst.ElementFactory.find)
    intake = Intake()
    taken = take(Config(pipeline=f"{made} ! {camera} ! {chain}", pace="lossless"), 10, intake)
    assert len(taken) == 5
    assert np.abs(rgb(taken[-1]).astype(int) - np.array([200, 50, 20])[:, None, None]).max() <= 12
    assert intake.facts["codec"] == codec
    assert intake.unreadable == 0


def test_a_jetsons_camera_is_a_pipeline_of_its_elements() -> None:
    """On any other machine, an error with the package."""
    chain = csi_source(1, 1280, 720, 29.97, among("nvarguscamerasrc", "nvvidconv"))
    assert chain == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=2997/100"
        " ! nvvidconv ! video/x-raw,format=NV12"
    )
    with pytest.raises(SourceError, match="there is no element nvarguscamerasrc here: on a Jetson install"):
        csi_source(0, 1920, 1080, 30, among())


def test_without_a_jetson_its_presets_say_so(gst: object) -> None:
    """By the source, with its label."""
    for config, label in (
        (Config(csi={"sensor": 2}), "CSI sensor 2: there is no element nvarguscamerasrc here"),
        (Config(url="rtsp://127.0.0.1:9/x", decoder="jetson"), "rtsp://127.0.0.1:9/x: decoder jetson: there is no"),
    ):
        with pytest.raises(SourceError) as caught:
            take(config)
        assert str(caught.value).startswith(label)


def test_bindings_for_another_python_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything else of the system's packages; where there are none, the error says what to install."""
    monkeypatch.setattr(bindings.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(bindings.Absent, match="not installed: sudo apt install python3-gi"):
        bindings._import_gi((str(tmp_path),))
    (tmp_path / "gi").mkdir()
    (tmp_path / "gi" / "__init__.py").write_text("raise AssertionError('must not be run')")
    (tmp_path / "gi" / "_gi.cpython-39-x86_64-linux-gnu.so").touch()
    with pytest.raises(bindings.Absent, match="are not for Python 3"):
        bindings._import_gi((str(tmp_path),))


def test_only_opening_it_loads_gstreamer() -> None:
    """Reading a configuration with it does not."""
    program = (
        "import sys; from agent.config import loads\n"
        "loads('agent: {name: a}\\nmodels: {m: {model: x}}\\ncameras: {c: {source: {type: gstreamer, pipeline: v}, "
        "models: [m]}}\\n', 'x')\n"
        "assert not [name for name in sys.modules if name == 'gi' or name.startswith('gi.')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
