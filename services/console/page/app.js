// The page: its views, which of them is shown, the vital figures above them, and who may come in.

import * as alerts from "./alerts.js";
import { Refused, enter, get, open, session } from "./api.js";
import * as dead from "./dead.js";
import { help, say } from "./dialogs.js";
import { h, hint, keyed, s, set, spark, text } from "./draw.js";
import * as drift from "./drift.js";
import * as flow from "./flow.js";
import { press } from "./keys.js";
import { connect, onChange, state, vitals } from "./live.js";
import * as models from "./models.js";
import * as predictions from "./predictions.js";
import * as quality from "./quality.js";
import * as settings from "./settings.js";
import * as theme from "./theme.js";
import { count, lasting, loss, ms, rate } from "./words.js";

const VIEWS = { flow, quality, predictions, models, drift, alerts, dead, settings };
const main = document.getElementById("main");
let shown = null;

const NAV = Object.entries(VIEWS).map(([id, view], i) => ({ id, view, key: i + 1 }));

function nav() {
  keyed(document.getElementById("nav"), NAV, (one) => one.id, ({ id, view, key }) =>
    h("a", { href: `#/${id}`, "data-view": id }, h("kbd", { "aria-hidden": "true" }, String(key)), h("span", null, view.name), h("b", { class: "badge" })));
  for (const link of document.querySelectorAll("#nav a")) {
    const { view: id } = link.dataset;
    set(link, "aria-current", id === shown?.id ? "page" : null);
    const [badge, kind] = VIEWS[id].badge?.(state) ?? ["", ""];
    text(link.lastChild, badge);
    set(link.lastChild, "class", `badge ${kind}`);
  }
}

function route() {
  const [, id = "flow", ...rest] = location.hash.split("/");
  const view = VIEWS[id] ?? flow;
  const at = VIEWS[id] ? id : "flow";
  const argument = rest.map(decodeURIComponent);
  if (!session.reading) return;
  if (shown?.id !== at) {
    shown?.view.leave?.();
    main.replaceChildren();
    main.kept = undefined;
    main.className = `view ${at}`;
    shown = { id: at, view };
    view.make(main);
    document.title = `${view.name} · Thalweg`;
    scrollTo(0, 0);
  }
  view.show?.(argument);
  view.draw(new Set(["all"]));
  nav();
}

const VITALS = [
  ["in", "events in", (found) => rate(found.in), "flow"],
  ["out", "predictions", (found) => rate(found.out), "predictions"],
  ["lag", "furthest behind", (found) => (found.lag >= 1 ? `${lasting(found.lag)}` : "nobody"), "flow"],
  ["p99", "slowest p99", (found) => ms(found.p99), "flow"],
  ["served", "served log loss", () => loss(quality.newest()?.served), "quality"],
  ["alerts", "alerts open", () => count(state.alerts?.open.length), "alerts"],
];
const NOTES = { lag: (found) => (found.lag >= 1 ? found.worst : ""), p99: (found) => found.slow ?? "", served: () => quality.against() };

function drawVitals() {
  if (!state.flow) return;
  const found = vitals(state.flow);
  keyed(document.getElementById("vitals"), VITALS, ([id]) => id, ([id, name, , view]) =>
    h("a", { href: `#/${view}`, class: "vital", "data-vital": id }, h("span", { class: "name" }, name), h("b"), h("small"), s("svg", { viewBox: "0 0 96 22", preserveAspectRatio: "none", "aria-hidden": "true" })),
  (node, [id, , say]) => {
    text(node.children[1], say(found));
    text(node.children[2], NOTES[id]?.(found) ?? "");
    if (state.trail[id]) spark(node.lastChild, state.trail[id]);
  });
  const worse = { lag: found.lag >= 60 ? "critical" : found.lag >= 10 ? "warning" : "", alerts: alerts.gravest(state) };
  for (const [id, kind] of Object.entries(worse)) set(document.querySelector(`[data-vital="${id}"]`), "data-tone", kind || null);
}

const LINK = {
  live: "live", connecting: "connecting …", reconnecting: "reconnecting …", paused: "paused while hidden", locked: "locked",
};

function drawLink() {
  const place = document.getElementById("link");
  set(place, "data-link", state.link);
  const down = state.link === "live" ? (state.flow?.services ?? []).filter((one) => one.status !== "ready") : [];
  const words = down.length ? `live, ${down.length} not ready` : LINK[state.link];
  text(place, words);
  set(place, "title", state.link === "reconnecting" ? "The console does not answer. What you see is what it said last; this page tries again by itself." : words);
  document.body.classList.toggle("stale", state.link === "reconnecting");
}

function gate(error) {
  const input = h("input", { type: "password", name: "token", "aria-label": "Token", autocomplete: "off", required: true });
  const wrong = h("p", { class: "wrong", role: "alert" }, error ? `${error.message}. ${error.next}` : "");
  const form = h("form", { class: "token", onsubmit: async (event) => {
    event.preventDefault();
    try {
      await enter(input.value.trim());
      begin();
    } catch (refused) {
      if (!(refused instanceof Refused)) throw refused;
      text(wrong, `${refused.message}. ${refused.next}`);
      input.select();
    }
  } }, input, h("button", { type: "submit", class: "primary" }, "Open"));
  shown = null;
  main.className = "view gate";
  main.replaceChildren(hint("This console wants a token", h("p", null, "The launcher printed an address that ends with ", h("code", null, "#token=…"), " when it started: open that one. It is also in ", h("code", null, "console/tokens.json"), " in the run's data folder, readable by its owner alone."), form, wrong));
  text(document.getElementById("link"), "locked");
  input.focus();
}

async function begin() {
  main.replaceChildren(h("p", { class: "soft" }, "Asking the console for its state …"));
  connect();
  route();
  drawLink();
  get("/api/settings").then((found) => {
    state.settings = found;
    text(document.getElementById("stream"), found.stream ?? "");
    shown?.view.draw(new Set(["settings"]));
  }, () => undefined);
}

onChange((kinds) => {
  if (state.link === "locked" && !session.reading) return gate(null);
  drawLink();
  if (kinds.has("flow") || kinds.has("alerts") || kinds.has("quality")) drawVitals();
  if (kinds.has("alerts") || kinds.has("dead")) nav();
  shown?.view.draw(kinds);
  if (kinds.has("flow") && !performance.getEntriesByName("drawn").length) performance.mark("drawn");
});

const themeButton = document.getElementById("theme");
function drawTheme() {
  text(themeButton, theme.shown());
  set(themeButton, "aria-label", `Theme: ${theme.chosen()}. Change it`);
  shown?.view.draw(new Set(["theme"]));
}
themeButton.addEventListener("click", theme.next);
theme.onChange(drawTheme);
document.getElementById("help").addEventListener("click", help);
const search = document.getElementById("search");
search.addEventListener("submit", (event) => {
  event.preventDefault();
  const id = search.elements.id.value.trim();
  if (id) location.hash = `#/predictions/${encodeURIComponent(id)}`;
  search.elements.id.blur();
});
document.addEventListener("keydown", (event) =>
  press(event, { views: NAV.map((one) => one.id), view: () => shown?.view, search: search.elements.id, theme: theme.next, help }));
addEventListener("hashchange", () => (location.hash.startsWith("#token=") ? start() : route()));

async function start() {
  try {
    await open();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 0 || error.status >= 500) {
      say(`${error.message}. ${error.next}`);
      setTimeout(start, 2000);
      return;
    }
    return gate(error);
  }
  if (session.reading) begin();
  else gate(null);
}

drawTheme();
nav();
start();
