"""An API with a bad day: it answers one call in three, and has a second of its own for each. python upstream.py 9000"""

import itertools
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

calls = itertools.count(1)


class Upstream(BaseHTTPRequestHandler):
    def do_POST(self):
        ticket = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(1)
        if next(calls) % 3:
            return self.answer(503, {"error": "overloaded"})
        self.answer(200, {"label": "refund" if "money" in ticket.get("text", "") else "other"})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Upstream).serve_forever()
