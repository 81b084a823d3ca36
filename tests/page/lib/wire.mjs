// A wire between browser and server that a test can cut, mend, or hold.

import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Wire {
  #listener;
  #pairs = new Set();
  #cut = false;
  #held = false;

  /** A wire to `port` that goes away when the test `t` ends. */
  static async to(t, port) {
    const wire = new Wire();
    wire.#listener = createServer((near) => wire.#carry(near, port)).listen(0, "127.0.0.1");
    await once(wire.#listener, "listening");
    t.after(() => {
      wire.cut();
      wire.#listener.close();
    });
    return wire;
  }

  get url() {
    return `http://127.0.0.1:${this.#listener.address().port}`;
  }

  /** Ends every connection, and every one that is tried, until mended. */
  cut() {
    this.#cut = true;
    for (const [near, far] of this.#pairs) for (const end of [near, far]) end.destroy();
  }

  mend() {
    this.#cut = false;
  }

  /** Lets nothing from the server through until released; what the client says passes. */
  hold() {
    this.#held = true;
    for (const [, far] of this.#pairs) far.pause();
  }

  release() {
    this.#held = false;
    for (const [, far] of this.#pairs) far.resume();
  }

  #carry(near, port) {
    if (this.#cut) return near.destroy();
    const far = connect(port, "127.0.0.1");
    const pair = [near, far];
    this.#pairs.add(pair);
    near.on("data", (data) => far.write(data));
    far.on("data", (data) => near.write(data));
    if (this.#held) far.pause();
    for (const [end, other] of [pair, [far, near]]) {
      end.on("error", () => {});
      end.on("close", () => {
        other.destroy();
        this.#pairs.delete(pair);
      });
    }
  }
}
