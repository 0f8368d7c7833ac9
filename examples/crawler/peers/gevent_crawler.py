#!/usr/bin/env python3
"""The same crawl by gevent and requests: breadth first over one host, links by the standard library's HTML parser.

Run with: python3 gevent_crawler.py URL [CONCURRENCY]     (pip install gevent requests)
"""
from gevent import monkey

monkey.patch_all()

import resource
import sys
import time
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

import requests
from gevent.pool import Pool
from gevent.queue import JoinableQueue
from requests.adapters import HTTPAdapter


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag in ("a", "area"):
            self.found += [value for name, value in attributes if name == "href" and value]


def main():
    start_url = sys.argv[1]
    concurrency = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    host = urlsplit(start_url).netloc
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=concurrency))
    queue, seen = JoinableQueue(), {start_url}
    queue.put(start_url)
    done = {"pages": 0, "bytes": 0, "ok": 0}

    def work():
        while True:
            url = queue.get()
            try:
                answer = session.get(url, timeout=30, stream=True)
                is_html = "html" in answer.headers.get("Content-Type", "")
                text = answer.text if is_html else ""
                answer.close() if not is_html else None
                done["pages"] += 1
                done["bytes"] += len(text)
                done["ok"] += answer.status_code == 200
                if is_html and answer.status_code == 200:
                    parser = Links()
                    parser.feed(text)
                    for link in parser.found:
                        target = urldefrag(urljoin(url, link)).url
                        if urlsplit(target).netloc == host and target not in seen:
                            seen.add(target)
                            queue.put(target)
            except requests.RequestException as error:
                print(url, error, file=sys.stderr)
            finally:
                queue.task_done()

    start = time.monotonic()
    pool = Pool(concurrency)
    for _ in range(concurrency):
        pool.spawn(work)
    queue.join()
    elapsed = time.monotonic() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    pages = done["pages"]
    print(f"{pages} pages ({done['ok']} good) in {elapsed:.1f} s: {pages / elapsed:.0f} pages a second")
    print(f"{cpu:.2f} s of processor time, {1000 * cpu / pages:.2f} ms a page; {usage.ru_maxrss / 1024:.1f} MiB of memory at most")


main()
