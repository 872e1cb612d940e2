// What is asked before an act, and what is said after it. An act wants a reason and the acting token.

import { Refused, enter, post, session } from "./api.js";
import { h, text } from "./draw.js";

const dialog = document.getElementById("dialog");
const KEYS = [["1 – 8", "the views"], ["/", "find an event by its id"], ["j  k", "next and previous row"], ["Enter", "open the row"], ["Esc", "back, or close"], ["p", "pause the tape"], ["t", "theme: auto, light, dark"], ["?", "this"]];
let quiet = 0;

export function say(words, wrong = false) {
  const toast = document.getElementById("toast");
  clearTimeout(quiet);
  toast.className = wrong ? "said wrong" : "said";
  text(toast, words);
  quiet = setTimeout(() => { toast.className = ""; text(toast, ""); }, 9000);
}

function show(title, ...children) {
  dialog.replaceChildren(h("h2", { id: "asked" }, title), ...children);
  dialog.setAttribute("aria-labelledby", "asked");
  dialog.showModal();
}

const shut = () => h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");

export function help() {
  show("Keys", h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", null, h("kbd", null, key)), h("dd", null, what)])),
    h("p", { class: "soft" }, "Times of events are UTC. A rate is of the last seconds; a lag is what a service has still to read, in records and in seconds."),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")));
}

// Ask for what the act needs, then do it. `fields` are [name, label, type, value]; `body` makes the request of them.
export function act({ title, words, fields = [["reason", "Reason, for the record", "text", ""]], button, url, body = (found) => found, danger = false, then }) {
  if (!session.acting) return unlock(() => act({ title, words, fields, button, url, body, danger, then }));
  const wrong = h("p", { class: "wrong", role: "alert" });
  const inputs = fields.map(([name, label, type, value]) =>
    h("label", null, label, h("input", { name, type, value, required: true, min: type === "number" ? 0.1 : null, step: type === "number" ? "any" : null, autocomplete: "off" })));
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    const found = Object.fromEntries(new FormData(form));
    for (const [name, , type] of fields) if (type === "number") found[name] = Number(found[name]);
    await sent(url, body(found), wrong, title, then);
  } }, inputs, wrong, h("div", { class: "buttons" }, shut(), h("button", { type: "submit", class: danger ? "danger" : "primary" }, button)));
  show(title, h("p", null, words), form);
  form.querySelector("input")?.focus();
}

async function sent(url, body, wrong, title, then) {
  try {
    await post(url, body);
    dialog.close();
    say(`${title}: ordered. It shows here once the service has read the command.`);
    then?.();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    text(wrong, `${error.message}. ${error.next}`);
  }
}

// Without the acting token: where it is, and a place to put it.
export function unlock(then) {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const input = h("input", { name: "token", type: "password", required: true, autocomplete: "off" });
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    try {
      await enter(input.value.trim());
      if (!session.acting) return text(wrong, "This token may read, not act. The acting one stands beside it in the same file.");
      dialog.close();
      then?.();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      text(wrong, `${error.message}. ${error.next}`);
    }
  } }, h("label", null, "Acting token", input), wrong, h("div", { class: "buttons" }, shut(), h("button", { type: "submit", class: "primary" }, "Use it")));
  show("This needs the acting token", h("p", null, "You are reading. To act, give the acting token: the launcher printed it when the run first started, and it is in ", h("code", null, "console/tokens.json"), " in the run's data folder, readable by its owner alone."), form);
  input.focus();
}
