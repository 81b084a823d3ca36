// Tests of the checker: it must accept a good history, and reject each history that breaks one invariant.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { catchingUp, judge, percentile, settled, visible } from "./checker.mjs";

const EPOCH = "e1";
const id = (n) => `m${n}`;
const record = (offset, n = offset) => ({ offset, sender: "ana", id: id(n) });
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
const show = (offset, n = offset, epoch = EPOCH) => ({ ...record(offset, n), epoch, at: 1000 + offset });
const first = { before: 0, kind: "page", epoch: EPOCH };

/** Ana sends messages 0 to 9, all are acknowledged and stored in that order; Ana and Rui see all of them. */
function good() {
  const sent = range(0, 10).map((n) => ({ id: id(n), at: 1000 + n, attempts: 1, connection: 1, acknowledged: { epoch: EPOCH, offset: n, at: 1000 + n } }));
  const reader = (name) => ({ name, sender: name, sent: [], shown: range(0, 10).map((n) => show(n)), notices: [first] });
  return { members: [{ ...reader("ana"), sent }, reader("rui")], logs: { [EPOCH]: { records: range(0, 10).map((n) => record(n)), head: 0, whole: true } } };
}

const counts = ({ lost, repeated, reordered, holes, invented }) => ({ lost, repeated, reordered, holes, invented });
const none = { lost: 0, repeated: 0, reordered: 0, holes: 0, invented: 0 };

/** The verdict on a good history that `break_` has changed. */
function after(break_) {
  const history = good();
  break_(history, history.members[0], history.members[1]);
  return judge(history);
}

describe("judge", () => {
  test("accepts a history without faults", () => {
    const verdict = judge(good());
    assert.deepEqual([verdict.ok, verdict.sent, verdict.acknowledged, counts(verdict)], [true, 10, 10, none]);
  });

  test("I1: an acknowledged message missing from the log is lost", () => {
    const verdict = after(({ logs, members }) => {
      logs[EPOCH].records.splice(9, 1);
      for (const { shown } of members) shown.pop();
    });
    assert.deepEqual(counts(verdict), { ...none, lost: 1 });
    assert.equal(verdict.ok, false);
  });

  test("I1: an acknowledgement with another offset is invented", () => {
    assert.equal(after((_, ana) => (ana.sent[3].acknowledged.offset = 4)).invented, 1);
  });

  test("I1: missing last messages count unless the member left", () => {
    assert.deepEqual(counts(after((_, ana, rui) => rui.shown.splice(8, 2))), { ...none, holes: 2 });
    assert.equal(after((_, ana, rui) => (rui.shown.splice(8, 2), (rui.left = true))).ok, true);
  });

  test("I2: a message shown twice counts as repeated", () => {
    assert.equal(after((_, ana, rui) => rui.shown.splice(4, 0, show(3))).repeated, 1);
    assert.equal(after((_, ana, rui) => rui.shown.push(show(3))).repeated, 1);
  });

  test("I2: a duplicate that is shown is repeated", () => {
    const copy = (history) => history.logs[EPOCH].records.push(record(10, 2));
    assert.equal(after(copy).ok, true);
    assert.equal(after(copy).duplicates, 1);
    assert.equal(after((history, ana, rui) => (copy(history), rui.shown.push(show(10, 2)))).repeated, 1);
  });

  test("I3: another order than the log's is reordered", () => {
    const swap = (list, a, b) => ([list[a], list[b]] = [list[b], list[a]]);
    assert.ok(after((_, ana, rui) => swap(rui.shown, 4, 5)).reordered > 0);
  });

  test("I3: another message than the log has there is invented", () => {
    assert.equal(after((_, ana, rui) => (rui.shown[4] = show(4, 77))).invented, 1);
    assert.equal(after((_, ana, rui) => rui.shown.push(show(55))).invented, 1);
  });

  test("I3: messages stored in another order than sent are reordered", () => {
    const swapped = (ana) => ([ana.sent[4].acknowledged.offset, ana.sent[5].acknowledged.offset] = [5, 4]);
    const relabel = ({ logs, members }) => {
      const names = (offset) => ({ 4: 5, 5: 4 })[offset] ?? offset;
      logs[EPOCH].records = range(0, 10).map((offset) => record(offset, names(offset)));
      for (const member of members) member.shown = range(0, 10).map((offset) => show(offset, names(offset)));
    };
    assert.equal(after((history, ana) => (swapped(ana), relabel(history))).reordered, 1);
    // Messages that were sent again, or on another connection, have no order to keep.
    assert.equal(after((history, ana) => (swapped(ana), relabel(history), (ana.sent[4].attempts = 2))).ok, true);
    assert.equal(after((history, ana) => (swapped(ana), relabel(history), ana.sent.slice(5).forEach((sent) => (sent.connection = 2)))).ok, true);
  });

  test("I4: a hole without a notice counts", () => {
    const hole = (rui) => rui.shown.splice(3, 3);
    assert.equal(after((_, ana, rui) => hole(rui)).holes, 3);
    const announced = after((_, ana, rui) => (hole(rui), rui.notices.push({ before: 3, kind: "gap", epoch: EPOCH, from: 3, to: 5 })));
    assert.deepEqual([announced.ok, announced.announced], [true, 3]);
    assert.equal(after((_, ana, rui) => (hole(rui), rui.notices.push({ before: 3, kind: "gap", epoch: EPOCH, from: 3, to: 4 }))).holes, 1);
    // A later page of the same log does not announce a hole, and a page may repeat messages.
    assert.equal(after((_, ana, rui) => (hole(rui), rui.notices.push({ before: 3, kind: "page", epoch: EPOCH }))).holes, 3);
    assert.equal(after((_, ana, rui) => (rui.shown.splice(6, 0, ...range(4, 6).map((n) => show(n))), rui.notices.push({ before: 6, kind: "page", epoch: EPOCH }))).ok, true);
  });

  test("I4: another epoch without a page counts as a hole", () => {
    const other = (history, rui) => {
      history.logs.e2 = { records: [record(0, 50)], head: 0, whole: true };
      history.logs[EPOCH].whole = false;
      rui.shown.push(show(0, 50, "e2"));
    };
    assert.equal(after((history, ana, rui) => other(history, rui)).holes, 1);
    assert.equal(after((history, ana, rui) => (other(history, rui), rui.notices.push({ before: 10, kind: "page", epoch: "e2" }))).ok, true);
  });

  test("messages removed by retention are not judged", () => {
    const shorten = (history) => {
      history.logs[EPOCH].records.splice(0, 5);
      history.logs[EPOCH].head = 5;
    };
    assert.equal(after(shorten).ok, true);
    assert.equal(after((history, ana, rui) => (shorten(history), rui.shown.splice(7, 1))).holes, 1);
  });
});

