// The pure parts of the pages, and every page drawn from values that were made to break out of it. Run by node, with
// the folder of the pages as its argument; prints how many checks have passed.

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(`${process.argv[2]}/`);
const load = (name) => import(new URL(name, folder));

// As much of a page as the modules under test use. What is text can only become text here, as in a browser.
class FakeNode {
  constructor(name) { this.nodeName = name; this.childNodes = []; this.attributes = new Map(); this.dataset = {}; }
  setAttribute(name, value) {
    this.attributes.set(name, value);
    if (name.startsWith("data-")) this.dataset[name.slice(5)] = value;
  }
  append(...nodes) { for (const node of nodes) { assert.ok(node instanceof FakeNode); this.childNodes.push(node.make ? node.make() : node); } }
  get text() { return this.nodeName === "#text" ? this.data : this.childNodes.map((node) => node.text).join(""); }
  all() { return [this, ...this.childNodes.flatMap((node) => node.all())]; }
}
globalThis.Node = FakeNode;
globalThis.document = {
  hidden: true,
  createElement: (tag) => new FakeNode(tag.toUpperCase()),
  createTextNode: (data) => Object.assign(new FakeNode("#text"), { data }),
};

const text = await load("text.js");
const { fold, transcript } = await load("transcript.js");
const { h } = await load("dom.js");
const agents = await load("pages_agents.js");
const house = await load("pages_house.js");
const work = await load("pages_work.js");

let passed = 0;
const check = async (name, body) => {
  try { await body(); } catch (error) { error.message = `${name}: ${error.message}`; throw error; }
  passed += 1;
};

const NOW = Date.parse("2026-01-15T12:00:00Z");

// -- values -----------------------------------------------------------------------------------------------------------

await check("money is never a guess", () => {
  assert.equal(text.money(0), "$0.00");
  assert.equal(text.money(1.239), "$1.24");
  assert.equal(text.money(0.0004), "$0.0004");
  assert.equal(text.money(null, 2.5), "$2.50 or more");
  assert.equal(text.money(null), "–");
  assert.equal(text.money(undefined), "–");
});

