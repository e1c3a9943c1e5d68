"""The judge of presets: the same figures as looking by hand, on as many pictures and at the scale asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import Bundle
from deploy.errors import SizeError
from deploy.measure.evaluation.choosing import judge_for
from deploy.measure.evaluation.originals import read_originals
from deploy.measure.ssimulacra2 import ssimulacra2
from deploy.packaged.places import CALIBRATION_IMAGES
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices


def test_ways_are_looked_at_on_calibration_pictures(idm_micro: Bundle) -> None:
    way = Choices(steps=1, stages="once")
    with Upscaler(idm_micro, threads=1) as upscaler:
        judge = judge_for(upscaler, 4.0, progress=lambda *_: None)
        assert judge is not None and judge.where == "16 calibration pictures"
        assert judge.can_judge(12.0) and not judge.can_judge(13.0)  # 144 pixels leave 12
        for scale, side in ((None, 128), (12.0, 144)):
            (look,) = judge.looks([way], scale=scale, pictures=2)
            originals = read_originals(CALIBRATION_IMAGES, scale or 4.0, limit=2, crop=side)
            by_hand = [
                ssimulacra2(upscaler.upscale(one.lr, size=one.size.for_user, choices=way), one.pixels)
                for one in originals
            ]
            assert look == pytest.approx(np.mean(by_hand), abs=1e-9)


def test_originals_that_are_too_small_are_refused_before_the_work(idm_micro: Bundle, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(tmp_path / "a.png")
    with Upscaler(idm_micro, threads=1) as upscaler, pytest.raises(SizeError, match="at least 11 a side are needed"):
        judge_for(upscaler, 4.0, folder=tmp_path, progress=lambda *_: None)
