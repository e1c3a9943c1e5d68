"""What `python -m benchmarks.files` prints, on little, and the bound on the writers' memory at full size."""

import subprocess
import sys

import pytest

from benchmarks.files import SIZE, main


def test_every_part_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--presets", "draft", "--pictures", "1", "--threads", "1", "--size", "300", "200"])
    printed = capsys.readouterr().out
    for words in ("300 x 200 pixels of 16 bits", "\nTIFF ", "calibration: 1 pictures", "held out: 1 pictures"):
        assert words in printed
    (perfect,) = (line for line in printed.splitlines() if line.startswith("one that returns its input"))
    assert float(perfect.split()[5]) == 0  # the disc is white
    (packaged,) = (line for line in printed.splitlines() if line.startswith("packaged, draft"))
    assert float(packaged.split()[2]) <= 2  # of 255 levels
    (bicubic,), (network,) = (
        [row for row in printed.splitlines() if row.split()[:3] == ["draft", "all", way]]
        for way in ("bicubic", "network")
    )
    assert float(network.split()[3]) > float(bicubic.split()[3]) + 1  # dB of alpha
    (red,) = (line for line in printed.splitlines() if line.startswith("255 0 0"))
    assert float(red.split()[-1]) < 1.0  # CIEDE2000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["png", "tiff"])
@pytest.mark.parametrize("height", [1000, pytest.param(SIZE[1], marks=pytest.mark.long)])
def test_large_pictures_of_sixteen_bits_are_written_in_little_memory(name: str, height: int) -> None:
    command = [sys.executable, "-m", "benchmarks.files", "--write", name, "--size", str(SIZE[0]), str(height)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 250  # MiB, with Python and NumPy
