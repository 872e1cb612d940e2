// Dead letters: what was refused and why, its bytes, a fix, and sending it through again.

import { get } from "./api.js";
import { act } from "./dialogs.js";
import { cells, h, hint, keyed, row, set, table, text } from "./draw.js";
import { state } from "./live.js";
import { ago, count, moment } from "./words.js";

export const name = "Dead letters";
const OTHER = {
  base64: "Not text: shown as base64. It can be sent through as it is.",
  none: "Its bytes are not shown: they hold what is marked as personal, or were too large for the letter. It can be sent through as it is.",
};
const COLUMNS = [["when"], ["from"], ["place", "n"], ["reason"], [""]];
const parts = {};
let open = "";

export const badge = (found) => [found.dead?.count ? count(found.dead.count) : "", ""];

export function make(root) {
  open = "";
  parts.lead = h("p", { class: "soft" });
  parts.table = table("The newest that were refused", COLUMNS);
  parts.empty = h("div");
  parts.list = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Dead letters" }, parts.table);
  parts.detail = h("section", { class: "detail", "aria-label": "The dead letter that is looked at" });
  root.append(h("h1", null, "Dead letters"), parts.lead, parts.empty, h("div", { class: "split dead" }, parts.list, parts.detail));
}

export function show([partition, offset]) {
  const wanted = offset === undefined ? "" : `${partition}/${offset}`;
  if (wanted === open) return;
  open = wanted;
  if (open) look(open);
  else parts.detail.replaceChildren();
}

export const back = () => { location.hash = "#/dead"; };

export function draw(kinds) {
  if (!["all", "dead"].some((kind) => kinds.has(kind)) || !state.dead) return;
  const { count: many, newest } = state.dead;
  text(parts.lead, many ? `${count(many)} in all. Each holds the original bytes; what is sent through again counts once.` : "");
  parts.list.hidden = !newest.length;
  parts.empty.hidden = newest.length > 0;
  if (!newest.length && !parts.empty.firstChild) parts.empty.append(hint("Nothing was refused", h("p", null, "An event that breaks its schema, comes twice, or is far ahead of its time lands here with the reason and its bytes, and can be fixed and sent through again.")));
  keyed(parts.table.tBodies[0], newest, (one) => `${one.partition}/${one.offset}`, make_row, patch);
}

function make_row(one) {
  const made = row(COLUMNS);
  const at = `${one.partition}/${one.offset}`;
  made.lastChild.append(h("a", { href: `#/dead/${at}`, "data-row": "", "aria-label": `Look at dead letter ${at}` }, "look"));
  return made;
}

function patch(node, one) {
  cells(node, [ago(one.at), one.topic.split(".").at(-1), `${one.partition}@${one.offset}`, `${one.replayed ? "✓ sent again: " : ""}${one.reason}`]);
  set(node, "class", open === `${one.partition}/${one.offset}` ? "picked" : null);
}

async function look(at) {
  try {
    const found = await get(`/api/dead/${at}`);
    if (at === open) parts.detail.replaceChildren(...letter(found, at));
  } catch (refused) {
    parts.detail.replaceChildren(hint(refused.message, h("p", null, refused.next ?? "")));
  }
  for (const one of parts.table.tBodies[0].rows) set(one, "class", one.querySelector("a")?.hash === `#/dead/${at}` ? "picked" : null);
  if (innerWidth < 900) parts.detail.scrollIntoView();
}

const pretty = (bytes) => {
  try {
    return JSON.stringify(JSON.parse(bytes), null, 2);
  } catch {
    return bytes;
  }
};

function letter(found, at) {
  const textual = found.encoding === "text";
  const editor = h("textarea", { rows: 14, spellcheck: "false", "aria-label": "The bytes of the event", readonly: !textual, oninput: () => text(state_, judged(editor.value)) });
  editor.value = textual ? pretty(found.bytes) : found.bytes ?? "";
  const state_ = h("p", { class: "soft", role: "status" }, textual ? judged(editor.value) : OTHER[found.encoding]);
  const replay = (fixed) => act({ title: fixed ? "Send it fixed" : "Send it as it is", words: fixed ? "What stands in the box is sent as the event, and the letter is noted as replayed." : "Right when it was the schema or a service that was wrong, and is fixed now.", fields: [], button: "Send through again", url: `/api/dead/${at}/replay`, body: () => ({ fixed: fixed ? compact(editor.value) : null }) });
  return [h("section", { class: "panel" }, h("header", null, h("h2", null, `${found.topic ?? "event"} ${at.replace("/", "@")}`), h("a", { class: "close", href: "#/dead" }, "close")),
    h("p", { class: "reason" }, found.message ? `${found.reason}: ${found.message}` : found.reason), found.at ? h("p", { class: "soft" }, moment(found.at, true)) : null, editor, state_,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => replay(false) }, "Send as it is"), textual ? h("button", { type: "button", class: "primary", onclick: () => replay(true) }, "Send fixed") : null))];
}

const compact = (value) => {
  try {
    return JSON.stringify(JSON.parse(value));
  } catch {
    return value;
  }
};

function judged(value) {
  try {
    JSON.parse(value);
    return "It is JSON. Whether it fits the schema is judged when it is sent.";
  } catch (error) {
    return `Not JSON yet: ${error.message}`;
  }
}
