// Members who keep talking while the cluster is being disturbed.

/** Every member sends one message after the other until `stop()`, which returns when the last is acknowledged. */
export function talk(members, { pauseMs = 50 } = {}) {
  const stopping = new AbortController();
  const talking = members.map(async (member) => {
    for (let n = 1; !stopping.signal.aborted; n++) {
      await member.send(`${member.name} ${n}`);
      // The pace of the test, below the room's rate limit; nothing waits for it.
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  });
  const done = Promise.all(talking);
  // Its failure is reported by `stop`.
  done.catch(() => {});
  return {
    async stop() {
      stopping.abort();
      await done;
    },
  };
}
