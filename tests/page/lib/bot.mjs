// A member without a window, who says much in little time.

import { once } from "node:events";

import { io } from "socket.io-client";

/** A server closes a connection whose answers pile up. */
const AT_ONCE = 100;

export class Bot {
  /** Joins for the test `t`. */
  static async join(t, url, name, token) {
    const bot = new Bot();
    bot.socket = io(url, { transports: ["websocket"], forceNew: true, auth: { name, token } });
    t.after(() => bot.socket.disconnect());
    await once(bot.socket, "history");
    return bot;
  }

  /** Says these in order; resolves when the room has the last. */
  async say(...texts) {
    for (let n = 0; n < texts.length; n += AT_ONCE) await this.#say(texts.slice(n, n + AT_ONCE));
  }

  async #say(texts) {
    const answers = await Promise.all(texts.map((text) => this.socket.timeout(30_000).emitWithAck("message", text)));
    const refused = answers.find(({ ok }) => !ok);
    if (refused) throw new Error(`refused: ${refused.code}`);
  }

  /** Says "mensagem 1" to "mensagem COUNT", or from another number on. */
  async count(count, from = 1) {
    await this.say(...Array.from({ length: count }, (_, n) => `mensagem ${from + n}`));
  }
}
