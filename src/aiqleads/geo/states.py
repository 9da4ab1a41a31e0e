"""In which state of the United States a ZIP lies.

The first three digits of a ZIP are a sorting area, which the Postal Service gives to one state
(its labeling list L002). A few places near a border are served from the other side of it, and
have that side's ZIP.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

# First sorting area of each run, and the state up to the next one; '-' where none is a place of
# a state or territory (fields of the armed forces, and numbers that are not given out).
_AREAS = """
000 -  005 NY 006 PR 008 VI 009 PR 010 MA 028 RI 030 NH 039 ME 050 VT 055 MA 056 VT 060 CT
070 NJ 090 -  100 NY 150 PA 197 DE 200 DC 201 VA 202 DC 206 MD 220 VA 247 WV 269 -  270 NC
290 SC 300 GA 320 FL 340 -  341 FL 350 AL 370 TN 386 MS 398 GA 400 KY 430 OH 460 IN 480 MI
500 IA 530 WI 550 MN 569 DC 570 SD 580 ND 590 MT 600 IL 630 MO 660 KS 680 NE 700 LA 716 AR
730 OK 733 TX 734 OK 750 TX 800 CO 820 WY 832 ID 840 UT 850 AZ 870 NM 885 TX 889 NV 900 CA
962 -  967 HI 969 GU 970 OR 980 WA 995 AK
"""
_ZIP_DIGITS = 5


@lru_cache
def _areas() -> tuple[list[int], list[str]]:
    words = _AREAS.split()
    return [int(each) for each in words[::2]], words[1::2]


def state_of(zip_code: str) -> str:
    """Two letters of the Postal Service; '' for what is no ZIP of a state or territory."""
    head = zip_code[:3]
    if len(zip_code) < _ZIP_DIGITS or not (head.isascii() and head.isdigit()):
        return ""
    starts, states = _areas()
    return states[bisect_right(starts, int(head)) - 1].replace("-", "")
