// The server that is attacked: the limits that users get, on a real RabbitMQ.

import { randomBytes } from "node:crypto";
import { createWriteStream, mkdirSync, readFileSync } from "node:fs";

import { logOf } from "../../lib/broker.mjs";
import { readLog } from "../../lib/log.mjs";
import { DEFAULT_ADDRESS_LIMITS, PapoServer, root } from "../../lib/server.mjs";

/** Records before the end of a long log that a check of it reads: more than honest members send. */
const CHECKED = 20_000;
const LOGS = "target/attack-logs";

export class Place extends PapoServer {
  /**
   * Starts a server. By default the room is new. `length`: records that the room's log has already. Clients on this machine are no
   * proxies here, as they have addresses of their own.
   */
  static async start(broker, { room = newRoom(), length = 0, flags = [], descriptors } = {}) {
    mkdirSync(root(LOGS), { recursive: true });
    const path = root(`${LOGS}/${room.replace("/", "-")}.log`);
    const place = new Place({ env: { ...DEFAULT_ADDRESS_LIMITS, PAPO_TRUSTED_PROXIES: "none" }, log: createWriteStream(path), descriptors });
    Object.assign(place, { broker, room, length, path });
    const retention = ["--retention-bytes", "1000000000"];
    await place.start("--broker", broker.url, "--declare", "--room", room, ...retention, ...flags);
    return place;
  }

  /** What the server has logged. */
  output = () => readFileSync(this.path, "utf8");

  /** Reads the end of the log, which has everything that was sent to this server. */
  readLog = (epoch, last) => readLog(this.broker.url, logOf(this.room, epoch), last, this.length > CHECKED ? this.length - CHECKED : "first");

  rejections = () => this.metrics("papo_rejections_total");

  async stop() {
    await this.kill();
    this.log.end();
  }
}

export const newRoom = () => `attack/r-${randomBytes(5).toString("hex")}`;