await check("numbers, times and sizes are for people", () => {
  assert.equal(text.count(1234567), "1,234,567");
  assert.equal(text.count(null), "–");
  assert.deepEqual([0.25, 5, 59, 61, 3700, 90000].map(text.seconds), ["250 ms", "5.0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
  assert.equal(text.size(2048), "2.0 KiB");
  assert.equal(text.away("2026-01-15T11:58:00Z", NOW), "2 min ago");
  assert.equal(text.away("2026-01-15T14:00:00Z", NOW), "in 2 h");
  assert.equal(text.away("no time", NOW), "–");
  assert.equal(text.elapsed("2026-01-15T11:59:30Z", null, NOW), "30 s");
  assert.equal(text.elapsed("2026-01-15T11:59:30Z", "2026-01-15T11:59:31Z", NOW), "1.0 s");
  assert.equal(text.elapsed(null, null, NOW), "–");
});

await check("long texts are cut between characters", () => {
  assert.equal(text.short("a\n b", 9), "a b");
  assert.equal(text.short("😀😀😀", 2), "😀…");
  assert.equal(text.short(null, 3), "");
});

await check("what is to be decided about hides nothing", () => {
  assert.equal(text.visible("rm a\u202eb\u200b\x1b[1m\r\n\tc"), "rm a\\u{202e}b\\u{200b}\\u{1b}[1m\\u{d}\n\tc");
  assert.equal(text.visible({ command: "\u2066x" }), "{\n  \"command\": \"\\u{2066}x\"\n}");
  assert.equal(text.visible("ü 😀"), "ü 😀");
  for (const unseen of ["\u3164", "\u115f", "\u2800", "\u00a0", "\u034f", "\ufe0f", "\u{e0041}", "\u{e0100}", "\ue000", "\ud800", "\u180e", "\ufff9"]) {
    assert.equal(text.visible(`a${unseen}b`), `a\\u{${unseen.codePointAt(0).toString(16)}}b`);
  }
  assert.equal(text.visible(`ls${" ".repeat(60)}; rm`), "ls[60 spaces]; rm");
  assert.deepEqual(text.suspects("ls\n-l"), []);
  assert.deepEqual(text.suspects("r\u043c\u202e"), ["written as escapes: U+202E", "not ASCII: \u043c is U+043C"]);
});

await check("an address is taken apart, however odd it is", () => {
  assert.deepEqual(text.wordsOf("#/agents/a%20b"), ["agents", "a b"]);
  assert.deepEqual(text.wordsOf(""), []);
  assert.deepEqual(text.wordsOf("#/%zz"), []);
});

await check("items are in the columns of their states", () => {
  const columns = text.inColumns([{ status: "ready" }, { status: "blocked" }, { status: "new" }, { status: "done" }]);
  assert.deepEqual([...columns].map(([name, items]) => [name, items.length]), [["ready", 1], ["claimed", 0], ["in_progress", 0], ["done", 1], ["failed", 0], ["other", 2]]);
});

await check("what is taken first comes first, and of what was done the latest", () => {
  const ids = (items) => text.inColumns(items);
  const ready = ids([{ id: "c", status: "ready", priority: 2, created: "1" }, { id: "b", status: "ready", priority: 1, created: "2" }, { id: "a", status: "ready", priority: 1, created: "1" }]);
  assert.deepEqual(ready.get("ready").map(({ id }) => id), ["a", "b", "c"]);
  const done = ids([{ id: "a", status: "done", ended: "1" }, { id: "b", status: "done", ended: "2" }]);
  assert.deepEqual(done.get("done").map(({ id }) => id), ["b", "a"]);
});

await check("a cap is as full as its fullest unit", () => {
  const cap = { limits: { usd: 10, tokens: 100, seconds: null }, used: { usd: 1, tokens: 40 }, held: { usd: 1, tokens: 50 } };
  assert.deepEqual(text.fullest(cap), { unit: "tokens", used: 90, limit: 100, share: 0.9 });
  assert.equal(text.fullest({ limits: { usd: null }, used: { usd: 1 } }), null);
  assert.equal(text.fullest({ limits: { usd: 1 }, used: null }), null);
  assert.equal(text.fullest({ limits: { usd: 0 }, used: { usd: 0 } }).share, 1);
});

await check("lines of a patch are told apart", () => {
  assert.deepEqual(text.patchLines("--- a\n+++ b\n@@ 1\n+x\n-y\n z").map(({ kind }) => kind), ["head", "head", "head", "add", "del", "same"]);
});

await check("server-sent events are read in whatever pieces they come", () => {
  const whole = "id: 7\nevent: work.added\ndata: {\"a\":1}\n\n: still here\n\nid: 8.3\r\ndata: x\r\ndata: y\r\n\r\ndata: z\n\n";
  const wanted = [{ id: "7", event: "work.added", data: "{\"a\":1}" }, { id: "8.3", event: "message", data: "x\ny" }, { id: "8.3", event: "message", data: "z" }];
  for (let size = 1; size <= whole.length; size += 1) {
    const decode = text.sseDecoder();
    const found = [];
    for (let at = 0; at < whole.length; at += size) found.push(...decode(whole.slice(at, at + size)));
    assert.deepEqual(found, wanted);
  }
});

await check("pauses grow and are bounded", () => {
  assert.deepEqual([0, 1, 2, 10, 1000].map(text.pauseMs), [500, 1000, 2000, 10000, 10000]);
});

// -- transcripts ------------------------------------------------------------------------------------------------------

const at = (seq, type, data, turn = "trn_1") => ({ seq, type, data, turn, time: "2026-01-15T12:00:00Z" });

await check("what a model writes is the same live and read again", () => {
  const pieces = [["Hel", 3], ["lo 😀", 7], ["!", 8]];
  const live = transcript();
  fold(live, at(1, "turn.queued", { text: "hi", files: [] }));
  for (const [piece, offset] of pieces) fold(live, at(2, "model.delta", { block: 0, kind: "text", text: piece, offset }));
  const again = transcript();
  fold(again, at(1, "turn.queued", { text: "hi", files: [] }));
  fold(again, at(2, "model.delta", { block: 0, kind: "text", text: "Hello 😀!", offset: 8 }));
  assert.equal(live.byTurn.get("trn_1").parts[0].text, "Hello 😀!");
  assert.equal(again.byTurn.get("trn_1").parts[0].text, "Hello 😀!");
  fold(live, at(2, "model.delta", { block: 0, kind: "text", text: "lo 😀!", offset: 8 }));  // after a reconnect, once more
  assert.equal(live.byTurn.get("trn_1").parts[0].text, "Hello 😀!");
  const message = at(3, "model.message", { content: [{ type: "text", text: "Hello 😀!" }] });
  fold(live, message);
  assert.deepEqual(live.byTurn.get("trn_1").parts, [{ kind: "text", text: "Hello 😀!" }]);
});

await check("a turn has its tools, its approvals, its ending and its cost", () => {
  const state = transcript();
  const events = [
    at(1, "turn.queued", { text: "do", files: [{ name: "a.txt", size: 1 }] }), at(2, "turn.started", {}),
    at(3, "approval.requested", { id: "apr_1", shown: "bash_tool: ls" }), at(4, "approval.resolved", { id: "apr_1", status: "allowed" }),
    at(5, "tool.started", { id: "t1", name: "bash_tool", input: { command: "ls" } }), at(6, "tool.output", { id: "t1", text: "a.txt" }),
    at(7, "tool.finished", { id: "t1", name: "bash_tool", outcome: "ok", content: [{ type: "text", text: "a.txt" }], duration_ms: 9 }),
    at(8, "tool.finished", { id: "t2", name: "never", outcome: "not_run", content: "no" }), at(9, "turn.steered", { text: "quick" }),
    at(10, "agent.notice", { kind: "retrying", text: "again" }),
    at(11, "turn.finished", { text: "done", cost_usd: 0.5, duration_ms: 10, model: "m", usage: null }),
    at(12, "turn.queued", { text: "next", files: [] }, "trn_2"),
    at(12, "tool.started", { id: "t3", name: "bash_tool", input: {} }, "trn_2"),
    at(13, "turn.interrupted", { text: "", cost_usd: null, duration_ms: null, error: { code: "interrupted", message: "x" } }, "trn_2"),
    at(14, "session.reset", {}, null),
  ];
  for (const each of events) fold(state, each);
  const [turn, next, reset] = state.entries;
  assert.deepEqual(turn.parts.map((part) => part.kind), ["approval", "tool", "tool", "user", "note", "text"]);
  assert.deepEqual([turn.status, turn.files, turn.parts[1].result, turn.parts[2].outcome, turn.parts[5].text], ["finished", ["a.txt"], "a.txt", "not_run", "done"]);
  assert.deepEqual([next.status, next.parts[0].outcome, reset.note], ["interrupted", "interrupted", "session.reset"]);
  assert.deepEqual([state.costUsd, state.unpriced], [0.5, true]);
});

await check("a kind of event that is not known yet changes nothing", () => {
  const state = fold(transcript(), at(1, "turn.dreamed", { text: "x" }));
  assert.deepEqual(state.byTurn.get("trn_1").parts, []);
  fold(state, { seq: 2, type: "x.y", turn: null, time: "" });
  assert.equal(state.entries.length, 2);
});

// -- pages ------------------------------------------------------------------------------------------------------------

const EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)> javascript:alert(1)";

// Every text in a value, and every key that is a name, made to break out.
function poisoned(value) {
  if (typeof value === "string") return EVIL;
  if (Array.isArray(value)) return value.map(poisoned);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, poisoned(each)]));
  return value;
}

