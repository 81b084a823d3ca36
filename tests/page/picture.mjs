// Draws docs/page.png, the README's picture: a conversation on a desktop and, in the dark, on a phone.
//
//   PAPO_SERVER=... node --test picture.mjs

import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Member } from "../lib/member.mjs";
import { PapoServer, root } from "../lib/server.mjs";

const DESKTOP = { width: 940, height: 640 };
const PHONE = { width: 360, height: 620 };

test("draws docs/page.png", async (t) => {
  const server = await PapoServer.start(t, "--title", "Papo da firma");
  const rui = await Member.join(server.url, { name: "Rui Álvares", token: "the secret of Rui" }, { test: t });
  await Member.join(server.url, "Carla", { test: t });
  const ana = await enter(t, server, { name: "Ana Souza", token: "the secret of Ana" }, { viewport: DESKTOP });
  const bia = await enter(t, server, { name: "Bia", token: "the secret of Bia" }, { viewport: PHONE, colorScheme: "dark" });
  const turns = [
    [bia, "Alguém tem o link da reunião de hoje?"],
    [rui, "Está aqui: https://example.org/reuniao"],
    [rui, "Começa às três"],
    [ana, "Obrigada, Rui! Levo o bolo de fubá 🎂"],
    [bia, "<b>Oba!</b> (isto é só texto)"],
    [ana, "O ônibus está demorando, chego uns dez minutos depois."],
    [rui, "Sem pressa, a gente espera"],
  ];
  for (const [speaker, text] of turns) {
    await speaker.say(text);
    await Promise.all([ana.sees(text), bia.sees(text)]);
  }
  await bia.page.locator("#message-input").pressSequentially("Eu levo o caf");
  await ana.until(() => document.getElementById("typing").textContent);
  const [desktop, phone] = await Promise.all([ana, bia].map(({ page }) => page.screenshot({ animations: "disabled" })));
  await compose(t, server.url, desktop, phone);
});

/** Enters with a fixed token, because the token determines the colour. */
async function enter(t, server, identity, options) {
  const window = await ChatWindow.open(t, server.url, options);
  await window.page.evaluate((identity) => localStorage.setItem("papo.identity", JSON.stringify(identity)), identity);
  await window.page.reload();
  await window.connection("connected");
  return window;
}

async function compose(t, url, desktop, phone) {
  const { page } = await ChatWindow.open(t, `${url}/static/favicon.svg`, { viewport: { width: 1380, height: 720 } });
  await page.goto("about:blank");
  const image = (png) => `data:image/png;base64,${png.toString("base64")}`;
  await page.setContent(`<style>
    body { margin: 0; background: #cfe3da; }
    img { position: absolute; border-radius: 14px; box-shadow: 0 10px 30px #1d3a3040; }
    #desktop { left: 40px; top: 40px; }
    #phone { right: 40px; bottom: 42px; border: 8px solid #0a0f0d; border-radius: 34px; }
  </style><img id="desktop" src="${image(desktop)}"><img id="phone" src="${image(phone)}">`);
  await page.screenshot({ path: root("docs/page.png") });
}
