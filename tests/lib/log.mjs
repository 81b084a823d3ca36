// Reads the whole log of a room from the broker.

import { connect } from "amqplib";

import { until } from "./wait.mjs";

/** All records of a stream, at least up to the offset `last`; `head` is the first offset that is retained. */
export async function readLog(url, stream, last) {
  const connection = await connect(url);
  try {
    const channel = await connection.createChannel();
    await channel.prefetch(1000);
    const records = [];
    let end = -1;
    await channel.consume(
      stream,
      (delivery) => {
        const { headers, messageId } = delivery.properties;
        end = Number(headers["x-stream-offset"]);
        records.push({ offset: end, sender: String(headers["papo-sender"]), id: messageId });
        channel.ack(delivery);
      },
      { arguments: { "x-stream-offset": "first" } },
    );
    await until(`the log ${stream} was read up to ${last}`, () => end >= last, 60);
    return { records, head: records[0]?.offset ?? 0 };
  } finally {
    await connection.close();
  }
}
