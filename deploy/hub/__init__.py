"""Models on a hub of the Hugging Face kind: fetched whole or not at all, kept by commit, found again without a network.

`address` reads what was typed, `choice` says which files of a repository are needed, `library` asks the hub through the
package huggingface_hub, `shelf` is where fetched models lie, `pull` puts these together, and `push` uploads.
"""

from deploy.hub.address import Address as Address
from deploy.hub.address import address_from_text as address_from_text
from deploy.hub.address import hub_address as hub_address
from deploy.hub.pull import Pulled as Pulled
from deploy.hub.pull import local_path as local_path
from deploy.hub.pull import pull as pull
