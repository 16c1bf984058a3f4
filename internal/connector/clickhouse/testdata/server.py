"""A server with ClickHouse's engine and as much of its HTTP interface as the tests need.

It prints its port, and ends when its standard input does. A request is a POST; its statement is in the
parameter query, followed by the body, or in the body alone. All other parameters are settings of the
statement, as in ClickHouse. Errors have ClickHouse's own number and text, and the status that ClickHouse
gives them.
"""

import gzip
import http.server
import os
import re
import shutil
import sys
import tempfile
import threading
import urllib.parse

from chdb import session

NOT_SETTINGS = {"query", "wait_end_of_query"}

# Source: src/Server/HTTP/exceptionCodeToHTTPStatus.cpp in github.com/ClickHouse/ClickHouse.
STATUS = {
    194: 401, 192: 403, 193: 403, 516: 403, 497: 403, 512: 403,
    36: 400, 427: 400, 6: 400, 25: 400, 26: 400, 38: 400, 41: 400, 72: 400, 441: 400, 675: 400, 676: 400, 27: 400, 376: 400,
    15: 400, 44: 400, 37: 400, 123: 400, 8: 400, 167: 400, 168: 400, 223: 400, 62: 400, 117: 400, 53: 400, 321: 400,
    60: 404, 46: 404, 47: 404, 50: 404, 56: 404, 81: 404, 115: 404, 152: 404, 63: 404, 73: 404, 336: 404, 78: 404, 511: 404,
    229: 413, 48: 501, 209: 503, 76: 503, 381: 411, 159: 408, 439: 503,
}  # fmt: skip

folder = tempfile.mkdtemp(prefix="clickhouse-")
engine = session.Session(folder)
turn = threading.Lock()  # the engine has one session


def statement(parameters, body):
    """Returns a statement as the engine takes it, with the settings and the rows in it."""
    query = parameters.get("query", "")
    settings = ", ".join(f"{name} = '{value}'" for name, value in parameters.items() if name not in NOT_SETTINGS)
    if not query:
        return body
    if settings:
        head, form, tail = query.rpartition(" FORMAT ")
        query = f"{head} SETTINGS {settings}{form}{tail}"
    return f"{query}\n{body}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
        try:
            with turn:
                answer = engine.query(statement(parameters, body.decode()), "TabSeparated").bytes() or b""
            self.answer(200, answer)
        except Exception as error:
            text = str(error)
            code = int(re.search(r"Code: (\d+)\.", text).group(1))
            self.answer(STATUS.get(code, 500), text.encode(), code)

    def answer(self, status, text, code=None):
        self.send_response(status)
        self.send_header("Content-Type", "text/tab-separated-values; charset=UTF-8")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-ClickHouse-Server-Display-Name", "test")
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
shutil.rmtree(folder, ignore_errors=True)  # whatever the engine is doing
os._exit(0)