const T = "2026-01-15T11:00:00Z";
const spent = { cost_usd: 0.5, known_usd: 0.5, tokens: 7, seconds: 1.5, tool_calls: 2 };
const agentOf = (name) => ({
  name, status: "idle", role: "r", backend: null, backends: ["local", { backend: "docker" }], model: null, profile: "p", session: "ses_a", before: ["ses_b"],
  queue_depth: 0, queue: 5, turns: 3, ...spent, max_cost_usd: 2, timeout_s: null, crashes: { recent: 1, why: "boom" }, created: T, updated: T,
  settings: { cwd: "/srv", policy: { preset: "workspace" }, skills: ["a"] }, system_prompt: "s",
});
const itemOf = (id) => ({
  id, title: "t", spec: "s", type: "code", priority: 3, status: "failed", depends_on: ["other"], agent: "a", attempts: 1, max_attempts: 3, due: T, labels: { a: "b" },
  created: T, updated: T, claimed: T, started: T, ended: T, claimed_by: "me", result: "r", error: "e", overdue: true, history: [{ time: T, status: "ready", attempt: 1, note: "n" }],
});
const stage = { status: "done", attempt: 2, round: 2, item: "i", result: "r", error: "e", started: T, ended: T, cost_usd: 0.1 };
const runOf = (id) => ({ id, workflow: "w", arguments: { version: "1" }, stages: { one: stage, two: { ...stage, status: "failed" } }, status: "running", error: "e", created: T, ended: null, cost_usd: 0.2 });
const approvalOf = (id, status) => ({
  id, status, tool: "bash_tool", place: "local", backend: "local", command: "ls", input: { command: "ls" }, cwd: "/srv", files: [{ path: "a", sha256: "0123456789abcdef0" }, { path: "b", note: "gone" }], skill: { name: "s", digest: "fedc" },
  environment: ["HOME"], session: "ses_a", reason: "r", rule: "u", shown: "bash_tool: ls", created: T, expires: T, updated: T, decision: { by_uid: 1, reason: "no" },
});
const many = (make, count) => Array.from({ length: count }, (_, number) => make(`name-${number}`));