describe("visible", () => {
  test("hides duplicates of the same sender within the window", () => {
    const records = [record(0, 1), { offset: 1, sender: "rui", id: id(1) }, record(32_768, 1), record(65_537, 1)];
    assert.deepEqual(visible(records).map(({ offset }) => offset), [0, 1, 65_537]);
  });
});

describe("settled", () => {
  /** Members, and a log that has a message more each time when it is read: of somebody whose last messages are still on their way. */
  function late(messages) {
    const { members, logs } = good();
    const [ana, rui] = members;
    const all = members.map((member) => Object.assign(member, { epoch: EPOCH, offset: 9, history: member }));
    const receive = (member, offset) => (member.shown.push(show(offset)), (member.offset = offset));
    const log = async () => {
      const next = logs[EPOCH].records.length;
      // It is stored while the log is read. One member is shown it before the end of that, the other one later.
      const records = [...logs[EPOCH].records];
      if (next < 10 + messages) {
        logs[EPOCH].records.push(record(next));
        receive(ana, next);
        setImmediate(() => receive(rui, next));
      }
      return { records, head: 0 };
    };
    return { place: { log }, members: all };
  }

  test("reads the log again when a message was stored meanwhile", async () => {
    for (const messages of [0, 1, 3]) {
      const { place, members } = late(messages);
      assert.deepEqual(judge(await settled(place, members)).faults, [], `${messages} messages`);
    }
  });
});

describe("catchingUp", () => {
  test("lasts until acknowledged messages and a later one are shown", () => {
    const history = good();
    const [, rui] = history.members;
    rui.shown.forEach((message, n) => (message.at = 1000 + n));
    rui.shown[2].at = 4500;
    assert.deepEqual(catchingUp(history, 1005), [0, 3.495]);
    rui.shown.splice(2, 1);
    assert.deepEqual(catchingUp(history, 1005), [0, Infinity]);
  });

  test("never ends if nothing was sent afterwards", () => {
    assert.deepEqual(catchingUp(good(), 5000), [Infinity, Infinity]);
  });

  test("percentile gives the value for a share", () => {
    const seconds = range(1, 101);
    assert.deepEqual([percentile(seconds, 0.99), percentile(seconds, 1)], [99, 100]);
  });
});
