"""Servers and clients for inspected connections."""

import random
import string
import subprocess
import sys

from tests.lab.conftest import RunningLab

ECHO = """
import socket, sys, threading
server = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=512)
print("up", flush=True)
def one(c):
    with c:
        try:
            while data := c.recv(1 << 18): c.sendall(data)
        except OSError: pass
while True:
    threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()
"""


class Service:
    """A server in db: each connection gets what `serve` sends; what came in is kept."""

    def __init__(self, lab: RunningLab, port: int) -> None:
        code = (
            "import socket,sys,threading\n"
            f"s=socket.create_server(('0.0.0.0',{port}),backlog=512)\n"
            "print('up',flush=True)\n"
            "data=sys.stdin.buffer.read()\n"
            "def one(c):\n"
            "  with c:\n"
            "    try:\n"
            "      if data: c.recv(65536); c.sendall(data); c.shutdown(socket.SHUT_WR)\n"
            "      while c.recv(1<<20): pass\n"
            "    except OSError: pass\n"
            "while True:\n"
            "  c,_=s.accept(); threading.Thread(target=one,args=(c,),daemon=True).start()\n"
        )
        self.lab = lab
        self.argv = [
            "nsenter",
            f"--net=/run/netns/{lab.lab.peer_namespace('db')}",
            sys.executable,
            "-c",
            code,
        ]

    def __call__(self, data: bytes) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout and process.stdin
        process.stdout.readline()
        process.stdin.write(data)
        process.stdin.close()
        return process


def client(
    lab: RunningLab, port: int, sent: bytes, *, pieces: int = 1, hold_s: float = 0.0
) -> tuple[bytes, str]:
    """Connect from web, send, and return what came back and how it ended."""
    code = (
        "import socket,sys,time\n"
        f"d=sys.stdin.buffer.read(); n=max(1,len(d)//{pieces}); got=b''; end='closed'\n"
        "try:\n"
        f"  c=socket.create_connection(('{lab.spec.machine('db').ip}',{port}),10); c.settimeout(20)\n"
        "  c.setsockopt(6,1,1)\n"
        "  for i in range(0,len(d),n): c.sendall(d[i:i+n]); time.sleep(0.002 if n<len(d) else 0)\n"
        f"  time.sleep({hold_s}); c.shutdown(socket.SHUT_WR)\n"
        "  while (p:=c.recv(1<<20)): got+=p\n"
        "except ConnectionRefusedError: end='refused'\n"
        "except TimeoutError: end='silent'\n"
        "except OSError: end='reset'\n"
        "sys.stdout.buffer.write(end.encode()+b'\\n'+got)\n"
    )
    argv = ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace('web')}", sys.executable, "-c", code]
    done = subprocess.run(argv, input=sent, capture_output=True, timeout=60, check=False)
    end, _, got = done.stdout.partition(b"\n")
    return got, end.decode() or done.stderr.decode()[-200:]


def found(lab: RunningLab, since: int) -> list[str]:
    lab.until(lambda: lab.events(since, "content-found"))
    return [one["unmapped"]["check"] for one in lab.events(since, "content-found")]


def token() -> bytes:
    return b"ghp_" + "".join(random.choices(string.ascii_letters + string.digits, k=36)).encode()
