// The notice that this person is also in the room in another window. It offers a second identity, for a person who tries the chat in
// two windows.

import { Stored } from "../browser.js";
import { t } from "../i18n.js";
import { byId } from "./dom.js";

export class TwinNotice {
  #dismissed = new Stored("sessionStorage", "twin-dismissed");

  /** The button of the notice calls `act()`. */
  constructor(act) {
    byId("twin-action").addEventListener("click", act);
    byId("twin-dismiss").addEventListener("click", () => {
      this.#dismissed.set(true);
      this.hide();
    });
  }

  show(name) {
    if (this.#dismissed.get()) return;
    byId("twin-words").textContent = t("twin", name);
    byId("twin").hidden = false;
  }

  hide() {
    byId("twin").hidden = true;
  }
}