function answers(count) {
  return {
    "/v1/workshop/agents": { items: many(agentOf, count) },
    "/v1/workshop/agents/x": agentOf("x"),
    "/v1/workshop/agents/x/git": { branch: "b", sha: "c", upstream: "u", ahead: 1, behind: 2, dirty: true, staged: ["a"], unstaged: ["b"], untracked: ["c"], conflicts: ["d"], commits: [{ sha: "1", subject: "s" }] },
    "/v1/workshop/agents/x/git/diff": { diff: "--- a\n+x\n-y", cut: true },
    "/v1/workshop/cost": { items: many((name) => ({ name, state: "live", ...spent }), count), total: spent },
    "/v1/workshop/board/summary": { total: count, by_status: { new: 0, ready: count }, by_type: {} },
    "/v1/workshop/board/items": { items: many(itemOf, count), next: count ? "more" : null },
    "/v1/workshop/board/workers": { items: many((name) => ({ name, types: ["code"], count: 2, profile: "p", state: "working", agents: [{ agent: "a-1", item: "i", since: T, done: 1, failed: 2, error: "e" }] }), count) },
    "/v1/workshop/schedules": { items: many((name) => ({ name, agent: "a", prompt: "p", cron: "* * * * *", timezone: "UTC", enabled: true, next_due: T, runs: 1, missed: { busy: 2 }, last_run: T, last_error: "e" }), count) },
    "/v1/workshop/runs": { items: many(runOf, count) },
    "/v1/workshop/runs/x": runOf("x"),
    "/v1/workshop/workflows": { items: many((name) => ({ name, description: "d", stages: ["one", "two"], updated: T }), count) },
    "/v1/workshop/workflows/x": { name: "x", description: "d", parameters: { version: { description: "d" }, branch: { default: "main" } }, stage: [{ name: "one" }] },
    "/v1/workshop/config": { context: "c", defaults: { model: "m" }, max_cost_usd: 5 },
    "/v1/workshop/profiles": { items: many((name) => ({ name, settings: { role: "r" }, updated: T }), count) },
    "/v1/workshop/store": { items: many((key) => ({ namespace: "n", key, version: 1, size_bytes: 5, updated: T, expires: null }), count), next: null },
    "/v1/workshop/worktrees": { items: many((agent) => ({ agent, state: "live", path: "/srv" }), count) },
    "/v1/backends": { items: many((name) => ({ name, available: false, default: true, problem: "p", capabilities: { sandbox: "none", network: "host" } }), count) },
    "/v1/status": { version: "1", mode: "m", model: "x", skills: 1, state_dir: "/var", disk_use: { total_bytes: 1 }, disk: { free_bytes: 1 }, turns_running: 0, turns_queued: 0, draining: true },
    "/v1/usage": { items: many((key) => ({ key, ...spent, held_usd: 0 }), count), total: { ...spent, held_usd: 0.1 } },
    "/v1/budgets": { items: many((name) => ({ name, source: "set", limits: { usd: 2, tokens: null }, used: { usd: 1 }, held: { usd: 0 }, left: { usd: 1 } }), count) },
    "/v1/approvals": { items: [...many((id) => approvalOf(id, "pending"), count), ...many((id) => approvalOf(id, "denied"), count)] },
    "/v1/sessions/x": { id: "ses_a", title: "t", status: "paused" },
  };
}

