// A program of programs.test.mjs: socket.io-client for Node, in the version that PACKAGE names.
//
//   node.mjs PACKAGE URL NAME TOKEN [TRANSPORT]

import { createInterface } from "node:readline";

const [name, url, user, token, transport] = process.argv.slice(2);
const { io } = await import(name);
const report = (...values) => console.log(JSON.stringify(values));

const place = {};
const show = ({ offset }) => (place.offset = offset);
const socket = io(url, {
  auth: (send) => send({ name: user, token, ...place }),
  ...(transport && { transports: [transport] }),
});
socket.on("connect", () => report("connect"));
socket.on("disconnect", (reason) => report("disconnect", reason));
socket.on("connect_error", (error) => report("connect_error", error.message));
socket.on("history", (history) => {
  place.epoch = history.epoch;
  history.messages.forEach(show);
  report("history", history);
});
socket.on("message", (text, about) => {
  show(about);
  report("message", text, about);
});
for await (const text of createInterface({ input: process.stdin })) {
  socket.emit("message", text, (answer) => report("acknowledged", text, answer));
}
socket.disconnect();
