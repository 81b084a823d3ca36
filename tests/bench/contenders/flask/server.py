"""A chat like the predecessor of Papo: Flask-SocketIO, with RabbitMQ as the message queue that its servers share.

    server.py PORT AMQP_URL
"""

from gevent import monkey

monkey.patch_all()

import itertools
import sys
import time
import uuid

from flask import Flask
from flask_socketio import SocketIO

port, broker = sys.argv[1:]
app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent", message_queue=broker, transports=["websocket"])
offsets = itertools.count()


@socketio.on("message")
def message(text):
    # The same details as papo-server sends, so that frames have the same length.
    details = {"id": str(uuid.uuid4()), "offset": next(offsets), "user": "Ana Maria", "sender": "0123456789abcdef",
               "at": int(time.time() * 1000)}
    socketio.emit("message", (text, details))
    return {"ok": True, "id": details["id"], "offset": details["offset"]}


socketio.run(app, host="127.0.0.1", port=int(port))
