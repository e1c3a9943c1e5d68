import pytest

from deploy.quantization.stages import SHARES, Stages


def test_the_stages_follow_one_another_from_nothing_to_all() -> None:
    told: list[tuple[str, float]] = []
    stages = Stages(lambda doing, fraction: told.append((doing, fraction)))
    for name in SHARES:
        for fraction in (0.0, 1.0):
            stages(name)(name, fraction)
    fractions = [fraction for _, fraction in told]
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0)
    # Each begins where the one before it ended.
    assert fractions[1:-1:2] == pytest.approx(fractions[2::2])
    assert fractions[1] == pytest.approx(0.12)
