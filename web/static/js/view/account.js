// The account of somebody who is signed in: a button in the header, and a dialog that says who they are and signs them out.

import { t } from "../i18n.js";
import { initials } from "../text.js";
import { byId, nameNodes, tint } from "./dom.js";

export class AccountView {
  #dialog = byId("account-dialog");

  /** `actions`: `signIn()`, `signOut()`, and `unsent()`, the number of messages that are not sent. */
  constructor({ signIn, signOut, unsent }) {
    byId("sign-in-btn").addEventListener("click", signIn);
    byId("account-btn").addEventListener("click", () => {
      const count = unsent();
      byId("account-unsent").textContent = count ? t("unsent", count) : "";
      this.#dialog.showModal();
    });
    byId("account-close").addEventListener("click", () => this.#dialog.close());
    byId("sign-out").addEventListener("click", signOut);
  }

  /** `account`: what the issuer calls the person; `null` if the page has not signed them in. `offers`: whether it can. */
  show({ user, sender, verified }, account, offers) {
    byId("sign-in-btn").hidden = !offers;
    byId("account-btn").hidden = !verified;
    byId("account-name").replaceChildren(...nameNodes(user));
    byId("account-words").textContent = account === null ? t("signedInByProxy") : t("signedInAs", account || user);
    byId("sign-out").hidden = account === null;
    const avatar = byId("account-avatar");
    avatar.textContent = initials(user ?? "");
    tint(avatar, sender);
  }
}
