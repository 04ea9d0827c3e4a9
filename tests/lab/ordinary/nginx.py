"""nginx as people configure it: static files, an index of folders, packing, a proxy, uploads, git and TLS."""

import subprocess
from pathlib import Path

from tests.lab.ordinary.world import World

CONFIGURATION = """
user www-data; worker_processes 1; daemon off; pid {room}/nginx.pid; error_log {room}/error.log;
include /etc/nginx/modules-enabled/*.conf;
events {{ worker_connections 256; }}
http {{
  include /etc/nginx/mime.types; access_log {room}/access.log; sendfile on; tcp_nopush on; client_max_body_size 1g;
  client_body_temp_path {room}/body; proxy_temp_path {room}/proxy; fastcgi_temp_path {room}/fastcgi;
  uwsgi_temp_path {room}/uwsgi; scgi_temp_path {room}/scgi; charset utf-8;
  gzip on; gzip_types *; gzip_min_length 100; brotli on; brotli_types *; brotli_min_length 100;
  server {{ {listen}
    location / {{ root {folder}/site; autoindex on; }}
    location /uploads/ {{ root {room}; dav_methods PUT DELETE; create_full_put_path on; }}
    location /repository/ {{ root {folder}; autoindex on; }}
    location /large/ {{ root {folder}; gzip off; brotli off; }}
    location /application/ {{ proxy_pass {backend}; proxy_request_buffering off; }}
    location ~ ^/git(/.*) {{
      fastcgi_pass unix:{room}/fcgi; include /etc/nginx/fastcgi_params; gzip off; brotli off;
      fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend; fastcgi_param PATH_INFO $1;
      fastcgi_param GIT_PROJECT_ROOT {folder}/git; fastcgi_param GIT_HTTP_EXPORT_ALL ""; fastcgi_param HOME {room};
    }}
  }}
}}
"""
TLS = """listen {port} ssl; listen {other} ssl;
  ssl_certificate {room}/server.pem; ssl_certificate_key {room}/server.key; ssl_protocols TLSv1.2 TLSv1.3;"""


def start_nginx(
    world: World, ports: list[int], *, name: str = "nginx", backend: str = "http://127.0.0.1:1/"
) -> Path:
    """Start nginx in db; return its folder."""
    room = world.room(name)
    listen = " ".join(f"listen {port};" for port in ports)
    configuration = CONFIGURATION.format(room=room, folder=world.folder, listen=listen, backend=backend)
    (room / "nginx.conf").write_text(configuration)
    world.serve(["nginx", "-c", room / "nginx.conf"], ports[0])
    return room


def start_tls(world: World, port: int, other: int) -> Path:
    """Start nginx with a certificate of a CA of its own (ca.pem); return its folder."""
    room = world.room("nginx-tls")
    make_certificates(room, world.ip())
    listen = TLS.format(port=port, other=other, room=room)
    configuration = CONFIGURATION.format(
        room=room, folder=world.folder, listen=listen, backend="http://127.0.0.1:1/"
    )
    (room / "nginx.conf").write_text(configuration)
    world.serve(["nginx", "-c", room / "nginx.conf"], port)
    return room


def make_certificates(room: Path, ip: str) -> None:
    """Make ca.pem, server.pem and server.key."""
    (room / "names").write_text(f"subjectAltName=IP:{ip},DNS:db.test\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for argv in (
        [*new, "-x509", "-subj", "/CN=test CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"],
        [*new, "-subj", "/CN=db", "-keyout", "server.key", "-out", "server.csr"],
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
         "-extfile", "names", "-out", "server.pem"],
    ):  # fmt: skip
        subprocess.run(argv, cwd=room, check=True, capture_output=True)
