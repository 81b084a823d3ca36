// Engine.IO over a WebSocket by hand, for clients that do what no official client does.

import { connect } from "node:net";

const UPGRADE =
  "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const TEXT = 0x1;
const JOIN_WITHIN_MS = 60_000;

/** A client's frame, masked with zeros. Its header has `length`, which may differ from the length of `payload`. */
export function frame(opcode, length, payload) {
  const header = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14);
  header[0] = 0x80 | opcode;
  if (length < 126) header[1] = 0x80 | length;
  else if (length < 65_536) (header[1] = 0x80 | 126), header.writeUInt16BE(length, 2);
  else (header[1] = 0x80 | 127), header.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([header, payload]);
}

/** The frame of an Engine.IO packet. */
export function packet(text) {
  const payload = Buffer.from(text);
  return frame(TEXT, payload.length, payload);
}

/** A connection that has requested the upgrade to a WebSocket. */
export class Wire {
  #bytes = Buffer.alloc(0);
  #isOpen = false;

  /** Joins the room, and waits for the first history. The caller then writes to and reads from `socket` itself. */
  static join(target, auth = {}) {
    return new Promise((resolve, reject) => {
      const limit = setTimeout(() => wire.socket.destroy(new Error("the client has not joined in time")), JOIN_WITHIN_MS);
      const wire = new Wire(target, {
        open: () => wire.send(`40${JSON.stringify(auth)}`),
        packet(text) {
          if (!text.startsWith('42["history"')) return;
          clearTimeout(limit);
          wire.on = {};
          wire.socket.removeAllListeners("data");
          wire.socket.resume();
          resolve(wire);
        },
        end: (error) => reject(error ?? new Error("the server closed the connection")),
      });
    });
  }

  /**
   * `target`: { port, host, localAddress }. `on`, all optional: `open()` after the upgrade, `refused(status)` for an answer that is no
   * upgrade, `packet(text)` for each packet, and `end(error)` once, when the connection has ended.
   */
  constructor({ host = "127.0.0.1", ...target }, on) {
    this.on = on;
    this.socket = connect({ host, ...target });
    this.socket.setNoDelay();
    this.socket.on("data", (bytes) => this.#read(bytes));
    this.socket.on("error", (error) => (this.error = error));
    this.socket.on("close", () => this.on.end?.(this.error));
    this.socket.write(UPGRADE);
  }

  #read(bytes) {
    this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, bytes]) : bytes;
    if (!this.#isOpen) {
      const end = this.#bytes.indexOf("\r\n\r\n");
      if (end < 0) return;
      const status = Number(this.#bytes.toString("latin1", 9, 12));
      if (status !== 101) {
        this.on.refused?.(status);
        return this.hangUp();
      }
      this.#bytes = this.#bytes.subarray(end + 4);
      this.#isOpen = true;
      this.on.open?.();
    }
    for (let next = this.#frame(); next && !this.socket.destroyed; next = this.#frame()) if (next.opcode === TEXT) this.on.packet?.(next.text);
  }

  /** Takes the next whole frame; a server's frames have no mask, and a text of Papo's is one frame. */
  #frame() {
    const bytes = this.#bytes;
    if (bytes.length < 2) return undefined;
    const short = bytes[1] & 0x7f;
    const begin = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (bytes.length < begin) return undefined;
    const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
    if (bytes.length < begin + length) return undefined;
    this.#bytes = bytes.subarray(begin + length);
    return { opcode: bytes[0] & 0x0f, text: bytes.toString("utf8", begin, begin + length) };
  }

  send(text) {
    this.socket.write(packet(text));
  }

  /** Ends the connection with a reset: the kernel keeps no port for it, however many connections there are. */
  hangUp() {
    this.socket.resetAndDestroy();
  }
}