const TALK = [
  at(1, "turn.queued", { text: "p", files: [{ name: "f" }] }), at(2, "tool.started", { id: "t", name: "n", input: { command: "c" } }), at(3, "tool.output", { id: "t", text: "o" }),
  at(4, "approval.requested", { id: "a", shown: "s" }), at(5, "model.message", { content: [{ type: "text", text: "x" }, { type: "thinking", thinking: "y" }] }),
  at(6, "agent.notice", { kind: "k", text: "n" }), at(7, "budget.warning", { share: 0.5, cap: "c" }), at(8, "turn.queued", { text: "q", files: [] }, "trn_2"),
  at(9, "turn.failed", { text: "z", cost_usd: 0.1, duration_ms: 5, model: "m", usage: { input_tokens: 1, output_tokens: 2 }, error: { code: "c", message: "m" } }, "trn_2"),
  at(10, "session.reset", { text: "n" }, null),
];

const PAGES = {
  overview: [house.overview, []], approvals: [house.approvals, []], costs: [house.costs, []], config: [house.config, []], reference: [house.reference, []],
  agents: [agents.agents, []], agent: [agents.agent, ["agents", "x"]], conversation: [agents.conversation, ["session", "x"]], git: [agents.git, ["git", "x"]], gits: [agents.git, ["git"]],
  board: [work.board, []], workers: [work.workers, []], workflows: [work.workflows, []], run: [work.run, ["workflows", "x"]],
};

async function drawn(make, words, count, change, writable) {
  const given = answers(count);
  const gone = new AbortController();
  const context = {
    about: change({ commands: { skillctl: { ask: "Ask." } }, socket: "/run/s" }), events: change(TALK), writable, words, signal: gone.signal, now: () => NOW, changed() {}, reload() {},
    async get(path) {
      const plain = path.split("?")[0].replace(/name-0/, "x");
      assert.ok(plain in given, `no answer for ${path}`);
      return change(structuredClone(given[plain]));
    },
    follow(pathOf, { onEvent }) { for (const each of TALK) onEvent({ ...each, data: change(each.data) }); },
  };
  const page = make(context);
  await page.load();
  if (page.actions?.["workflow-choose"]) { page.actions["workflow-choose"]({ name: "x" }); await new Promise(setImmediate); }
  const main = h("main", {}, [page.view()].flat());
  gone.abort();
  return main;
}

