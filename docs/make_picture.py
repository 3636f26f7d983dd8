"""Write docs/demo.jpg, the picture of the README: python docs/make_picture.py PROJECT."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import focusnb

TARGET = Path(__file__).parent / "demo.jpg"
VIEWS = {
    "unaligned_preview": "image before",
    "unaligned_spectrum_preview": "spectrum before",
    "trajectory_preview": "trajectory",
    "micrograph_preview": "image after",
    "spectrum_preview": "spectrum after",
    "ctf_rings_preview": "CTF rings",
}
SIDE, GAP, CAPTION = 320, 12, 26


def main(folder: str) -> None:
    """Lay the views of the exposure with the longest motion that has a good CTF side by side."""
    with focusnb.open_project(folder) as project:
        table = project.table()
        good = table[table["ctf_quality"] == "ok"]
        pictures = {name: project.path(int(good["drift"].idxmax()), name) for name in VIEWS}
    sheet = Image.new("RGB", (3 * SIDE + 4 * GAP, 2 * (SIDE + CAPTION) + 3 * GAP), (24, 25, 28))
    pen = ImageDraw.Draw(sheet)
    for number, (name, caption) in enumerate(VIEWS.items()):
        left = GAP + number % 3 * (SIDE + GAP)
        top = GAP + number // 3 * (SIDE + CAPTION + GAP)
        picture = Image.open(pictures[name]).convert("RGB")
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left, top + CAPTION + (SIDE - picture.height)))
        pen.text((left, top + 4), caption, fill=(200, 203, 208), font=ImageFont.load_default(15))
    sheet.save(TARGET, quality=88)
    print(f"{TARGET} written")


if __name__ == "__main__":
    main(sys.argv[1])
