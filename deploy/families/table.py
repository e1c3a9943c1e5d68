"""The families there are, and finding one.

Detection goes through the table in its order and takes the first family all of whose marks are among the checkpoint's
names. So a family never misses a checkpoint of its own, and one whose marks are a part of another's has to stand behind
it.
"""

from deploy.errors import BundleError, ConfigError
from deploy.families.contract import Family
from deploy.families.idm.family import IDM
from deploy.families.latent.family import LATENT
from deploy.families.ldm.family import LDM
from deploy.families.sr3.family import SR3

FAMILIES: list[Family] = [LATENT, IDM, SR3, LDM]


def register(family: Family) -> None:
    """A family from elsewhere is known from now on, behind those there are; its name must be its own."""
    if any(other.name == family.name for other in FAMILIES):
        raise ConfigError(f"There is a family called {family.name!r} already; give the new one another name.")
    FAMILIES.append(family)


def family_named(name: str) -> Family:
    """The family of that name, as bundles and `Checkpoint.family` have it."""
    for family in FAMILIES:
        if family.name == name:
            return family
    names = ", ".join(family.name for family in FAMILIES)
    raise BundleError(
        f"there is no family of networks called {name!r} in this version; it runs {names}. Update idm-deploy."
    )


def titles() -> list[str]:
    """What is taken, as people would name it."""
    return [family.title for family in FAMILIES]
