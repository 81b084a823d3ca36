// Scrolling back: loads pages of the log that the timeline does not have, and bounds the timeline's length.

const PAGE = 50;
/** Maximum number of messages in the timeline, and so of elements on the page. */
const MOST = 600;
/** Messages that stay when the oldest are dropped. It is less than MOST, so that messages are dropped in groups. */
const KEPT = 400;
const TIMEOUT = 10_000;
const PAUSE = 1_000;
const BUSY_PAUSE = 50;
/** Rejections that end by themselves. The page scrolls again after a pause, and so requests again what it still needs. */
const PASSING = new Set(["rate_limited", "unavailable", "busy"]);

export class Scrollback {
  loading = false;
  #timeline;
  #request;
  #changed;

  /** `request(argument, timeout)` asks the room for `{ before, limit }`; `changed()` is called after every change. */
  constructor(timeline, request, changed) {
    this.#timeline = timeline;
    this.#request = request;
    this.#changed = changed;
  }

  /** Loads older messages, if there are any. */
  async older() {
    const { messages, more } = this.#timeline;
    if (!more || !messages.length) return;
    await this.#load(messages[0].offset, (page) => {
      this.#timeline.prepend(page.messages, page.more);
      this.#timeline.dropNewest(MOST);
    });
  }

  /** Loads newer messages, if the timeline is detached from the end of the log. */
  async newer() {
    const { messages, detached } = this.#timeline;
    if (!detached) return;
    // The server pages backwards only: a page of PAGE offsets that ends here begins right after the last loaded message.
    const end = messages.at(-1).offset + 1 + PAGE;
    await this.#load(end, (page) => {
      this.#timeline.append(page.messages, end);
      this.#timeline.dropOldest(MOST);
    });
  }

  /** Returns to the end of the log, if the timeline is detached from it. */
  async newest() {
    let code = "busy";
    while (this.#timeline.detached && PASSING.has(code)) {
      code = await this.#load(this.#timeline.newest + 1, (page) => this.#timeline.jump(page.messages, page.more));
      if (code === "busy") await pause(BUSY_PAUSE);
    }
  }

  /** Keeps the timeline within its bound while messages arrive: drops messages that the person does not see. */
  bound(atEnd) {
    const { messages } = this.#timeline;
    if (messages.length <= MOST) return;
    if (atEnd) this.#timeline.dropOldest(KEPT);
    else this.#timeline.dropNewest(MOST);
  }

  /** Loads a page; returns the code of the rejection, if there is one, after a pause. */
  async #load(before, take) {
    if (this.loading) return "busy";
    this.loading = true;
    this.#changed();
    const { epoch } = this.#timeline;
    const page = await this.#request({ before, limit: PAGE }, TIMEOUT).catch(() => ({ ok: false }));
    // If the epochs differ, the log was replaced and the answer is from the old log.
    if (page.ok && page.epoch === epoch && epoch === this.#timeline.epoch) take(page);
    else await pause(PAUSE);
    this.loading = false;
    this.#changed();
    return page.code;
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
