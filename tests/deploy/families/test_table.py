"""The table of families: what every record owes, and finding one."""

from dataclasses import replace

import pytest

from deploy.bundle import Bundle
from deploy.errors import BundleError
from deploy.families.bundles import recorded_config
from deploy.families.contract import Family
from deploy.families.table import FAMILIES, family_named


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_found_by_its_name(family: Family) -> None:
    assert family_named(family.name) is family


def test_names_are_given_once() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_rewrites_are_explained_to_readers(family: Family) -> None:
    assert all(rewrite.title and rewrite.what and rewrite.saves for rewrite in family.rewrites.values())


def test_an_unknown_family_is_refused_with_those_there_are(idm_micro: Bundle) -> None:
    with pytest.raises(
        BundleError, match="no family of networks called 'sr5' in this version; it runs latent, idm, sr3"
    ):
        family_named("sr5")
    with pytest.raises(BundleError, match="no family of networks called 'sr5'"):
        recorded_config(replace(idm_micro.manifest, family="sr5"))
