// What happens to the room on the broker, while it is in use.

import { logOf } from "../../lib/broker.mjs";
import { until } from "../../lib/wait.mjs";

export default [
  {
    number: "21a",
    title: "the room's exchange is deleted",
    async run({ broker, place }) {
      await broker.deleteExchange(place.room);
      const end = Date.now();
      await until("the exchange is back", () => broker.exchange(place.room));
      return { end };
    },
  },
  {
    number: "21b",
    title: "the room's log is deleted",
    quick: true,
    async run({ broker, place, members, expect }) {
      const [{ epoch }] = members;
      await broker.deleteQueue(logOf(place.room, epoch));
      const end = Date.now();
      await until("all were given the new log", () => members.every((member) => member.epoch !== epoch), 60);
      const epochs = new Set(members.map((member) => member.epoch));
      expect(epochs.size === 1, `the servers went on in different logs: ${[...epochs]}`);
      return { end, note: "what was in the deleted log is gone; a new epoch was announced" };
    },
  },
];
