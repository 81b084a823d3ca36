// One line that says how far long work is: on a terminal always the same line, elsewhere a new one from time to time.

const { stdout } = process;
const EVERY = stdout.isTTY ? 500 : 10_000;

/** Shows what `text` returns until `stop` is called, which shows it a last time. */
export function progress(text) {
  const began = performance.now();
  const show = (end) => {
    const line = `${String(Math.round((performance.now() - began) / 1000)).padStart(5)} s  ${text()}`;
    stdout.write(stdout.isTTY ? `\r\x1b[K${line}${end}` : `${line}\n`);
  };
  const timer = setInterval(show, EVERY, "");
  if (stdout.isTTY) show("");
  return {
    stop() {
      clearInterval(timer);
      show("\n");
    },
  };
}
