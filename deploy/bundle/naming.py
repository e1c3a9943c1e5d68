"""Names of the files in a bundle: `<stem>-<first 16 hex digits of the SHA-256>.<suffix>`.

The name changes when the content does, so a new file never replaces one that the old bundle.json lists.
"""

import re

MANIFEST_NAME = "bundle.json"
MANIFEST_DRAFT = "bundle.json.tmp"
TEMPORARY_PREFIX = ".partial-"

_STEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SUFFIX = re.compile(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")
_CONTENT_NAME = re.compile(rf"(?P<stem>{_STEM.pattern})-(?P<digits>[0-9a-f]{{16}})\.{_SUFFIX.pattern}")
_LONGEST_STEM = 80


def content_name(stem: str, suffix: str, sha256: str) -> str:
    """The name of a file with this content; `sha256` has 64 hexadecimal digits, `suffix` no leading dot."""
    check_name_parts(stem, suffix)
    return f"{stem}-{sha256[:16]}.{suffix}"


def check_name_parts(stem: str, suffix: str) -> None:
    """Stem and suffix are such that the name is one plain file on every system; anything else is a ValueError."""
    if not _STEM.fullmatch(stem) or len(stem) > _LONGEST_STEM:
        raise ValueError(f"{stem!r} cannot be the stem of a bundle's file; make one with stem_from_name")
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{suffix!r} cannot be the suffix of a bundle's file: letters and digits, no leading dot")


def digits_of_name(name: str) -> str | None:
    """The 16 hexadecimal digits in the name of a bundle's file; None for any other name (`../x`, `/etc/x`)."""
    match = _CONTENT_NAME.fullmatch(name)
    return match["digits"] if match else None


def stem_of_content_name(name: str) -> str | None:
    """The stem that `content_name` was given: `sample` of `sample-0123456789abcdef.png`; None for any other name."""
    match = _CONTENT_NAME.fullmatch(name)
    return match["stem"] if match else None


def stem_from_name(name: str) -> str:
    """A stem made of a user's file name: its own stem, with what other systems refuse replaced by `-`.

    `Mein Bild (2).png` gives `Mein-Bild-2`, and a name of which nothing is left gives `file`.
    """
    stem = name.rpartition(".")[0] or name
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", stem).strip("-.")
    return plain[:_LONGEST_STEM].strip("-.") or "file"
