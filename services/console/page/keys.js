// The keyboard: 1–8 the views, / to find an event, j k and Enter along rows, Esc back; a view may add its own.

const rows = () => [...document.querySelectorAll("main [data-row]")].filter((row) => row.offsetParent !== null);

// Move the focus along the rows of the view, from where it is.
function step(by) {
  const all = rows();
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

const writing = (element) => element.matches("input, textarea, select") || element.isContentEditable;

export function press(event, { views, view, search, theme, help }) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (writing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const acts = {
    "/": () => search.focus(),
    "?": help,
    t: theme,
    j: () => step(1),
    k: () => step(-1),
    Escape: () => view()?.back?.(),
    ...view()?.keys,
  };
  if (/^[1-9]$/.test(event.key) && views[event.key - 1]) location.hash = `#/${views[event.key - 1]}`;
  else if (acts[event.key]) acts[event.key]();
  else return;
  event.preventDefault();
}
