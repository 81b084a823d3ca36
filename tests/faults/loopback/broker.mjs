// Faults of RabbitMQ.

import { randomBytes, randomUUID } from "node:crypto";
import { mkdtempSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { VHOST } from "../../lib/broker.mjs";
import { Member } from "../../lib/member.mjs";
import { lasting, until } from "../../lib/wait.mjs";

export default [
  {
    number: 3,
    title: "kill -9 the broker during publishing, restart",
    quick: true,
    async run({ broker }) {
      await broker.kill();
      await broker.restart();
      return { end: Date.now() };
    },
  },
  {
    number: 4,
    title: "broker down for 60 s",
    async run({ broker, place: { servers }, members, expect }) {
      await broker.kill();
      const down = Date.now();
      await until("no server is ready", () => servers.every(({ ready }) => !ready), 20);
      const unready = (Date.now() - down) / 1000;
      // The count includes acknowledgements that were under way when the broker was killed.
      const counted = acknowledged(members);
      await lasting(60 - unready);
      expect(acknowledged(members) === counted, `${acknowledged(members) - counted} messages were acknowledged without a broker`);
      await broker.restart();
      const end = Date.now();
      await until("all servers are ready", () => servers.every(({ ready }) => ready));
      return { end, note: `unready after ${unready.toFixed(1)} s, ready ${((Date.now() - end) / 1000).toFixed(1)} s after the broker was back` };
    },
  },
  {
    number: 5,
    title: "SIGSTOP the broker for 30 s",
    async run({ broker }) {
      await broker.pause();
      await lasting(30);
      await broker.resume();
      return { end: Date.now() };
    },
  },
  {
    number: 8,
    title: "memory alarm for 10 s",
    run: (context) =>
      alarm(context, "memory", async (on) => context.broker.ctl("set_vm_memory_high_watermark", ...(on ? ["absolute", "1MB"] : ["0.6"]))),
  },
  {
    number: 9,
    title: "disk alarm for 10 s",
    run: (context) => alarm(context, "disk", async (on) => context.broker.ctl("set_disk_free_limit", on ? "100000GB" : "50MB")),
  },
  {
    number: 23,
    title: "broker credentials rotated",
    async prepare({ broker }) {
      const user = `papo-${randomBytes(4).toString("hex")}`;
      const folder = mkdtempSync(join(tmpdir(), "papo-credentials."));
      const rotate = async () => {
        const password = randomUUID();
        await broker.call("PUT", `users/${user}`, { password, tags: "" });
        for (const [file, value] of Object.entries({ username: user, password })) {
          // Kubernetes updates a mounted Secret like this: each file is replaced as a whole.
          writeFileSync(join(folder, `${file}.new`), value);
          renameSync(join(folder, `${file}.new`), join(folder, file));
        }
      };
      await rotate();
      await broker.call("PUT", `permissions/${VHOST}/${user}`, { configure: ".*", write: ".*", read: ".*" });
      return { flags: ["--broker-credentials", folder], rotate, user };
    },
    async run({ broker, prepared: { rotate, user } }) {
      await rotate();
      await broker.ctl("close_all_user_connections", user, "rotated");
      return { end: Date.now() };
    },
  },
];

const acknowledged = (members) => members.reduce((sum, { sent }) => sum + sent.filter((message) => message.acknowledged).length, 0);

/** A resource alarm: the broker stores nothing, so no message may be acknowledged; stored messages can still be read. */
async function alarm({ broker, place, members, expect }, kind, set) {
  try {
    await set(true);
    await broker.alarm(kind, true);
    // The broker stores and confirms messages that it received before the alarm, so the test waits for the end of these.
    let counted;
    await until("no more messages are acknowledged", async () => {
      counted = acknowledged(members);
      await lasting(1);
      return counted === acknowledged(members);
    });
    const late = await Member.join(place.url, "late");
    expect(late.shown.length > 0, "a member that joined during the alarm was shown no history");
    late.leave();
    await lasting(10);
    expect(acknowledged(members) === counted, `${acknowledged(members) - counted} messages were acknowledged during the alarm`);
  } finally {
    await set(false);
  }
  await broker.alarm(kind, false);
  return { end: Date.now() };
}
