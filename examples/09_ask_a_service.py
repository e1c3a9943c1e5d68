"""Start a service, send it a picture as a job, follow its steps, fetch the result. Only the standard library is needed.

    python examples/09_ask_a_service.py ckpt.bundle photo.png

Writes ./photo-by-service.png.
"""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.request import Request, urlopen


def form_of(picture: Path, **fields: object) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with a file, which urllib does not make itself."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{picture.name}"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + picture.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


# --port 0 takes any port that is free; --json says which, once pictures can be asked for.
tool = Path(sys.executable).with_name("idm-deploy")  # as it was installed beside this Python
command = [tool, "serve", sys.argv[1], "--port", "0", "--json", "--quiet"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
    address = json.loads(service.stdout.readline())["address"]
    body, headers = form_of(Path(sys.argv[2]), scale=2, steps=2, seed=1)
    with urlopen(Request(f"{address}/v1/upscale?wait=false", body, headers)) as answer:
        job = json.load(answer)
    with urlopen(address + job["links"]["events"]) as events:
        for line in events:
            if line.startswith(b"data: "):
                job = json.loads(line.removeprefix(b"data: "))
                print(f"{job['state']}, step {job['step']} of {job['steps']}")
    with urlopen(address + job["links"]["result"]) as answer:
        Path("photo-by-service.png").write_bytes(answer.read())
    print(f"photo-by-service.png: {job['width']}x{job['height']} in {job['seconds']:.1f} s")
    service.terminate()  # what runs is finished first
