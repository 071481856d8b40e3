// What concerns the whole: the overview, approvals, costs, the configuration, the commands.

import { button, folded, h, link, pill, section, table } from "./dom.js";
import { amount, asText, away, count, elapsed, eventSubject, fullest, money, seconds, short, size, suspects, visible } from "./text.js";

const AGENTS_SHOWN = 25;
const RUNS_SHOWN = 10;
const EVENTS_SHOWN = 30;

function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function eventsTable(events, now) {
  const rows = events.slice(-EVENTS_SHOWN).reverse().map((event) => ({
    key: `event-${event.seq}`,
    cells: [event.seq, away(event.time, now), h("code", {}, event.type), eventSubject(event)],
  }));
  return table("Latest events", ["no", "when", "event", "about"], rows, "Nothing has happened yet.");
}

function agentRows(items, now) {
  return items.map((each) => ({
    key: each.name,
    cells: [
      link(["agents", each.name], each.name), pill(each.status), short(each.role, 60) || "–", count(each.turns),
      money(each.cost_usd, each.known_usd), away(each.updated, now),
    ],
  }));
}

export function overview(context) {
  let data = null;
  return {
    title: "Overview",
    showsEvents: true,
    async load() {
      const ask = (path) => context.get(path, context.signal);
      const [agents, cost, board, runs, status] = await Promise.all([
        ask("/v1/workshop/agents"), ask("/v1/workshop/cost"), ask("/v1/workshop/board/summary"),
        ask(`/v1/workshop/runs?limit=${RUNS_SHOWN}`), ask("/v1/status"),
      ]);
      data = { agents: agents.items, cost: cost.total, board, runs: runs.items, status };
    },
    view() {
      const now = context.now();
      const busy = data.agents.filter((each) => each.status !== "idle");
      const first = [...busy, ...data.agents.filter((each) => each.status === "idle")].slice(0, AGENTS_SHOWN);
      return [
        facts([
          ["agents", `${count(data.agents.length)}, ${count(busy.length)} at work or waiting`],
          ["spent by agents", money(data.cost.cost_usd, data.cost.known_usd)],
          ["turns", `${count(data.status.turns_running)} running, ${count(data.status.turns_queued)} waiting`],
          ["daemon", `${data.status.version}${data.status.draining ? ", stopping" : ""}`],
        ]),
        section("Agents",
          table("Agents", ["name", "status", "role", "turns", "cost", "changed"], agentRows(first, now), "There are no agents. Define one with 'skillctl workshop agent define'."),
          data.agents.length > first.length ? h("p", {}, link(["agents"], `all ${count(data.agents.length)} agents`)) : null),
        section("Board", h("p", { class: "counts" }, Object.entries(data.board.by_status).map(([status, number]) =>
          h("span", { "data-key": status, class: number ? "" : "quiet" }, pill(status), " ", count(number)))), h("p", {}, link(["board"], "to the board"))),
        section("Runs of workflows", runsTable(data.runs, now)),
        section("Latest events", eventsTable(context.events, now)),
      ];
    },
  };
}

export function runsTable(runs, now) {
  const rows = runs.map((each) => {
    const stages = Object.values(each.stages);
    const over = stages.filter((stage) => ["done", "skipped", "failed", "cancelled"].includes(stage.status)).length;
    return {
      key: each.id,
      cells: [
        link(["workflows", each.id], short(each.id, 14)), each.workflow, pill(each.status), `${over} of ${stages.length}`,
        money(each.cost_usd), elapsed(each.created, each.ended, now), away(each.created, now),
      ],
    };
  });
  return table("Runs of workflows", ["run", "workflow", "status", "stages", "cost", "took", "begun"], rows, "There are no runs.");
}

