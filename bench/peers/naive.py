"""The naive baseline: a threaded file server of Python's standard library that keeps every file in a dictionary.

Usage: naive.py PORT ROOT
"""

import http.server
import os
import sys

CACHE = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body, two writes, wait 40 ms for each other

    def do_GET(self):
        body = CACHE.get(self.path)
        if body is None:
            path = os.path.realpath(os.path.join(ROOT, self.path.lstrip("/")))
            if not path.startswith(ROOT + os.sep) or not os.path.isfile(path):
                self.send_error(404)
                return
            with open(path, "rb") as file:
                body = CACHE[self.path] = file.read()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 16384
    daemon_threads = True


if __name__ == "__main__":
    ROOT = os.path.realpath(sys.argv[2])
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
