// Faults of the room's objects on the broker, under traffic.

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
      await until("all members are in the new epoch", () => members.every((member) => member.epoch !== epoch), 60);
      const epochs = new Set(members.map((member) => member.epoch));
      expect(epochs.size === 1, `the servers use different logs: ${[...epochs]}`);
      return { end, note: "the messages of the deleted log are lost; the members got a new epoch" };
    },
  },
];
