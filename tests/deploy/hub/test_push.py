"""Against a hub on loopback: exactly the bundle's files and the card, in one commit."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.bundle import Bundle, BundleWriter
from deploy.errors import HubError
from deploy.hub import address_from_text
from deploy.hub.push import Pushed, check_licence, push
from deploy.packaged.places import IDM_BUNDLE
from tests.deploy.bundle.small_bundle import write_bundle
from tests.hub_server import Hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of huggingface_hub in httpx2


def pushed(bundle: Bundle, name: str = "a/new", private: bool = True) -> Pushed:
    files = {name: bundle.path / name for name in ("bundle.json", *bundle.manifest.files)}
    return push(
        address_from_text(name), files, "---\nlicense: mit\n---\n# new\n", private=private, title="a bundle", bars=False
    )


def test_what_was_pushed_comes_back_the_same(hub: Hub, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    (bundle.path / "secret.txt").write_text("mine")
    done = pushed(bundle)
    assert done.page == f"{hub.url}/a/new" and hub.repositories["a/new"].private
    kept = hub.repositories["a/new"].files("main")
    assert kept is not None and done.address.revision == kept[0]
    assert kept[1].keys() == {"README.md", "bundle.json", *bundle.manifest.files}
    assert Bundle.open(str(done.address)).manifest == Bundle.open("hf://a/new").manifest == bundle.manifest
    with BundleWriter.update(bundle) as writer:  # a second time: one more commit, of what has changed
        changed = writer.commit(replace(bundle.manifest, rewrites=("other",)))
    again = pushed(changed)
    assert again.address != done.address and Bundle.open(str(again.address)).manifest.rewrites == ("other",)


@pytest.mark.parametrize(
    ("refused", "status", "message"),
    [
        ("/api/repos/create", 403, r"^hf://a/new: you may not write to http.*/a/new. Log in with `hf auth login`, "),
        ("/api/models/a/new/commit/main", 500, r"^uploading hf://a/new: http\S+ fails \(status 500\)"),
        ("/a/new.git/info/lfs/objects/batch", 422, r"^uploading hf://a/new: .* answers with status 422"),
        ("/cdn/", 403, r"^hf://a/new: you may not write to"),
    ],
)  # fmt: skip
def test_an_upload_that_is_refused(hub: Hub, refused: str, status: int, message: str) -> None:
    hub.refused[refused] = status
    with pytest.raises(HubError, match=message):
        pushed(Bundle.open(IDM_BUNDLE))
    kept = hub.repositories["a/new"].files("main") if "a/new" in hub.repositories else None
    assert kept is None or kept[1] == {}


def test_where_nothing_can_be_pushed_to(hub: Hub) -> None:
    for text in ("a/b/file.bin", f"a/b@{40 * '0'}"):
        with pytest.raises(HubError, match="is not where a model can be pushed to; name OWNER/NAME"):
            pushed(Bundle.open(IDM_BUNDLE), text)
    with pytest.raises(HubError, match=r"'my own' is no name of a licence as hubs write them. Usual ones: apache-2.0"):
        check_licence("my own")
    assert hub.requests == []
