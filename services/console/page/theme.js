// Dark or light: what the system says until the person says otherwise, which is remembered.

const CHOICES = ["auto", "light", "dark"];
const SHOWN = { auto: "◐ auto", light: "○ light", dark: "● dark" };
const listeners = new Set();
let resolved = new Map();

export function chosen() {
  try {
    return CHOICES.includes(localStorage.theme) ? localStorage.theme : "auto";
  } catch {
    return "auto"; // storage is barred: the system decides
  }
}

function apply(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  resolved = new Map();
  for (const listener of listeners) listener();
}

export function choose(choice) {
  try {
    localStorage.theme = choice;
  } catch {
    // it holds until the page is left
  }
  apply(choice);
}

export const next = () => choose(CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length]);
export const shown = () => SHOWN[chosen()];
export const onChange = (listener) => listeners.add(listener);

// A colour of the style sheet as a canvas understands it.
export function colour(name) {
  if (!resolved.has(name)) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    resolved.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return resolved.get(name);
}

apply(chosen());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(chosen()));
