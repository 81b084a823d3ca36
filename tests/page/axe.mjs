// axe-core on a window.

import assert from "node:assert/strict";

import axe from "axe-core";

const OPTIONS = {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  rules: { "target-size": { enabled: true } },
  resultTypes: ["violations"],
};

/** Runs axe on a window, and fails with what it found. */
export async function accessible(window, state) {
  if (!(await window.page.evaluate(() => "axe" in globalThis))) await window.page.evaluate(axe.source);
  const violations = await window.page.evaluate(async (options) => {
    const { violations } = await window.axe.run(document, options);
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, any, all, none }) => `${target} (${[...any, ...all, ...none].map(({ message }) => message).join("; ")})`).join(", ")}`);
  }, OPTIONS);
  assert.deepEqual(violations, [], state);
}
