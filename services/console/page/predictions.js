// Predictions: a tape of the newest, and one of them with all that made it and all that came of it.

import { get } from "./api.js";
import { explained } from "./detail.js";
import { h, hint, keyed, meter, set, text } from "./draw.js";
import { first } from "./flow.js";
import { state } from "./live.js";
import { count, moment, number } from "./words.js";

export const name = "Predictions";
const KEPT = 200;
const parts = {};
let paused = false;
let held = [];
let missed = 0;
let seen = new Set();
let open = "";
let asking = 0;

export function make(root) {
  parts.pause = h("button", { type: "button", onclick: pause });
  parts.note = h("p", { class: "soft note" });
  parts.tape = h("ol", { class: "tape", "aria-label": "The newest predictions, a sample" });
  parts.detail = h("section", { class: "detail", "aria-label": "The prediction that is looked at", "aria-live": "off" });
  parts.split = h("div", { class: "split" }, h("section", { class: "newest" }, h("header", null, h("h1", null, "Newest"), parts.pause), parts.note, parts.tape), parts.detail);
  root.append(parts.split);
}

export function show([id]) {
  const wanted = id ?? "";
  if (wanted === open && parts.detail.firstChild) return;
  open = wanted;
  parts.split.classList.toggle("opened", Boolean(open));
  if (open) look(open);
  else parts.detail.replaceChildren(hint("Pick a prediction", h("p", null, "Click a row, or go along them with j and k and press Enter, or search an event's id with /. You then see the features and why they are so, the versions and their weights, the trace, and the label once it has come.")));
}

export function leave() {
  open = "";
  paused = false;
}

export const back = () => { location.hash = "#/predictions"; };
export const keys = { p: () => pause(), j: () => move(1), k: () => move(-1) };

// Whoever goes along the rows reads: the tape waits.
function move(by) {
  if (!paused) pause();
  const rows = [...parts.tape.querySelectorAll("a")];
  const at = rows.indexOf(document.activeElement);
  const next = rows[Math.min(Math.max(at < 0 ? 0 : at + by, 0), rows.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function pause() {
  paused = !paused;
  missed = 0;
  draw(new Set(["tape", "all"]));
}

function take(tape) {
  const fresh = tape.predictions.filter((one) => !seen.has(one.event_id));
  if (paused) {
    missed = fresh.length;
    const known = new Map(tape.predictions.map((one) => [one.event_id, one]));
    held = held.map((one) => known.get(one.event_id) ?? one);
    return;
  }
  const ids = new Set(tape.predictions.map((one) => one.event_id));
  held = [...tape.predictions, ...held.filter((one) => !ids.has(one.event_id))].slice(0, KEPT);
  seen = new Set(held.map((one) => one.event_id));
}

export function draw(kinds) {
  if (!["all", "tape"].some((kind) => kinds.has(kind)) || !state.tape) return;
  take(state.tape);
  text(parts.pause, paused ? "Go on" : "Pause");
  set(parts.pause, "aria-pressed", String(paused));
  text(parts.note, paused ? `Paused${missed ? `; ${count(missed)} newer wait` : ""}. p goes on.` : "A sample; every one is on the predictions topic.");
  if (!held.length) return parts.tape.replaceChildren(h("li", { class: "none" }, none()));
  parts.tape.querySelector(".none")?.remove();
  keyed(parts.tape, held, (one) => one.event_id, line, patch);
}

const none = () => ((state.flow?.topics.find((one) => one.name === "predictions")?.end ?? 0) > 0
  ? hint("None since the console began", h("p", null, "The tape shows what comes from now on. Any earlier prediction is found by its event's id: press /."))
  : first());

function line(one) {
  return h("li", null, h("a", { href: `#/predictions/${encodeURIComponent(one.event_id)}`, "data-row": "" },
    h("span", { class: "when n" }, moment(one.event_time)), h("span", { class: "id" }, one.event_id), h("span", { class: "bar" }, meter(one.score, "water")), h("span", { class: "score n" }), h("span", { class: "fate" })));
}

function patch(node, one) {
  const link = node.firstChild;
  set(link, "aria-current", one.event_id === open ? "true" : null);
  const fate = one.label === null || one.label === undefined ? (one.trace_id ? "traced" : "") : outcome(one.label);
  text(link.children[3], one.score === null || one.score === undefined ? "–" : one.score.toFixed(3));
  text(link.lastChild, fate);
  set(link.lastChild, "class", `fate ${fate === "traced" ? "traced" : ""}`);
}

const outcome = (label) => (label === true || label === 1 ? "yes" : label === false || label === 0 ? "no" : number(label));

async function look(id) {
  const ask = ++asking;
  parts.detail.setAttribute("aria-busy", "true");
  const close = h("a", { class: "close", href: "#/predictions" }, "‹ all predictions");
  try {
    const body = await get(`/api/predictions/${encodeURIComponent(id)}`);
    if (ask === asking) parts.detail.replaceChildren(close, ...explained(body, id));
  } catch (refused) {
    if (ask === asking) parts.detail.replaceChildren(close, hint(refused.message, h("p", null, refused.next ?? "")));
  }
  parts.detail.removeAttribute("aria-busy");
  for (const link of parts.tape.querySelectorAll("a")) set(link, "aria-current", link.hash === location.hash ? "true" : null);
  if (innerWidth < 900) parts.detail.scrollIntoView();
}
