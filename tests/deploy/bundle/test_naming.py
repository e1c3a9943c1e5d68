"""Names follow from content, and can never lead out of the bundle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.bundle.naming import content_name, digits_of_name, stem_from_name, stem_of_content_name

DIGEST = "0123456789abcdef" + "f" * 48


def test_a_name_carries_the_first_sixteen_digits() -> None:
    assert content_name("denoise", "onnx", DIGEST) == "denoise-0123456789abcdef.onnx"
    assert digits_of_name("denoise-0123456789abcdef.onnx") == "0123456789abcdef"


@pytest.mark.parametrize(
    "name",
    [
        "../x-0123456789abcdef.bin",
        "/x-0123456789abcdef.bin",
        "a/x-0123456789abcdef.bin",
        "a\\x-0123456789abcdef.bin",
        ".x-0123456789abcdef.bin",
        "..",
        "",
        "bundle.json",
        "x-0123456789abcde.bin",
        "x-0123456789ABCDEF.bin",
        "x-0123456789abcdef.bin\n",
        "C:x-0123456789abcdef.bin",
    ],
)
def test_other_names_are_not_files_of_a_bundle(name: str) -> None:
    assert digits_of_name(name) is None
    assert stem_of_content_name(name) is None


@pytest.mark.parametrize("stem", ["", "../x", ".hidden", "a b", "x" * 81])
def test_an_unsafe_stem_is_a_mistake_of_the_caller(stem: str) -> None:
    with pytest.raises(ValueError, match="cannot be the stem"):
        content_name(stem, "bin", DIGEST)


@pytest.mark.parametrize("suffix", ["", ".png", "a/b", "onnx."])
def test_an_unsafe_suffix_is_a_mistake_of_the_caller(suffix: str) -> None:
    with pytest.raises(ValueError, match="cannot be the suffix"):
        content_name("x", suffix, DIGEST)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("Mein Bild (2).png", "Mein-Bild-2"), ("..", "file"), ("été.jpg", "t"), ("a.b.png", "a.b"), ("plain", "plain")],
)
def test_a_users_file_name_becomes_a_stem(name: str, stem: str) -> None:
    assert stem_from_name(name) == stem


@given(st.text())
def test_every_users_file_name_becomes_a_usable_stem(name: str) -> None:
    made = content_name(stem_from_name(name), "png", DIGEST)
    assert digits_of_name(made) == DIGEST[:16]
    assert stem_of_content_name(made) == stem_from_name(name)
