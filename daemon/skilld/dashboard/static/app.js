// The frame of all pages: which one is shown, what is live, and what a click does.

import { ApiError, follow, get, post, takeToken } from "./api.js";
import { h, link, morph } from "./dom.js";
import { agent, agents, conversation, git } from "./pages_agents.js";
import { approvals, config, costs, overview, reference } from "./pages_house.js";
import { board, run, workers, workflows } from "./pages_work.js";
import { parameters, short, wordsOf } from "./text.js";

const PAGES = [
  ["overview", "Overview", overview], ["agents", "Agents", agents], ["board", "Board", board],
  ["workers", "Workers", workers], ["workflows", "Workflows", workflows], ["approvals", "Approvals", approvals],
  ["costs", "Costs", costs], ["config", "Config", config], ["git", "Git", git], ["reference", "Reference", reference],
];
const BELOW = { agents: agent, workflows: run, session: conversation, git };
const RECENT_EVENTS = 200;
const RELOAD_MS = 800;
const TICK_MS = 10000;

const main = document.getElementById("main");
const live = document.getElementById("live");
const notes = document.getElementById("notes");

// What pages are given. `get` and `post` fail with ApiError; `changed` has the page drawn again.
const context = {
  about: {}, events: [], stopped: null, writable: false, words: [], signal: null, get, post, follow,
  now: () => Date.now(), changed: () => draw(), reload: () => reloadSoon(),
};

let shownPage = null;
let leave = new AbortController();
let reloadTimer = null;
let frame = null;

function pageOf(words) {
  const found = PAGES.find(([name]) => name === (words[0] ?? "overview"));
  if (words.length > 1 && BELOW[words[0]]) return BELOW[words[0]];
  return found ? found[2] : null;
}

function drawNav() {
  const here = context.words[0] === "session" ? "agents" : context.words[0] ?? "overview";
  const waiting = context.waiting ?? 0;
  const links = PAGES.map(([name, title]) => {
    const mark = name === "approvals" && waiting ? h("span", { class: "count" }, waiting) : null;
    const node = link([name], title, mark);
    if (name === here) node.setAttribute("aria-current", "page");
    return h("li", {}, node);
  });
  morph(document.getElementById("nav"), h("nav", { id: "nav", "aria-label": "Pages" }, h("ul", {}, links)));
}

// At most once a frame: events may come by the hundred.
function draw() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    drawNav();
    if (!shownPage) return;
    const fresh = h("main", { id: "main", tabindex: "-1" });
    fresh.append(h("h1", {}, shownPage.title), ...[shownPage.view()].flat().filter(Boolean));
    morph(main, fresh);
  });
}

async function reload() {
  const page = shownPage;
  try {
    await page.load();
    page.failed = null;
  } catch (error) {
    if (error.name === "AbortError" || page !== shownPage) return;
    if (!(error instanceof ApiError)) throw error;
    page.failed = error.message;
  }
  if (page === shownPage) draw();
}

function reloadSoon() {
  reloadTimer ??= setTimeout(() => {
    reloadTimer = null;
    if (shownPage && !document.hidden) reload();
  }, RELOAD_MS);
}

