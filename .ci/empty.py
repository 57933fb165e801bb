"""Starts the function of a zip in an empty root: empty.py ZIP. No file but bootstrap is there: no C library, no /etc,
no CA, no /dev. Needs root (chroot)."""
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile

ANSWERS = 20  # seconds


def asked(port, path, body=None):
    """Status and text of an answer, whatever it is."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers={"x-fc-request-id": "empty"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWERS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


with tempfile.TemporaryDirectory(prefix="appsnap-empty-") as root:
    with zipfile.ZipFile(sys.argv[1]) as archive:
        mode = archive.getinfo("bootstrap").external_attr >> 16 & 0o777
        archive.extract("bootstrap", root)
        event = archive.read("events/manual.json")
    os.chmod(os.path.join(root, "bootstrap"), mode)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    env = {"FC_SERVER_PORT": str(port)}
    program = subprocess.Popen(["/bootstrap"], env=env, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               preexec_fn=lambda: (os.chroot(root), os.chdir("/")))
    try:
        until = time.monotonic() + ANSWERS
        while True:
            try:
                healthy = asked(port, "/healthz")
                break
            except urllib.error.URLError as error:
                if program.poll() is not None or time.monotonic() > until:
                    sys.exit(f"empty.py: bootstrap does not answer: {error}; it ended with {program.poll()}")
                time.sleep(0.05)
        # A good request: it goes all the way to the credentials, which nobody gave.
        invoked = asked(port, "/invoke", event)
        program.send_signal(signal.SIGTERM)
        ended = program.wait(ANSWERS)
    finally:
        if program.poll() is None:
            program.kill()
    left = sorted(os.listdir(root))

print(f"bootstrap (mode {mode:04o}) alone in an empty root: /healthz {healthy[0]}, /invoke {invoked[1][:160]}")
if healthy[0] != 200 or "credentials.none" not in invoked[1] or ended != 0 or left != ["bootstrap"]:
    sys.exit(f"empty.py: not as expected: {healthy}, {invoked}, ended with {ended}, files {left}")
