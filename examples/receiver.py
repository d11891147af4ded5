"""A webhook receiver: checks the signature over the exact bytes, then answers."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from mech_queue.webhooks import SignatureError, verify

SECRET = os.environ["APPLICATION_WEBHOOK_SECRET"]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            event = verify(self.headers, body, SECRET)
        except SignatureError as error:
            self.send_error(400, str(error))
            return
        print("webhook:", event["jobId"], "is", event["status"], event.get("result"), flush=True)
        self.send_response(204)
        self.end_headers()


HTTPServer(("127.0.0.1", int(os.environ.get("RECEIVER_PORT", "9000"))), Receiver).serve_forever()
