// A reverse proxy with a room at each path of one host, as an ingress controller or nginx has it.

import { once } from "node:events";
import { createServer, request } from "node:http";

export class Paths {
  #server;

  /** `rooms` are { path, port, strip }: with `strip`, the server gets requests without the path. The longest path of a request's wins. */
  static async to(rooms, { test }) {
    const paths = new Paths();
    const longestFirst = rooms.toSorted((one, other) => other.path.length - one.path.length);
    const target = ({ url }) => {
      const room = longestFirst.find(({ path }) => url.startsWith(path));
      return room && { port: room.port, path: room.strip ? url.slice(room.path.length - 1) : url };
    };
    paths.#server = createServer((from, to) => forward(from, to, target(from)));
    paths.#server.on("upgrade", (from, socket, head) => upgrade(from, socket, head, target(from)));
    paths.#server.listen(0, "127.0.0.1");
    test.after(() => paths.close());
    await once(paths.#server, "listening");
    return paths;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

const send = (from, { port, path }) => request({ host: "127.0.0.1", port, path, method: from.method, headers: from.headers });

function forward(from, to, target) {
  if (!target) return void to.writeHead(404).end();
  const forwarded = send(from, target);
  forwarded.on("response", (answer) => {
    to.writeHead(answer.statusCode, answer.headers);
    answer.pipe(to);
  });
  forwarded.on("error", () => to.destroy());
  from.pipe(forwarded);
}

function upgrade(from, client, head, target) {
  client.on("error", () => {});
  if (!target) return void client.destroy();
  const forwarded = send(from, target);
  forwarded.on("error", () => client.destroy());
  forwarded.on("response", () => client.destroy());
  forwarded.on("upgrade", ({ rawHeaders }, server, rest) => {
    const lines = rawHeaders.flatMap((text, n) => (n % 2 ? [] : [`${text}: ${rawHeaders[n + 1]}\r\n`]));
    client.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}\r\n`);
    client.write(rest);
    server.write(head);
    server.on("error", () => client.destroy());
    server.pipe(client).pipe(server);
    server.on("close", () => client.destroy());
    client.on("close", () => server.destroy());
  });
  forwarded.end();
}
