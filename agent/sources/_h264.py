"""Noticing that whole H.264 pictures were lost, which FFmpeg's decoder conceals without a word.

Reference pictures are numbered (`frame_num`); a jump means that one is missing, and that what follows is predicted
from something else. Syntax and meaning: ITU-T H.264 (08/2021), 7.3.2.1.1, 7.3.3 and 7.4.3.
"""

from __future__ import annotations

from typing import Any

_SLICE, _IDR_SLICE, _SPS = 1, 5, 7
_MOST_BITS = 16
_SLICE_HEAD = 16
"""Bytes that hold three Exp-Golomb codes and frame_num, of at most 16 bits."""
_WITH_CHROMA_FORMAT = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
"""profile_idc values whose parameter sets describe the chroma format."""


class FrameNumbers:
    """Watches the numbers of one stream's reference pictures; silent where a stream may jump on purpose."""

    def __init__(self, extradata: bytes | None) -> None:
        """`extradata`: parameter sets sent ahead of the stream, Annex B."""
        self._bits = 0
        """log2_max_frame_num; 0: not known, or jumps are allowed."""
        self._reference: int | None = None
        self._look(extradata or b"")

    def is_gap(self, packet: Any) -> bool:
        """Whether reference pictures are missing between the last access unit and this one (Annex B)."""
        return self._look(bytes(packet))

    def _look(self, data: bytes) -> bool:
        # The first slice is near the beginning, unless the beginning was lost and the rest clings to the next picture.
        start = data.find(b"\0\0\1")
        while start >= 0:
            header = data[start + 3 : start + 4]
            kind = header[0] & 31 if header else 0
            if kind == _SPS:
                end = data.find(b"\0\0\1", start + 3)
                self._bits = _frame_num_bits(data[start + 4 : end if end > 0 else None])
            elif kind in (_SLICE, _IDR_SLICE):
                return self._slice(kind, header[0] >> 5 & 3, data[start + 4 : start + 4 + _SLICE_HEAD])
            start = data.find(b"\0\0\1", start + 3)
        return False

    def _slice(self, kind: int, reference: int, head: bytes) -> bool:
        if not self._bits:
            return False
        bits = _Bits(head)
        for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
            bits.golomb()
        number = bits.take(self._bits)
        before = self._reference
        if reference or before is None:
            self._reference = number
        if kind == _IDR_SLICE or before is None:
            return False
        gap = number not in (before, (before + 1) % (1 << self._bits))
        if gap:
            self._reference = number
        return gap


def _frame_num_bits(sps: bytes) -> int:
    """log2_max_frame_num of a sequence parameter set; 0 if it cannot be told or numbers may jump."""
    bits = _Bits(sps)
    profile = bits.take(8)
    bits.take(16)  # constraint flags, level_idc
    bits.golomb()  # seq_parameter_set_id
    if profile in _WITH_CHROMA_FORMAT:
        chroma_format = bits.golomb()
        if chroma_format == 3:
            return 0  # may have separate colour planes, which change slice headers
        bits.golomb(), bits.golomb()  # bit depths
        bits.take(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.take(1):
            return 0  # scaling lists: no camera sends them
    count = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()  # log2_max_pic_order_cnt_lsb_minus4
    elif order == 1:
        return 0
    bits.golomb()  # max_num_ref_frames
    may_jump = bits.take(1)
    return 0 if may_jump or count > _MOST_BITS else count


class _Bits:
    """Reads bits of a NAL unit's payload, highest first; zeros after its end."""

    def __init__(self, payload: bytes) -> None:
        raw = payload.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(raw, "big"), 8 * len(raw)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            self._left = 0
            return 0
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code (9.1)."""
        rest = self._value & ((1 << self._left) - 1)
        zeros = self._left - rest.bit_length()
        self._left -= zeros
        return self.take(zeros + 1) - 1
