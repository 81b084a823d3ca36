// All attacks on one server at the same time: the memory that it needs at most.

import { manyArrivals } from "./arrivals.mjs";
import { flooders } from "./flood.mjs";
import { readers } from "./past.mjs";
import { sockets } from "./sockets.mjs";

/** More than the worst case that the flags allow would be a fault of the server. */
const MEMORY = 256 * 2 ** 20;

export default [
  {
    number: "all",
    title: "41, 42, 43b and 44 at once",
    bound: "all of them",
    needsLongLog: true,
    // The attackers and the server share two processors here, so these limits are wide.
    notices: { delivery: 5_000, enter: 5_000, scrollBack: 10_000 },
    attackers: (context) => [flooders, readers, manyArrivals, sockets].flatMap((attackers) => attackers(context)),
    judge({ row, expect }) {
      const { peak, resident } = row.server;
      expect(peak <= MEMORY, `the server took ${Math.round(peak / 2 ** 20)} MiB`);
      const codes = Object.entries(row.rejections).filter(([, number]) => number > 0);
      return `memory + ${Math.round((peak - resident) / 2 ** 20)} MiB; rejections: ${codes.map(([code, number]) => `${number} × \`${code}\``).join(", ")}`;
    },
  },
];
