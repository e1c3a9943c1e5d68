"""XMP packets: corrected for an upright, enlarged picture, and with how it was made.

Packets are edited as text: a parser would rewrite what others put there, and could be made to work for ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from deploy.images.sizes import Size

NAMESPACE = "urn:idm-deploy:provenance:1"
_PREFIX = "made"
_OWN = re.compile(rb"<rdf:Description[^>]*urn:idm-deploy:provenance:1[^>]*/>\s*")
_THUMBNAILS = re.compile(rb"<xmp:Thumbnails>.*?</xmp:Thumbnails>", re.DOTALL)
_HEAD = '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_EMPTY = (
    f'{_HEAD}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()


def corrected(packet: bytes, size: Size, *, orientation: int = 1) -> bytes:
    """The packet for a picture of `size`, upright by default, without its thumbnails."""
    numbers = {
        b"tiff:Orientation": orientation,
        b"tiff:ImageWidth": size.width,
        b"tiff:ImageLength": size.height,
        b"exif:PixelXDimension": size.width,
        b"exif:PixelYDimension": size.height,
    }
    for name, number in numbers.items():
        value = str(number).encode()
        # As an attribute or as an element.
        packet = re.sub(rb"(\b" + name + rb"\s*=\s*[\"'])\s*\d+", rb"\g<1>" + value, packet)
        packet = re.sub(rb"(<" + name + rb">\s*)\d+", rb"\g<1>" + value, packet)
    return _THUMBNAILS.sub(b"", packet)


def with_provenance(packet: bytes | None, facts: Mapping[str, str]) -> bytes:
    """The packet, or a new one, with these facts in a description of our own, in place of an older one."""
    packet = _OWN.sub(b"", packet) if packet else _EMPTY
    end = packet.rfind(b"</rdf:RDF>")
    if end < 0:
        packet, end = _EMPTY, _EMPTY.rfind(b"</rdf:RDF>")
    said = " ".join(f"{_PREFIX}:{name}={quoteattr(value)}" for name, value in facts.items())
    own = f'<rdf:Description rdf:about="" xmlns:{_PREFIX}="{NAMESPACE}" {said}/>\n'.encode()
    return packet[:end] + own + packet[end:]