export function approvals(context) {
  let data = null;
  return {
    title: "Approvals",
    async load() {
      const ask = (status) => context.get(`/v1/approvals?status=${status}&limit=100`, context.signal);
      const [waiting, all] = await Promise.all([ask("pending"), ask("all")]);
      data = { waiting: [...waiting.items].reverse(), past: all.items.filter((each) => each.status !== "pending") };
    },
    start() {
      const again = () => this.load().then(context.changed, () => {});
      const timer = setInterval(() => { if (!document.hidden) again(); }, 5000);
      context.signal.addEventListener("abort", () => clearInterval(timer));
    },
    view() {
      const now = context.now();
      return [
        section(`Waiting (${data.waiting.length})`, data.waiting.length
          ? data.waiting.map((each) => approvalCard(each, context.writable, now))
          : h("p", { class: "quiet" }, "Nothing waits for an approval.")),
        section("Decided", table("Decided approvals", ["call", "status", "by", "reason", "when"], data.past.map((each) => ({
          key: each.id,
          cells: [short(visible(each.shown), 100), pill(each.status), each.decision?.by_uid ?? "–", short(each.decision?.reason ?? "", 80) || "–", away(each.updated, now)],
        })), "Nothing was decided yet.")),
      ];
    },
  };
}

function approvalCard(each, writable, now) {
  const does = each.command ?? each.input;
  const files = each.files.map((file) => `${file.path} (${file.sha256 ? `sha256 ${file.sha256.slice(0, 16)}` : "no hash"}${file.note ? `, ${file.note}` : ""})`);
  return h("article", { class: "card decide", "data-key": each.id },
    h("p", {}, pill(each.status), " ", h("strong", {}, visible(each.tool)), ` in ${visible(each.place)} (${visible(each.backend)}), asked ${away(each.created, now)}, ends ${away(each.expires, now)}`),
    h("pre", { dir: "ltr" }, visible(does)),
    suspects(does).map((what) => h("p", { class: "notice" }, what)),
    facts([
      ["why it is asked", [visible(each.reason), each.rule && `(${each.rule})`].filter(Boolean).join(" ")], ["folder", visible(each.cwd ?? "–")],
      ["files", visible(files.join(", ")) || "–"], ["skill", each.skill ? visible(`${each.skill.name} ${short(each.skill.digest, 17)}`) : "–"],
      ["variables", visible((each.environment ?? []).join(", ")) || "–"], ["conversation", link(["session", each.session], each.session)],
    ]),
    folded("All of the input", visible(each.input)),
    writable ? h("div", { class: "row" }, button("Approve", "approve", { id: each.id, shown: short(visible(does), 300) }, "primary"),
      h("form", { "data-form": "deny", class: "row" },
        h("input", { type: "hidden", name: "id", value: each.id }),
        h("input", { name: "reason", placeholder: "reason, which the model is told", "aria-label": "Reason of the denial", maxlength: 500, autocomplete: "off" }),
        h("button", { type: "submit", class: "danger" }, "Deny"))) : null);
}

export function costs(context) {
  let data = null;
  return {
    title: "Costs",
    topics: ["agent", "work", "workflow"],
    async load() {
      const ask = (path) => context.get(path, context.signal);
      const [agents, models, days, caps] = await Promise.all([
        ask("/v1/workshop/cost"), ask("/v1/usage?by=model"), ask("/v1/usage?by=day"), ask("/v1/budgets"),
      ]);
      data = { agents, models, days, caps: caps.items };
    },
    view() {
      const total = data.days.total;
      return [
        facts([
          ["spent in all", money(total.cost_usd, total.known_usd)], ["set aside for what runs", money(total.held_usd)],
          ["tokens", count(total.tokens)], ["calls of tools", count(total.tool_calls)], ["time of turns", seconds(total.seconds)],
        ]),
        section("Caps", h("p", { class: "quiet" }, "They are changed with 'skillctl budget'."), table("Caps", ["cap", "used", "of", "", "set by"], data.caps.map(capRow), "There are no caps.")),
        section("By day", spentTable("Costs by day", "day", [...data.days.items].sort((a, b) => (a.key < b.key ? 1 : -1)), (each) => each.key)),
        section("By model", spentTable("Costs by model", "model", data.models.items, (each) => each.key)),
        section("By agent", spentTable("Costs by agent", "agent", data.agents.items, (each) => each.name)),
      ];
    },
  };
}