async function go() {
  leave.abort();
  leave = new AbortController();
  context.words = wordsOf(window.location.hash);
  context.signal = leave.signal;
  const make = pageOf(context.words);
  if (!make) {
    shownPage = null;
    main.replaceChildren(h("h1", {}, "No such page"), link(["overview"], "To the overview"));
    drawNav();
    return;
  }
  const page = make(context);
  const inner = page.view;
  let ready = false;
  page.view = () => [
    context.stopped && context.stopped !== page.failed ? h("p", { class: "notice bad" }, `No longer live: ${context.stopped}`) : null,
    page.failed ? h("p", { class: "notice bad" }, page.failed) : null,
    ready ? inner() : page.failed ? null : h("p", { class: "quiet" }, "Loading"),
  ].flat();
  const load = page.load;
  page.load = async () => { await load(); ready = true; };
  shownPage = page;
  document.title = `${page.title} · skilld`;
  main.replaceChildren();
  draw();
  window.scrollTo(0, 0);
  requestAnimationFrame(() => document.querySelector("#nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }));
  await reload();
  if (page === shownPage && page.start) page.start();
}

// -- what is live -----------------------------------------------------------------------------------------------------

async function countApprovals() {
  const found = await get("/v1/approvals?status=pending&limit=100");
  context.waiting = found.items.length;
  drawNav();
}

function onEvent(event) {
  context.events.push(event);
  if (context.events.length > RECENT_EVENTS) context.events.shift();
  if (!shownPage) return;
  if (shownPage.onEvent) shownPage.onEvent(event);
  else if (!shownPage.topics || shownPage.topics.includes(String(event.type).split(".")[0])) reloadSoon();
  if (shownPage.showsEvents) draw();
}

function onState(state, why, code) {
  live.dataset.state = state;
  const waitsFor = code === "dashboard_gone" ? "the dashboard has ended" : "waiting for the daemon";
  live.textContent = { live: "live", waiting: waitsFor, ended: "not live" }[state];
  live.title = why ?? "";
  context.stopped = state === "ended" ? why : null;
  if (state === "live") reloadSoon();
  else draw();
}

// -- what a click does -----------------------------------------------------------------------------------------------

const path = (...words) => words.map(encodeURIComponent).join("/");
const WORK = "/v1/workshop";

const ACTIONS = {
  "turn-cancel": ({ id }) => [`Cancel the turn ${short(id, 12)}?`, `/v1/turns/${path(id)}/cancel`],
  "session-cancel": ({ id }) => ["Cancel what runs and what waits there?", `/v1/sessions/${path(id)}/cancel`, { queued: true }],
  "session-pause": ({ id }) => [null, `/v1/sessions/${path(id)}/pause`],
  "session-resume": ({ id }) => [null, `/v1/sessions/${path(id)}/resume`],
  "item-retry": ({ id }) => [null, `${WORK}/board/items/${path(id)}/retry`],
  "item-cancel": ({ id }) => [`Cancel the item ${id}?`, `${WORK}/board/items/${path(id)}/cancel`, { reason: "by hand, from the dashboard" }],
  "run-cancel": ({ id }) => [`End the run ${short(id, 12)}, and what its agents do for it?`, `${WORK}/runs/${path(id)}/cancel`],
  "schedule-run": ({ name }) => [null, `${WORK}/schedules/${path(name)}/run`],
  // Asked for once more, with what it is: a card that comes or goes may move another under the pointer.
  "approve": ({ id, shown }) => [`Let this run?\n\n${shown}`, `/v1/approvals/${path(id)}`, { decision: "allow" }],
};

// A form's fields as [path, body, what to do then]; null for one that is not complete.
const FORMS = {
  "cast": (fields) => [`${WORK}/cast`, { agent: fields.get("agent"), text: fields.get("text") }],
  "deny": (fields) => [`/v1/approvals/${path(fields.get("id"))}`, { decision: "deny", ...(fields.get("reason") ? { reason: fields.get("reason") } : {}) }],
  "item-add": (fields) => [`${WORK}/board/items`, itemOf(fields)],
  "workflow-run": (fields) => [`${WORK}/workflows/${path(fields.get("workflow"))}/run`, { parameters: parameters(fields) }],
};

function itemOf(fields) {
  const item = { title: fields.get("title"), spec: fields.get("spec"), type: fields.get("type") || "custom", priority: Number(fields.get("priority")) };
  if (fields.get("id")) item.id = fields.get("id");
  const before = String(fields.get("depends_on") ?? "").split(/[\s,]+/).filter(Boolean);
  return before.length ? { ...item, depends_on: before } : item;
}

function note(text, bad) {
  const node = h("p", { class: bad ? "note bad" : "note" }, text);
  notes.append(node);
  setTimeout(() => node.remove(), bad ? 12000 : 4000);
}

async function perform(place, label, target, body) {
  place.disabled = true;
  try {
    const answer = await post(target, body);
    note(`${label}: done`);
    return answer;
  } catch (error) {
    note(`${label}: ${error.message}`, true);
    return null;
  } finally {
    place.disabled = false;
    reloadSoon();
    countApprovals().catch(() => {});
  }
}

document.addEventListener("click", (event) => {
  const place = event.target.closest("button[data-do]");
  if (!place) return;
  const name = place.dataset.do;
  if (shownPage?.actions?.[name]) {
    shownPage.actions[name](place.dataset);
    draw();
    return;
  }
  const [question, target, body] = ACTIONS[name](place.dataset);
  if (question === null || window.confirm(question)) perform(place, place.textContent, target, body);
});

document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const [target, body] = FORMS[form.dataset.form](new FormData(form));
  const send = form.querySelector("button[type=submit]");
  if (send.disabled) return;  // under way: Ctrl+Enter asks no button
  const answer = await perform(send, send.textContent, target, body);
  if (answer === null) return;
  form.reset();
  if (form.dataset.form === "workflow-run" && answer.id) window.location.hash = `#/workflows/${path(answer.id)}`;
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form) event.target.form.requestSubmit();
});

async function begin() {
  if (!takeToken()) {
    main.replaceChildren(h("h1", {}, "Not let in"), h("p", {}, "Open the address that 'skillctl dashboard' has printed."));
    return;
  }
  try {
    context.about = await get("/about");
  } catch (error) {
    main.replaceChildren(h("h1", {}, "Not let in"), h("p", { class: "notice bad" }, error.message));
    return;
  }
  context.writable = !context.about.read_only;
  if (context.about.read_only) document.querySelector(".brand").append(h("span", { class: "mode" }, "read only"));
  window.addEventListener("hashchange", go);
  setInterval(() => { if (!document.hidden) draw(); }, TICK_MS);
  setInterval(() => { if (!document.hidden) countApprovals().catch(() => {}); }, TICK_MS);
  countApprovals().catch(() => {});
  follow((position) => `${WORK}/events${position === null ? "?last=100" : ""}`, { signal: new AbortController().signal, onEvent, onState });
  await go();
}

begin();
