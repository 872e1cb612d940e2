// What the console tells by itself. `state` holds the newest body of each kind; listeners hear of it at most once a
// second, and of nothing while the page is hidden.

import { Refused, refresh, session } from "./api.js";

const KINDS = ["flow", "quality", "tape", "models", "alerts", "drift", "dead"];
const HIDDEN_MS = 20_000;
const REDRAW_MS = 1000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const TRAIL = 120;

export const state = { link: "connecting", since: Date.now(), trail: { in: [], out: [], lag: [], p99: [] } };
const listeners = new Set();
const folds = new Map();
const changed = new Set();
let source = null;
let timer = 0;
let retry = 0;
let tries = 0;
let drawn = 0;

export const onChange = (listener) => listeners.add(listener);
// A kind whose bodies add up rather than replace each other.
export const fold = (kind, how) => folds.set(kind, how);

function told(kind, body) {
  state[kind] = folds.has(kind) ? folds.get(kind)(state[kind], body) : body;
  if (kind === "flow") remember(body);
  changed.add(kind);
  redraw();
}

function redraw() {
  if (timer || document.hidden) return;
  timer = setTimeout(() => requestAnimationFrame(draw), Math.max(0, drawn + REDRAW_MS - performance.now()));
}

function draw() {
  timer = 0;
  drawn = performance.now();
  const kinds = new Set(changed);
  changed.clear();
  for (const listener of listeners) listener(kinds);
}

function remember(flow) {
  const one = vitals(flow);
  for (const [name, values] of Object.entries(state.trail)) {
    values.push(one[name] ?? 0);
    if (values.length > TRAIL) values.shift();
  }
}

// The few figures that say how the whole is.
export function vitals(flow) {
  const named = (name) => flow.topics.find((topic) => topic.name === name)?.rate;
  const worst = flow.services.reduce((found, one) => ((one.lag_s ?? 0) > (found?.lag_s ?? -1) ? one : found), null);
  const slow = flow.services.reduce((found, one) => ((one.latency_ms?.p99 ?? -1) > (found?.latency_ms?.p99 ?? -1) ? one : found), null);
  return { in: named("events"), out: named("predictions"), lag: worst?.lag_s, worst: worst?.name, p99: slow?.latency_ms?.p99, slow: slow?.name };
}

function link(name) {
  if (state.link === name) return;
  Object.assign(state, { link: name, since: Date.now() });
  changed.add("link");
  drawn = 0;
  redraw();
}

export function connect() {
  close();
  source = new EventSource("/api/live");
  for (const kind of KINDS) source.addEventListener(kind, (event) => told(kind, JSON.parse(event.data)));
  source.onopen = () => {
    tries = 0;
    link("live");
  };
  source.onerror = lost;
}

// The browser's own tries end at the first answer that is no stream; these do not.
function lost() {
  close();
  link("reconnecting");
  const wait = RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)];
  retry = setTimeout(again, wait);
}

async function again() {
  try {
    await refresh();
    if (session.reading) connect();
    else link("locked");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    lost();
  }
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

let hidden = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (!session.reading) return;
  if (document.hidden) {
    hidden = setTimeout(() => { close(); link("paused"); }, HIDDEN_MS);
  } else {
    if (!source) connect();
    redraw();
  }
});
