// The same chat on Node's Socket.IO. Set up as its documentation recommends for performance: WebSocket only, no compression
// (`perMessageDeflate` is off by default in version 4), the native addon `bufferutil`, and the HTTP request of each
// connection dropped. ("Performance tuning" and "Memory usage" in its documentation; `eiows` and uWebSockets.js are
// other servers.)
//
//   node server.mjs PORT [recovery]     recovery: with connection state recovery, which the in-memory adapter has

import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { Server } from "socket.io";

const [port, recovery] = process.argv.slice(2);
const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  serveClient: false,
  ...(recovery && { connectionStateRecovery: { maxDisconnectionDuration: 120_000, skipMiddlewares: true } }),
});
io.engine.on("connection", (rawSocket) => { rawSocket.request = null; });

let offset = 0;
io.on("connection", (socket) => {
  socket.on("message", (text, acknowledge) => {
    // The same details as papo-server sends, so that frames have the same length.
    const details = { id: randomUUID(), offset: offset++, user: "Ana Maria", sender: "0123456789abcdef", at: Date.now() };
    io.emit("message", text, details);
    acknowledge?.({ ok: true, id: details.id, offset: details.offset });
  });
});
http.listen(Number(port), "127.0.0.1", 4096);
