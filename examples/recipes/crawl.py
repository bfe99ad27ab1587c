"""Fetches pages politely, one at a time from each host: python crawl.py URL..."""

import sys
import urllib.robotparser
from urllib.parse import urljoin, urlsplit

from redial import Redial

AGENT = "example-crawler/1.0 (+https://example.com/crawler)"

redial = Redial(
    headers={"user-agent": AGENT},
    redirects=5,
    cache_ttl_ms=86_400_000,  # Nobody fetches a page twice in a day.
    retry={"max_attempts": 3, "base_ms": 10_000},
    ok_when={"status": [200, 404, 410]},  # That a page is gone is an answer.
)


def rules(host: str) -> urllib.robotparser.RobotFileParser:
    """What the host allows: everything if it has no robots.txt, and nothing if nobody knows."""
    parser = urllib.robotparser.RobotFileParser()
    found = redial.call(urljoin(host, "/robots.txt"), timeout=60, check=False)
    parser.parse(found.text.splitlines() if found.http_status == 200 else [])
    parser.disallow_all = not found.ok
    return parser


hosts: dict[str, urllib.robotparser.RobotFileParser] = {}
tasks = {}
for url in sys.argv[1:]:
    host = urljoin(url, "/")
    if host not in hosts:
        hosts[host] = rules(host)
    if not hosts[host].can_fetch(AGENT, url):
        print("not allowed", urlsplit(url).path)
        continue
    delay_ms = int(float(hosts[host].crawl_delay(AGENT) or 1) * 1000)
    limit = {"name": f"crawl {host}", "rate": 1, "per_ms": delay_ms, "burst": 1, "concurrency": 1}
    tasks[redial.enqueue(url, limit=limit).id] = url
for result in redial.as_completed(list(tasks), timeout=600):
    print(result.http_status, urlsplit(tasks[result.id]).path, len(result.content))
redial.close()
