"""Ways inside, for tests: hosts, whole addresses, redirects, names that resolve; and two addresses that are public."""

from __future__ import annotations

PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:2800:220:1:248:1893:25c8:1946"

# Hosts, in every spelling that somebody takes for one.
FORMS = (
    # IPv4, in every spelling that some resolver takes
    *("127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1"),
    *("017700000001", "0", "0.0.0.0", "0x0", "127.0.0.1.", "127.0.0.01", "0000127.0.0.1", "127.0.0.1.1", "1.2.3.256"),
    *(
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "１２７.０.０.１",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "lоcalhost.example",
        "127.0.0.1\u200b",
        "a\u00ad.example",
    ),
    # IPv4 that is nobody's on the internet
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1"),
    *("198.51.100.7", "203.0.113.9", "192.88.99.1", "168.63.129.16", "0.1.2.3"),
    # IPv6
    *(
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:8.8.8.8]",
        "[::127.0.0.1]",
    ),
    *("[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *("[2001:0:7f00:1::]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]"),
    *("[fe80::1]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]"),
    *("[5f00::1]", "[4000::1]", "[::1", "::1", "[]", "[127.0.0.1]", "[v1.a]", "[::1]x"),
    # names
    *(
        "localhost",
        "LOCALHOST",
        "localhost.",
        "metadata",
        "db",
        "",
        ".",
        "..",
        ".example.com",
        "a..example",
        "-a.example",
    ),
    *("example.com.", f"{'a' * 64}.example", f"{'a.' * 140}example", "a b.example", "a,b.example", "a*.example"),
    # what is before, inside and behind a name
    *(
        "user@public.example",
        "user:password@public.example",
        "public.example@127.0.0.1",
        "public.example:443@127.0.0.1",
    ),
    *(
        "@127.0.0.1",
        ":@127.0.0.1",
        "public.example#@127.0.0.1",
        "public.example?@127.0.0.1",
        "public.example%2f@127.0.0.1",
    ),
    *("public.example%40127.0.0.1", "%31%32%37.0.0.1", "127.0.0.1%00.public.example", "127.0.0.1%0a.public.example"),
    *("public.example\\@127.0.0.1", "127.0.0.1\\@public.example", "public.example\\.127.0.0.1", "\\127.0.0.1"),
    *(
        "public\t.example",
        "127.0.0.1\t",
        "public.example\n",
        "127.0.0.1\r\nHost: public.example",
        "127.0.0.1\x00",
        "\x7f",
    ),
    *("public.example:", "public.example:0", "public.example:80", "public.example:8443", "public.example:22"),
    *(
        "public.example:99999",
        "public.example:0443",
        "public.example:443:80",
        "public.example:+443",
        "public.example:４４３",
    ),
)
# What is no address, or of another kind.
ADDRESSES = (
    *("", "https", "https:", "https:/", "https://", "https:///127.0.0.1/", "https:////127.0.0.1/", "https:127.0.0.1"),
    *("https:/127.0.0.1/", "//127.0.0.1/", "127.0.0.1", "/etc/passwd", "///", "http://public.example/"),
    *(
        "http://127.0.0.1/",
        "ftp://public.example/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/_",
        "dict://127.0.0.1/",
    ),
    *(
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "ws://public.example/",
        "unix:///run/docker.sock",
        "jar:https://x",
    ),
    *(
        " https://public.example/",
        "https://public.example/ ",
        "https://public.example/a b",
        "\nhttps://public.example/",
    ),
    *(
        "https://public.example/a\tb",
        "https://public.example/a\\b",
        "https://public.example/\u2028",
        "ｈttps://public.example/",
    ),
    *("https://public.example/\x00", "https\n://127.0.0.1/", "url:https://public.example/", "https//127.0.0.1"),
    f"https://public.example/{'a' * 4_096}",
)
# Where a server sends its caller.
REDIRECTS = (
    *(
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "//127.0.0.1/",
        "https://2130706433/",
        "https://0/",
    ),
    *(
        "https://169.254.169.254/latest/meta-data",
        "https://inside.example/",
        "https://mixed.example/",
        "http://10.0.0.1/",
    ),
    *(
        "https://user@public.example/",
        "\\\\127.0.0.1\\x",
        "///127.0.0.1/",
        "//[",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
    ),
    *("https://public.example:22/", "https://127.0.0.1\\@public.example/", "https:/\t/127.0.0.1/", "/a b"),
)
# What names of ours resolve to.
NAMES: dict[str, list[str]] = {
    "inside.example": ["127.0.0.1"],
    "inside6.example": ["::1"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
    "mixed-first.example": ["10.0.0.1", PUBLIC],
    "six-and-four.example": ["fd00::1", PUBLIC],
    "four-and-six.example": [PUBLIC, "::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "translated.example": ["64:ff9b::7f00:1"],
    "tunnel.example": ["2002:7f00:1::"],
    "teredo.example": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "carrier.example": ["100.64.0.1"],
    "nobody.example": ["0.0.0.0"],
    "unspecified.example": ["::"],
    "link.example": ["fe80::1%1"],
    "scoped.example": [f"{PUBLIC_V6}%1"],
    "metadata.example": ["169.254.169.254"],
    "many.example": ["224.0.0.1"],
    "wire.example": ["168.63.129.16"],
    "last-of-many.example": [PUBLIC] * 9 + ["192.168.0.1"],
}
