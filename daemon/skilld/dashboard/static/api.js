// Calls to the daemon, through the dashboard that serves these pages, and streams that go on where they were.

import { pauseMs, sseDecoder } from "./text.js";

const KEPT = "skilld-token";

// The token of the address; it is kept for this origin, which is this dashboard alone, and taken out of the address.
export function takeToken() {
  const address = new URL(window.location.href);
  const given = address.searchParams.get("token");
  if (given !== null) {
    window.localStorage.setItem(KEPT, given);
    address.searchParams.delete("token");
    window.history.replaceState(null, "", address.pathname + address.hash);
  }
  return window.localStorage.getItem(KEPT) !== null;
}

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

function headers(more) {
  return { "X-Skilld-Token": window.localStorage.getItem(KEPT) ?? "", ...more };
}

async function failure(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // what answered was not the daemon: its status says enough
  }
  return new ApiError(answer.status, error.code ?? "http", error.message ?? `the answer was ${answer.status}`);
}

async function fetched(path, options) {
  try {
    return await fetch(`/api${path}`, { credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "dashboard_gone", "the dashboard does not answer: has 'skillctl dashboard' ended?");
  }
}

export async function get(path, signal) {
  const answer = await fetched(path, { headers: headers({}), signal });
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

// Change something. Of one click only one thing comes, also where the browser sends it again.
export async function post(path, body) {
  const more = { "Content-Type": "application/json", "Idempotency-Key": window.crypto.randomUUID() };
  const answer = await fetched(path, { method: "POST", headers: headers(more), body: JSON.stringify(body ?? {}) });
  if (!answer.ok) throw await failure(answer);
  return answer.status === 204 ? {} : answer.json();
}

function wait(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

function shown(signal) {
  return new Promise((resolve) => {
    if (!document.hidden) resolve();
    const look = () => { if (!document.hidden) resolve(); };
    document.addEventListener("visibilitychange", look, { signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}

// Follow events until `signal` ends it, over restarts of the daemon. A page that nobody sees gives its connection up,
// since a browser has six of them for all pages, and goes on from its position when it is seen again.
// `pathOf` gives the path for a position, null at first.
export async function follow(pathOf, { signal, onEvent, onState }) {
  let position = null;
  let failures = 0;
  while (!signal.aborted) {
    await shown(signal);
    if (signal.aborted) return;
    const visit = new AbortController();
    const leave = () => visit.abort();
    const hidden = () => { if (document.hidden) leave(); };
    signal.addEventListener("abort", leave, { once: true });
    document.addEventListener("visibilitychange", hidden);
    try {
      const more = position === null ? {} : { "Last-Event-ID": position };
      const answer = await fetched(pathOf(position), { headers: headers(more), signal: visit.signal });
      if (!answer.ok) throw await failure(answer);
      onState("live");
      failures = 0;
      const decode = sseDecoder();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        for (const event of decode(piece.value)) {
          if (event.event === "error") throw await brokenOff(event.data);
          position = event.id || position;
          onEvent(JSON.parse(event.data));
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [401, 403, 404, 500].includes(error.status)) {
        onState("ended", error.message);
        return;
      }
      if (!visit.signal.aborted) onState("waiting", error.message, error.code);
    } finally {
      signal.removeEventListener("abort", leave);
      document.removeEventListener("visibilitychange", hidden);
    }
    if (!visit.signal.aborted) await wait(pauseMs(failures), signal);
    failures += 1;
  }
}

function brokenOff(data) {
  const error = JSON.parse(data).error ?? {};
  return new ApiError(500, error.code, error.message);
}
