from pathlib import Path

import pytest

from deploy.errors import HubError
from deploy.hub.address import address_from_text, hub_address, is_plain_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a/b", ("a/b", None, None)),
        ("hf://a/b", ("a/b", None, None)),
        ("a/b@v1.0", ("a/b", "v1.0", None)),
        ("a/b@v1/x/y.pt", ("a/b", "v1", "x/y.pt")),
        ("a/b@refs/pr/3/y.pt", ("a/b", "refs/pr/3", "y.pt")),
        ("a/b/y.pt", ("a/b", None, "y.pt")),
        ("https://huggingface.co/a/b/", ("a/b", None, None)),
        ("https://huggingface.co/a/b/blob/main/x/y.pt?download=true", ("a/b", "main", "x/y.pt")),
        ("https://huggingface.co/a/b/tree/v2", ("a/b", "v2", None)),
    ],
)
def test_what_is_typed_becomes_an_address(text: str, parts: tuple[str, str | None, str | None]) -> None:
    address = address_from_text(text)
    assert (address.repository, address.revision, address.file) == parts
    assert hub_address(Path(str(address))) == address == hub_address(str(address))  # a Path keeps one slash of two


def test_a_commit_is_told_from_a_branch() -> None:
    assert address_from_text(f"a/b@{COMMIT}").commit == COMMIT
    assert address_from_text("a/b@main").commit is None
    assert hub_address("photo.png") is None and hub_address(Path("a/b")) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "hf://", "hf://a", "../b", "a/..", "a/b--c", "a/b@", "a/b@../x", "a/b@-x", "a/b/../../c", "a/b//c"),
        *("a b/c", "a/b/x\x1b[2J", "a/b/x\\..\\y", "https://example.org/a/b", "a/" + 200 * "b"),
    ],
)
def test_what_names_no_model_is_refused(text: str) -> None:
    with pytest.raises(HubError, match="does not name a model on a hub: ") as refused:
        address_from_text(text)
    assert str(refused.value).isprintable()


def test_only_plain_paths_may_become_files() -> None:
    assert is_plain_path("unet/diffusion_pytorch_model.safetensors")
    for name in ("../x", "a/../x", "/x", "a//x", "", "x\\y", "C:x", "x\0", "x\n", "x.", "a/./x", "x" * 1001):
        assert not is_plain_path(name), name
