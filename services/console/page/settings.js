// Settings: who is looking, how the page looks, and what the console runs with, its secrets masked.

import { get, refresh, session } from "./api.js";
import { unlock } from "./dialogs.js";
import { h, hint, keyed, set, text } from "./draw.js";
import { state } from "./live.js";
import { choose, chosen } from "./theme.js";
import { bytes, plainly } from "./words.js";

export const name = "Settings";
const THEMES = [["auto", "as the system"], ["light", "light"], ["dark", "dark"]];
const BYTES = new Set(["max_body", "room"]);
const parts = {};

export function make(root) {
  parts.access = h("p");
  parts.unlock = h("button", { type: "button", onclick: () => unlock(() => draw(new Set(["all"]))) }, "Give the acting token");
  parts.themes = h("div", { class: "choice", role: "group", "aria-label": "Theme" }, THEMES.map(([id, words]) => h("button", { type: "button", "data-theme-choice": id, onclick: () => { choose(id); draw(new Set(["all"])); } }, words)));
  parts.list = h("dl", { class: "pairs" });
  root.append(h("h1", null, "Settings"), h("div", { class: "pair" }, h("section", { class: "panel" }, h("h2", null, "Access"), parts.access, parts.unlock), h("section", { class: "panel" }, h("h2", null, "Look"), parts.themes, h("p", { class: "soft" }, "Remembered in this browser alone."))),
    h("section", { class: "panel" }, h("h2", null, "What this console runs with"), h("p", { class: "soft" }, "Set by environment variables before it starts; secrets are masked."), parts.list));
  refresh().then(() => draw(new Set(["all"])), () => undefined);
  get("/api/settings").then((found) => { state.settings = found; draw(new Set(["settings"])); }, (error) => parts.list.replaceChildren(hint(error.message, h("p", null, error.next ?? ""))));
}

const flat = (found, before = "") => Object.entries(found).flatMap(([field, value]) => (value && typeof value === "object" && !Array.isArray(value) ? flat(value, `${before}${field}.`) : [[`${before}${field}`, value]]));

export function draw() {
  text(parts.access, session.acting ? "You may read and act." : "You may read. To act (promote, roll back, silence, hold, send dead letters through) give the acting token: it stands beside the reading one in console/tokens.json in the run's data folder.");
  parts.unlock.hidden = session.acting;
  for (const button of parts.themes.children) set(button, "aria-pressed", String(button.dataset.themeChoice === chosen()));
  if (!state.settings) return;
  keyed(parts.list, flat(state.settings), ([field]) => field, ([field]) => h("div", null, h("dt", null, plainly(field)), h("dd", { class: "code" })), (node, [field, value]) => text(node.lastChild, value === "" || value === null ? "–" : Array.isArray(value) ? value.join(", ") : BYTES.has(field) ? bytes(value) : String(value)));
}
