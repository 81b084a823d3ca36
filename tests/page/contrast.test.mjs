// Tests of the style sheet's colours: the contrast of WCAG 2.2 AA in both themes. axe checks what a state shows; these also check every hue,
// and what a pointer or a keyboard changes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const style = readFileSync(new URL("../../web/static/style.css", import.meta.url), "utf8");
const [light, dark] = style.split("@media (prefers-color-scheme: dark)");
const variable = (name, theme) => new RegExp(`--${name}: ([^;]+);`).exec(theme)?.[1];
/** Each theme's function from a variable's name to its value. */
const THEMES = {
  light: (name) => variable(name, light),
  dark: (name) => variable(name, dark) ?? variable(name, light),
};

/** The luminance of a colour in OKLCH, with channels outside sRGB cut off as browsers do (CSS Color 4, WCAG 2.2). */
function luminanceOfHue(lightness, chroma, degrees) {
  const [a, b] = [Math.cos, Math.sin].map((of) => chroma * of((degrees * Math.PI) / 180));
  const [l, m, s] = [[0.3963377774, 0.2158037573], [-0.1055613458, -0.0638541728], [-0.0894841775, -1.291485548]].map(([x, y]) => (lightness + x * a + y * b) ** 3);
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((channel) => Math.min(1, Math.max(0, channel)));
  return luminanceOf(linear);
}

const luminanceOf = ([red, green, blue]) => 0.2126 * red + 0.7152 * green + 0.0722 * blue;
const channelsOf = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
const linear = (channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
const luminance = (channels) => luminanceOf(channels.map(linear));
const contrast = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);

/** A colour as channels: a variable, a value, or `share % of one on other`, as `color-mix` in sRGB makes it. */
function colour(name, value) {
  const mixed = /^(\d+)% of (\S+) on (\S+)$/.exec(name);
  if (!mixed) return channelsOf(name.startsWith("#") ? name : value(name));
  const [one, other] = [colour(mixed[2], value), colour(mixed[3], value)];
  return one.map((channel, n) => (channel * mixed[1] + other[n] * (100 - mixed[1])) / 100);
}

const TEXT = 4.5;
const BORDER = 3;
/** Colours on grounds, as the style sheet combines them. */
const PAIRS = [
  ...["page", "surface", "raised", "7% of text on surface", "danger-soft"].map((ground) => [TEXT, "text", ground]),
  ...["page", "surface", "raised", "12% of muted on page"].map((ground) => [TEXT, "muted", ground]),
  ...["page", "raised"].map((ground) => [TEXT, "accent", ground]),
  ...["12% of accent on raised", "12% of accent on notice"].map((ground) => [TEXT, "accent-strong", ground]),
  ...["accent", "accent-strong"].map((ground) => [TEXT, "on-accent", ground]),
  ...["own-text", "own-muted", "link"].map((text) => [TEXT, text, "own"]),
  ...["raised", "danger-soft"].map((ground) => [TEXT, "link", ground]),
  ...["danger-soft", "surface", "raised"].map((ground) => [TEXT, "danger", ground]),
  [TEXT, "surface", "danger"],
  [TEXT, "notice-text", "notice"],
  [TEXT, "notice-text", "7% of text on notice"],
  [TEXT, "warn", "page"],
  [TEXT, "#ffffff", "plain"],
  ...["page", "surface", "raised"].map((ground) => [BORDER, "control", ground]),
  ...["page", "surface", "raised", "notice", "own"].map((ground) => [BORDER, "accent", ground]),
  ...["ok", "wait", "danger"].map((dot) => [BORDER, dot, "surface"]),
];

for (const [theme, value] of Object.entries(THEMES)) {
  test(`colours have the contrast of WCAG AA, ${theme}`, () => {
    const low = PAIRS.map(([least, one, ground]) => [least, one, ground, contrast(luminance(colour(one, value)), luminance(colour(ground, value)))]);
    assert.deepEqual(low.filter(([least, , , measured]) => measured < least), []);
  });

  test(`avatars and authors of every hue have the contrast of WCAG AA, ${theme}`, () => {
    const chroma = (rule) => Number(new RegExp(`oklch\\(var\\(--${rule}\\) ([0-9.]+) `).exec(style)[1]);
    const raised = luminance(colour("raised", value));
    for (let degrees = 0; degrees < 360; degrees += 1) {
      const avatar = contrast(luminanceOfHue(Number(value("hue-light")), chroma("hue-light"), degrees), 1);
      const author = contrast(luminanceOfHue(Number(value("author-light")), chroma("author-light"), degrees), raised);
      assert.ok(Math.min(avatar, author) >= TEXT, `hue ${degrees}: white on the avatar ${avatar}, the author on the bubble ${author}`);
    }
  });
}

test("text is not made fainter by opacity", () => {
  const rules = [...style.matchAll(/([^{}]+)\{[^{}]*opacity: 0?\.\d+/g)].map(([, selector]) => selector.trim());
  assert.deepEqual(rules, ["button:disabled"], "WCAG exempts only what is disabled");
});