const FORMS = new Set(["BUTTON", "INPUT", "TEXTAREA", "SELECT", "FORM", "LABEL", "OPTION"]);
const TAGS = new Set([
  "ARTICLE", "A", "CODE", "DD", "DETAILS", "DIV", "DL", "DT", "H2", "H3", "LI", "MAIN", "OL", "P", "PRE", "PROGRESS", "SECTION", "SPAN", "STRONG", "SUMMARY",
  "TABLE", "TBODY", "TD", "TH", "THEAD", "TIME", "TR", "UL", "#text", ...FORMS,
]);

for (const [name, [make, words]] of Object.entries(PAGES)) {
  await check(`${name}: what is shown is text, whatever it holds`, async () => {
    const main = await drawn(make, words, 3, poisoned, true);
    for (const node of main.all()) {
      assert.ok(TAGS.has(node.nodeName), node.nodeName);
      for (const [key, value] of node.attributes) {
        assert.ok(!key.startsWith("on") && !["style", "src", "srcdoc", "action", "formaction"].includes(key), key);
        if (key === "href") assert.ok(value.startsWith("#/") && !value.includes("<"), value);
      }
    }
    if (name !== "gits") assert.ok(main.text.includes("<script>alert(1)</script>"), "nothing of it is shown");
  });
  await check(`${name}: with nothing, and with a thousand rows`, async () => {
    for (const count of [0, 1000]) {
      const main = await drawn(make, words, count, (value) => value, true);
      assert.ok(main.childNodes.length > 0);
      assert.ok(!/undefined|NaN|\[object|Invalid/.test(main.text), main.text.match(/.{0,60}(undefined|NaN|\[object|Invalid).{0,60}/s)?.[0]);
    }
  });
  await check(`${name}: one that only reads offers nothing that changes anything`, async () => {
    const offered = (await drawn(make, words, 3, (value) => value, false)).all().filter((node) => node.nodeName === "FORM" || node.dataset.do);
    const harmless = ["column-more", "items-more", "turns-all", "workflow-choose"];
    assert.deepEqual(offered.map((node) => node.dataset.do ?? node.nodeName).filter((each) => !harmless.includes(each)), []);
  });
}

await check("who decides sees all that would run, the oldest first, and is asked once more with it", async () => {
  const trick = (value) => (value?.items?.[0]?.files ? { items: value.items.filter((each) => each.status === "pending").map((each) => ({ ...each, command: "r\u202em -rf /" })) } : value);
  const main = await drawn(house.approvals, [], 2, trick, true);
  const cards = main.all().filter((node) => node.nodeName === "ARTICLE");
  assert.deepEqual(cards.map((node) => node.dataset.key), ["name-1", "name-0"]);
  for (const shown of ["r\\u{202e}m -rf /", "written as escapes: U+202E", "a (sha256 0123456789abcdef), b (no hash, gone)", "s fedc", "HOME", "/srv"]) {
    assert.ok(cards[0].text.includes(shown), shown);
  }
  const approve = cards[0].all().find((node) => node.dataset.do === "approve");
  assert.equal(approve.dataset.shown, "r\\u{202e}m -rf /");
});

await check("what has ended is made once, and what is written is made each time", async () => {
  const main = await drawn(agents.conversation, ["session", "x"], 1, (value) => value, true);
  const turns = main.all().filter((node) => node.attributes.get("class") === "turn");
  assert.deepEqual(turns.map((node) => node.dataset.version !== undefined), [true, false]);
  assert.ok(turns.every((node) => node.text.length > 0));
});

await check("no attribute can run anything, no link leads elsewhere", () => {
  assert.throws(() => h("p", { onclick: "x" }), /attribute/);
  assert.throws(() => h("p", { style: "x" }), /attribute/);
  assert.throws(() => h("a", { href: "javascript:alert(1)" }), /links/);
  assert.throws(() => h("a", { href: "//evil.example" }), /links/);
});

console.log(`${passed} passed`);
