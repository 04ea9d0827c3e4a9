"""The words of the language: which buffers there are, what only describes a rule, what is known and not done here."""

from typing import Final

from filters.inspection.finding import Direction
from filters.inspection.suricata.model import BODIES, DOTTED, RAW

UP: Final = frozenset({Direction.TO_SERVER})
DOWN: Final = frozenset({Direction.TO_CLIENT})
BOTH: Final = UP | DOWN

# each buffer: its protocol and the directions it can come from
BUFFERS: Final[dict[str, tuple[str, frozenset[Direction]]]] = {
    RAW: ("", BOTH),
    "file.data": ("http", BOTH),
    "http.request_body": ("http", UP),
    "http.response_body": ("http", DOWN),
    **{
        f"http.{one}": ("http", UP)
        for one in (
            "method", "uri", "uri.raw", "request_line", "host", "host.raw", "user_agent", "referer", "accept", "accept_lang", "accept_enc",
            "request_header",
        )
    },
    **{f"http.{one}": ("http", DOWN) for one in ("stat_code", "stat_msg", "response_line", "server", "location", "response_header")},
    **{
        f"http.{one}": ("http", BOTH)
        for one in ("header", "header.raw", "header_names", "cookie", "content_type", "content_len", "connection", "protocol", "start")
    },
    "tls.sni": ("tls", UP),
    "tls.alpn": ("tls", UP),
    "dns.query": ("dns", UP),
    "ssh.proto": ("ssh", BOTH),
    "ssh.software": ("ssh", BOTH),
    "smtp.helo": ("smtp", UP),
    "smtp.mail_from": ("smtp", UP),
    "smtp.rcpt_to": ("smtp", UP),
}  # fmt: skip
# the same with a dot before them, so that `.example.com` is found in `example.com` as well
DOTTED_BUFFERS: Final = {f"{one}{DOTTED}": one for one in BUFFERS if one != RAW and one not in BODIES}
BUFFERS.update({dotted: BUFFERS[one] for dotted, one in DOTTED_BUFFERS.items()})
# of which a message has several instances: each naming of one in a rule may mean another of them
_REPEATED: Final = frozenset(
    {"http.request_header", "http.response_header", "tls.alpn", "dns.query", "smtp.rcpt_to"}
)
REPEATED: Final = _REPEATED | {dotted for dotted, one in DOTTED_BUFFERS.items() if one in _REPEATED}
# a name for a buffer that what follows is about
STICKY: Final = {
    **{one: one for one in BUFFERS if one != RAW and one not in DOTTED_BUFFERS},
    "file_data": "file.data", "dns_query": "dns.query", "tls_sni": "tls.sni", "ssh_proto": "ssh.proto", "ssh_software": "ssh.software",
    "pkt_data": RAW,
    **{f"http_{one}": f"http.{one}" for one in (
        "accept", "accept_lang", "accept_enc", "connection", "content_len", "content_type", "header_names", "protocol", "referer",
        "request_line", "response_line", "start",
    )},
}  # fmt: skip
# the older way: a word behind the content says which buffer that is about
MODIFIERS: Final = {
    "http_method": "http.method", "http_uri": "http.uri", "http_raw_uri": "http.uri.raw", "http_header": "http.header",
    "http_raw_header": "http.header.raw", "http_host": "http.host", "http_raw_host": "http.host.raw", "http_user_agent": "http.user_agent",
    "http_cookie": "http.cookie", "http_client_body": "http.request_body", "http_server_body": "http.response_body",
    "http_stat_code": "http.stat_code", "http_stat_msg": "http.stat_msg",
}  # fmt: skip
# read for what it says about the rule, or without any effect
DESCRIBING: Final = frozenset(
    {
        "msg",
        "sid",
        "gid",
        "rev",
        "classtype",
        "metadata",
        "reference",
        "priority",
        "target",
        "rawbytes",
        "prefilter",
    }
)
PROTOCOLS: Final = {
    "ip": "", "tcp": "", "tcp-stream": "", "ipv4": "", "ip4": "", "http": "http", "http1": "http", "tls": "tls", "ssl": "tls", "dns": "dns",
    "smtp": "smtp", "ssh": "ssh",
}  # fmt: skip
# classes (Suricata's classification.config) that are about what leaks; all others count as malware
LEAKING: Final = frozenset(
    {
        "policy-violation", "credential-theft", "sdf", "successful-recon-limited", "successful-recon-largescale", "attempted-recon",
    }
)  # fmt: skip