function capRow(cap) {
  const full = fullest(cap);
  const limits = Object.entries(cap.limits).filter(([, limit]) => limit !== null).map(([unit, limit]) => amount(unit, limit));
  return {
    key: cap.name,
    cells: [
      cap.name, full ? amount(full.unit, full.used) : "–", limits.join(", ") || "–",
      full ? h("progress", { max: 1, value: Math.min(1, full.share), "aria-label": `${Math.round(full.share * 100)} % used` }) : "of each", cap.source,
    ],
  };
}

function spentTable(caption, name, items, key) {
  const most = Math.max(...items.map((each) => each.known_usd ?? 0), 0);
  const rows = items.map((each) => ({
    key: String(key(each)),
    cells: [
      String(key(each)) || "–", money(each.cost_usd, each.known_usd),
      most > 0 ? h("progress", { max: most, value: each.known_usd ?? 0, "aria-label": "share of the most" }) : "",
      count(each.tokens), count(each.tool_calls), seconds(each.seconds),
    ],
  }));
  return table(caption, [name, "cost", "", "tokens", "calls", "time"], rows, "Nothing was spent yet.");
}

export function config(context) {
  let data = null;
  return {
    title: "Config",
    topics: ["agent", "profile", "store"],
    async load() {
      const ask = (path) => context.get(path, context.signal);
      const [status, setup, profiles, backends, store, trees] = await Promise.all([
        ask("/v1/status"), ask("/v1/workshop/config"), ask("/v1/workshop/profiles"), ask("/v1/backends"),
        ask("/v1/workshop/store?limit=200"), ask("/v1/workshop/worktrees"),
      ]);
      data = { status, setup, profiles: profiles.items, backends: backends.items, store, trees: trees.items };
    },
    view() {
      const { status, setup } = data;
      const now = context.now();
      return [
        facts([
          ["version", status.version], ["mode", status.mode], ["model", status.model ?? "–"], ["skills", count(status.skills)],
          ["state", status.state_dir], ["on disk", size(status.disk_use?.total_bytes)], ["free", size(status.disk?.free_bytes)],
          ["socket", context.about.socket],
        ]),
        section("What holds for new agents",
          facts([["cap of all together", money(setup.max_cost_usd)], ["defaults", Object.entries(setup.defaults).map(([name, value]) => `${name}: ${asText(value)}`).join(", ") || "–"]]),
          setup.context ? folded("Common context", setup.context) : h("p", { class: "quiet" }, "There is no common context.")),
        section("Profiles", table("Profiles", ["name", "settings", "changed"], data.profiles.map((each) => ({
          key: each.name, cells: [each.name, h("pre", { dir: "auto" }, asText(each.settings)), away(each.updated, now)],
        })), "There are no profiles.")),
        section("Backends", table("Backends", ["name", "available", "sandbox", "network", "problem"], data.backends.map((each) => ({
          key: each.name,
          cells: [each.default ? `${each.name} (default)` : each.name, pill(each.available ? "available" : "away"), each.capabilities?.sandbox ?? "–", each.capabilities?.network ?? "–", each.problem ?? "–"],
        })), "There are no backends.")),
        section("Store", table("Stored values", ["namespace", "key", "version", "size", "changed", "ends"], data.store.items.map((each) => ({
          key: `${each.namespace}/${each.key}`,
          cells: [each.namespace, each.key, each.version, size(each.size_bytes), away(each.updated, now), away(each.expires, now)],
        })), "Nothing is stored."), data.store.next ? h("p", { class: "quiet" }, "The first 200; see 'skillctl workshop store list'.") : null),
        section("Worktrees", table("Worktrees", ["agent", "state", "more"], data.trees.map((each) => ({
          key: each.agent, cells: [link(["git", each.agent], each.agent), pill(each.state), h("pre", {}, asText(each))],
        })), "No agent has a worktree.")),
      ];
    },
  };
}

export function reference(context) {
  return {
    title: "Reference",
    topics: [],
    async load() {},
    view() {
      const groups = Object.entries(context.about.commands ?? {});
      return [
        h("p", {}, "What can be done in a shell; each tells more with ", h("code", {}, "--help"), "."),
        groups.map(([program, commands]) => section(program, table(program, ["command", "does"], Object.entries(commands).map(([name, does]) => ({
          key: name, cells: [h("code", {}, `${program} ${name}`), does],
        })), "There are none."))),
      ];
    },
  };
}
