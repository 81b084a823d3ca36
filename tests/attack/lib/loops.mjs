// What attackers share: connections that are opened again and again.

/** Calls `once(done)` in so many loops until the signal. It returns something with `hangUp`, and calls `done` when that has ended. */
export async function inLoops(number, signal, once) {
  const open = new Set();
  signal.addEventListener("abort", () => open.forEach((wire) => wire.hangUp()));
  const loop = async () => {
    while (!signal.aborted)
      await new Promise((done) => {
        const wire = once(() => (open.delete(wire), done()));
        open.add(wire);
      });
  };
  await Promise.all(Array.from({ length: number }, loop));
}

/** The code of a rejection. */
export const codeOf = (text) => text.match(/"code":"(\w+)"/)?.[1] ?? "no code";

/** What the server answered to attackers it did not serve: counts by status or code, for a cell of the table. */
export function listed(counts) {
  const entries = Object.entries(counts).map(([what, number]) => `${number} × ${what.replace(/^status /, "")}`);
  return entries.length ? entries.join(", ") : "no rejection";
}
