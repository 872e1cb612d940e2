// Models: which versions there are and in which state, the evidence for and against each as it grows, and what a person
// may order: promote, roll back, retire, hold.

import { act } from "./dialogs.js";
import { h, hint, keyed, meter, path, s, scaled, set, text } from "./draw.js";
import { state } from "./live.js";
import { ago, count, number, plainly, share } from "./words.js";

export const name = "Models";
const STATES = ["registered", "shadow", "canary", "champion", "retired"];
const RANK = ["live", "champion", "canary", "shadow", "registered", "retired"];
const SHOWN = 24;
const CARD = { examples: "learned examples", loss: "log loss", prior_loss: "prior's log loss", by: "ordered by" };
const parts = {};

export function make(root) {
  parts.path = h("ol", { class: "lifecycle", "aria-label": "The way of a version" });
  parts.hold = h("div", { class: "orders" });
  parts.list = h("ol", { class: "versions" });
  parts.first = hint("No challenger yet", h("p", null, "The trainer registers one after ", h("code", null, "train_after"), " examples, or at ", h("code", null, "thalweg train"), "; it is then compared with what serves, here."));
  parts.first.hidden = true;
  root.append(h("header", { class: "lead" }, h("h1", null, "Models"), parts.hold), parts.path, parts.list, parts.first);
}

export function draw(kinds) {
  if (!["all", "models", "alerts"].some((kind) => kinds.has(kind)) || !state.models) return;
  const versions = [...state.models.versions].sort((a, b) => RANK.indexOf(a.state) - RANK.indexOf(b.state) || b.since - a.since);
  keyed(parts.path, STATES, (one) => one, (one) => h("li", { class: one }, h("b"), h("span", null, one)), (node, one) => {
    text(node.firstChild, count(versions.filter((version) => version.state === one).length));
  });
  hold();
  if (!versions.length) return parts.list.replaceChildren(h("li", { class: "none" }, hint("No version yet", h("p", null, "The learner publishes its first as soon as it is up; thalweg status says whether it is."))));
  parts.list.querySelector(".none")?.remove();
  keyed(parts.list, versions.slice(0, SHOWN), (one) => one.name, version, patch);
  parts.first.hidden = versions.some((one) => one.state !== "live");
}

function hold() {
  const on = Boolean(state.alerts?.hold);
  const words = on ? "Let training for alerts go on" : "Hold training for alerts";
  if (parts.hold.firstChild?.textContent === words) return;
  parts.hold.replaceChildren(h("button", { type: "button", onclick: () => act({ title: words, words: on ? "Alerts may have a version trained again." : "While held, nothing is trained for an alert. Rollout goes on: it moves versions by its own evidence.", button: on ? "Go on" : "Hold", url: "/api/hold", body: ({ reason }) => ({ on: !on, reason }) }) }, words));
}

const ORDERS = [
  ["promote", "Promote", "It serves all keys at once, whatever the evidence says; the champion goes back to being a shadow.", false, ["registered", "shadow", "canary"]],
  ["rollback", "Roll back", "It is retired, and the champion before it serves again.", true, ["champion"]],
  ["retire", "Retire", "It is scored no more, and never served again.", true, ["registered", "shadow", "canary"]],
];

function version(one) {
  return h("li", { class: "panel version" }, h("header", null, h("h2", null, one.name), h("span", { class: "state" }), h("span", { class: "soft since" })),
    h("p", { class: "reason" }), h("dl", { class: "facts" }), h("div", { class: "evidence" }), h("div", { class: "buttons" }));
}

function patch(node, one) {
  const [head, reason, facts, evidence, buttons] = node.children;
  set(node, "data-state", one.state);
  text(head.children[1], one.state);
  text(head.children[2], `since ${ago(one.since)}, by ${one.by}`);
  text(reason, one.reason ?? "");
  const card = Object.entries(one.card ?? {}).filter(([field, value]) => field in CARD && ["number", "string"].includes(typeof value)).map(([field, value]) => [CARD[field], value]);
  const shared = one.share ? [["share of the keys", one.share]] : [];
  const weighted = !["canary", "champion"].includes(one.state) || one.weight === null || one.weight === undefined ? [] : [["weight in the mix", one.weight], ...shared];
  keyed(facts, [...weighted, ...card], ([field]) => field, ([field]) => h("div", null, h("dt", null, plainly(field)), h("dd")), (item, [field, value]) => {
    text(item.lastChild, field === "weight in the mix" || field.startsWith("share") ? share(value) : typeof value === "number" ? number(value, 4) : value);
  });
  proof(evidence, one);
  if (node.stood === one.state) return;
  node.stood = one.state;
  const possible = one.name.startsWith("online") ? [] : ORDERS.filter(([, , , , states]) => states.includes(one.state));
  buttons.replaceChildren(...possible.map(([order, words, what, danger]) => h("button", { type: "button", "aria-label": `${words} ${one.name}`, onclick: () => act({ title: `${words} ${one.name}`, words: what, button: words, danger, url: `/api/models/${encodeURIComponent(one.name)}/${order}` }) }, words)));
}

// Evidence as powers of ten for and against, over the examples that it rests on. Enough is where the dashed line is.
function proof(place, one) {
  const points = one.evidence ?? [];
  const print = `${points.length} ${points.at(-1)?.join()}`;
  if (place.print === print) return;
  place.print = print;
  if (points.length < 2) return place.replaceChildren(h("p", { class: "soft" }, one.state === "live" ? "It is what others are compared with." : one.state === "retired" ? "" : "Evidence gathers as labels of what it scored come in."));
  const enough = one.enough ?? state.models.enough ?? null;
  const top = Math.max(...points.flatMap(([, better, worse]) => [better ?? 0, worse ?? 0]), enough ?? 0, 0.5);
  const x = scaled(points[0][0], points.at(-1)[0], 34, 470);
  const y = scaled(0, top, 96, 8);
  const lines = [["for", 1], ["against", 2]].map(([kind, i]) => s("path", { class: `line ${kind}`, d: path(points.filter((point) => point[i] !== null).map((point) => [x(point[0]), y(Math.max(point[i], 0))])) }));
  const last = points.at(-1);
  const words = `After ${count(last[0])} examples: odds of ${odds(last[1])} to 1 that it is better, ${odds(last[2])} to 1 that it is worse`;
  place.replaceChildren(
    s("svg", { viewBox: "0 0 480 118", role: "img", "aria-label": words }, [0, top].map((at) => s("text", { x: 28, y: y(at) + 4, "text-anchor": "end" }, number(at, 2))), s("path", { class: "grid", d: `M34 ${y(0)}H470M34 ${y(top)}H470` }), enough ? s("path", { class: "enough", d: `M34 ${y(enough)}H470` }) : null, lines,
      s("text", { x: 34, y: 113 }, count(points[0][0])), s("text", { x: 470, y: 113, "text-anchor": "end" }, `${count(last[0])} examples`)),
    h("p", { class: "soft" }, h("span", { class: "for" }, h("i"), "better"), h("span", { class: "against" }, h("i"), "worse"), ` log₁₀ of the odds. ${words}.`));
}

const odds = (power) => (power === null || power === undefined ? "–" : power > 6 ? `10^${number(power, 2)}` : number(10 ** Math.max(power, 0), 2));

export const badge = (found) => {
  const trying = (found.models?.versions ?? []).filter((one) => one.state === "canary").length;
  return trying ? [`${trying} canary`, ""] : ["", ""];
};
