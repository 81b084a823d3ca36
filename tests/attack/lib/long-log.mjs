// A room with a long log: its records are published as a server does, which takes seconds instead of hours of chat.

import { connect } from "amqplib";

import { exchangeOf } from "../../lib/broker.mjs";
import { Member } from "../../lib/member.mjs";
import { Place, newRoom } from "./place.mjs";

const AT_ONCE = 5_000;
/** A server that receives a message has read the log up to a few records before it. */
const LAG = 5;

/** Creates a room whose log has `length` records, and returns its name, its length and its epoch. */
export async function longRoom(broker, length) {
  const room = newRoom();
  const place = await Place.start(broker, { room });
  try {
    const visitor = await Member.join(place.url, "visitor");
    visitor.leave();
    await fill(broker, room, visitor.epoch, length);
    return { room, length, epoch: visitor.epoch };
  } finally {
    await place.stop();
  }
}

async function fill(broker, room, epoch, length) {
  const connection = await connect(broker.url);
  try {
    const channel = await connection.createConfirmChannel();
    for (let n = 0; n < length; n++) {
      const headers = { "papo-sender": "0".repeat(24), "papo-user": "Ana", "papo-since": `${epoch}:${Math.max(0, n - LAG)}`, "papo-at": Date.now() };
      const properties = { appId: "papo", contentType: "text/plain", deliveryMode: 2, messageId: `m-${n}`, headers };
      channel.publish(exchangeOf(room), "message", Buffer.from(`message ${n} of a long conversation`), properties);
      if (n % AT_ONCE === 0) await channel.waitForConfirms();
    }
    await channel.waitForConfirms();
  } finally {
    await connection.close();
  }
}
