// Asking the console. An answer that is no success is thrown as what is wrong and what to do next.

export class Refused extends Error {
  constructor(status, error, what) {
    super(error);
    this.status = status;
    this.next = what;
  }
}

export const session = { reading: false, acting: false, csrf: "" };

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", ...options });
  } catch {
    throw new Refused(0, "the console does not answer", "It may be restarting: this page tries again by itself. Look at `thalweg status` if it lasts.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body.error ?? `the console answered ${answer.status}`, body.do ?? "");
  return body;
}

export const get = (url) => ask(url);

export function post(url, body) {
  const headers = { "Content-Type": "application/json", "X-Thalweg-CSRF": session.csrf };
  return ask(url, { method: "POST", headers, body: JSON.stringify(body) });
}

export async function enter(token) {
  Object.assign(session, await post("/api/session", { token }));
  if (session.reading === undefined || !session.csrf) await refresh();
}

export async function refresh() {
  Object.assign(session, await get("/api/session"));
  return session;
}

// The launcher prints an address that ends with the token: it is traded for a cookie, and goes from the address.
export async function open() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return refresh();
  history.replaceState(null, "", `${location.pathname}#/flow`);
  await enter(decodeURIComponent(found[1]));
  return session;
}
