// Reads the whole log of a room from the broker.

import { connect } from "amqplib";

import { until } from "./wait.mjs";

/** The records of a stream from the offset `first`, at least up to the offset `last`; `head` is the offset of the first one of them. */
export async function readLog(url, stream, last, first = "first") {
  const connection = await connect(url);
  let failure;
  connection.on("error", (error) => (failure = error));
  try {
    const channel = await connection.createChannel();
    channel.on("error", (error) => (failure = error));
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
      { arguments: { "x-stream-offset": first } },
    );
    await until(`the log ${stream} was read up to ${last}`, () => failure ?? end >= last, 60);
    if (failure) throw failure;
    return { records, head: records[0]?.offset ?? 0 };
  } finally {
    await connection.close().catch(() => {});
  }
}
