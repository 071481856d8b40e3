// Agents, what they are told and say, and how their repositories stand.

import { button, folded, h, lazy, link, pill, section, table } from "./dom.js";
import { asText, away, count, money, patchLines, seconds, short, visible } from "./text.js";
import { fold, transcript } from "./transcript.js";

const TURNS_SHOWN = 100;
const SHOWN_ABOVE = new Set(["role", "context", "profile", "backend", "model", "max_cost_usd", "timeout_s", "queue"]);

export function agents(context) {
  let items = [];
  return {
    title: "Agents",
    topics: ["agent", "board_worker"],
    async load() {
      items = (await context.get("/v1/workshop/agents", context.signal)).items;
    },
    view() {
      const now = context.now();
      return table("Agents", ["name", "status", "waiting", "role", "backend", "model", "turns", "cost", "changed"], items.map((each) => ({
        key: each.name,
        cells: [
          link(["agents", each.name], each.name), pill(each.status), count(each.queue_depth), short(each.role, 80) || "–",
          (each.backends ?? []).map(placeName).join(", ") || "–",
          each.model ?? "–", count(each.turns), money(each.cost_usd, each.known_usd), away(each.updated, now),
        ],
      })), "There are no agents. Define one with 'skillctl workshop agent define'.");
    },
  };
}

export function agent(context) {
  const name = context.words[1];
  let data = null;
  let talk = null;
  const page = {
    title: name,
    topics: ["agent"],
    actions: { "turns-all": () => talk.showAll() },
    async load() {
      data = await context.get(`/v1/workshop/agents/${encodeURIComponent(name)}`, context.signal);
      if (data.session && talk?.session !== data.session) {
        talk?.leave();
        talk = follower(context, data.session);
      }
    },
    start() {
      context.signal.addEventListener("abort", () => talk?.leave());
    },
    view() {
      const now = context.now();
      const settings = [
        ["profile", data.profile], ["backend", data.backend ?? (data.backends ?? []).map(placeName).join(", ")], ["model", data.model],
        ["cost", money(data.cost_usd, data.known_usd)], ["cap", data.max_cost_usd === null ? null : money(data.max_cost_usd)],
        ["tokens", count(data.tokens)], ["turns", count(data.turns)], ["calls of tools", count(data.tool_calls)], ["time of turns", seconds(data.seconds)],
        ["messages waiting", `${count(data.queue_depth)} of ${count(data.queue)}`], ["time of a turn", data.timeout_s === null ? null : seconds(data.timeout_s)],
        ["defined", away(data.created, now)], ["changed", away(data.updated, now)], ["conversation", data.session],
        ...Object.entries(data.settings ?? {}).filter(([key]) => !SHOWN_ABOVE.has(key)).map(([key, value]) => [key.replaceAll("_", " "), shownSetting(value)]),
      ].filter(([, value]) => value !== null && value !== undefined && value !== "");
      return [
        h("p", { class: "row" }, pill(data.status), h("span", {}, short(data.role, 300)),
          context.writable && data.session ? h("span", { class: "row end" },
            data.status === "paused" ? button("Resume", "session-resume", { id: data.session }) : button("Pause", "session-pause", { id: data.session }),
            button("Cancel all turns", "session-cancel", { id: data.session }, "danger")) : null),
        context.writable ? castForm(name) : null,
        talk ? section("Conversation", talk.view(context.writable, now)) : h("p", { class: "quiet" }, "Its conversation was deleted."),
        section("Settings",
          h("dl", { class: "facts" }, settings.map(([key, value]) => h("div", { "data-key": key }, h("dt", {}, key), h("dd", {}, value)))),
          data.system_prompt ? folded("System prompt", data.system_prompt) : null,
          data.crashes?.why ? h("p", { class: "notice bad" }, `Crashed ${data.crashes.recent} times: ${data.crashes.why}`) : null,
          h("p", {}, link(["git", name], "its repository"))),
        (data.before ?? []).length ? section("Conversations before", h("ul", {}, data.before.map((each) => h("li", { "data-key": String(each.session ?? each) }, link(["session", String(each.session ?? each)], String(each.session ?? each)))))) : null,
      ];
    },
  };
  return page;
}

function placeName(place) {
  return typeof place === "string" ? place : place.backend;
}

function shownSetting(value) {
  if (value === undefined || value === null || value === false) return null;
  return typeof value === "object" && !Object.keys(value).length ? null : asText(value);
}

function castForm(name) {
  return h("form", { "data-form": "cast", class: "say" },
    h("input", { type: "hidden", name: "agent", value: name }),
    h("label", { for: "say" }, `Tell ${name}`),
    h("textarea", { id: "say", name: "text", rows: 3, required: true, placeholder: "Ctrl+Enter sends", dir: "auto" }),
    h("button", { type: "submit", class: "primary" }, "Send"));
}

export function conversation(context) {
  const session = context.words[1];
  let data = null;
  let talk = null;
  return {
    title: "Conversation",
    topics: [],
    actions: { "turns-all": () => talk.showAll() },
    async load() {
      data = await context.get(`/v1/sessions/${encodeURIComponent(session)}`, context.signal);
      talk ??= follower(context, session);
    },
    start() {
      context.signal.addEventListener("abort", () => talk?.leave());
    },
    view() {
      return [
        h("p", { class: "row" }, pill(data.status), h("strong", {}, data.title), h("code", {}, session),
          context.writable ? h("span", { class: "row end" },
            data.status === "paused" ? button("Resume", "session-resume", { id: session }) : button("Pause", "session-pause", { id: session })) : null),
        talk.view(context.writable, context.now()),
      ];
    },
  };
}

// The events of one conversation as they come, and how they are drawn.
function follower(context, session) {
  const gone = new AbortController();
  const state = transcript();
  let all = false;
  let trouble = "";
  context.follow((position) => `/v1/sessions/${encodeURIComponent(session)}/events${position === null ? "?after=0" : ""}`, {
    signal: gone.signal,
    onEvent(event) {
      fold(state, event);
      if (String(event.type).startsWith("turn.")) context.reload();
      context.changed();
    },
    onState(kind, why) { trouble = kind === "live" ? "" : why ?? ""; context.changed(); },
  });
  return {
    session,
    leave: () => gone.abort(),
    showAll: () => { all = true; },
    view(writable, now) {
      const from = all ? 0 : Math.max(0, state.entries.length - TURNS_SHOWN);
      return [
        trouble ? h("p", { class: "notice", "data-key": "trouble" }, trouble) : null,
        h("p", { class: "quiet", "data-key": "sum" }, `${count(state.byTurn.size)} ${state.byTurn.size === 1 ? "turn" : "turns, the latest first"}, ${money(state.unpriced ? null : state.costUsd, state.costUsd)}`),
        h("ol", { class: "turns", "data-key": "turns" }, state.entries.slice(from).reverse().map((entry) => drawEntry(entry, writable, now))),
        from > 0 ? button(`Show ${count(from)} earlier`, "turns-all", {}) : null,
        state.entries.length ? null : h("p", { class: "quiet" }, "Nothing was said yet."),
      ];
    },
  };
}

function drawEntry(entry, writable, now) {
  if (entry.note) {
    return h("li", { class: "note-line", "data-key": entry.id, "data-version": "0" }, entry.note, entry.text ? ` · ${short(entry.text, 300)}` : "");
  }
  if (entry.ending !== null) return lazy("li", entry.id, entry.version, () => drawTurn(entry, writable, now));
  return drawTurn(entry, writable, now);
}

function drawTurn(entry, writable, now) {
  const ended = entry.ending !== null;
  return h("li", { class: "turn", "data-key": entry.id, "data-version": ended ? entry.version : null },
    h("div", { class: "prompt" }, h("p", { class: "who" }, "asked", " ", h("time", {}, new Date(entry.time).toLocaleString())),
      h("div", { class: "text", dir: "auto" }, entry.prompt ?? ""),
      entry.files?.length ? h("p", { class: "quiet" }, `files: ${entry.files.join(", ")}`) : null),
    entry.parts.map(drawPart),
    h("p", { class: "ending" }, pill(entry.status), ended ? endingText(entry.ending) : ` for ${away(entry.time, now).replace(" ago", "")}`,
      !ended && writable ? button("Cancel turn", "turn-cancel", { id: entry.id }, "danger") : null));
}

function endingText(ending) {
  const usage = ending.usage;
  const words = [
    money(ending.cost_usd), ending.duration_ms === null ? null : seconds(ending.duration_ms / 1000), ending.model,
    usage ? `${count(usage.input_tokens + (usage.cache_read_tokens ?? 0))} in, ${count(usage.output_tokens)} out` : null,
    ending.error ? `${ending.error.code}: ${ending.error.message}` : null,
  ];
  return ` ${words.filter(Boolean).join(" · ")}`;
}

function drawPart(part) {
  switch (part.kind) {
    case "text": return h("div", { class: "text answer", dir: "auto" }, part.text);
    case "thinking": return folded("Thinking", part.text);
    case "user": return h("div", { class: "text prompt", dir: "auto" }, part.text);
    case "tool": return h("details", { class: "tool", "data-key": `tool-${part.id}` },
      h("summary", {}, h("code", {}, part.name), " ", pill(part.outcome), " ", h("span", { class: "quiet" }, toolText(part))),
      part.input === null ? null : [h("p", { class: "quiet" }, "input"), h("pre", { dir: "auto" }, asText(part.input))],
      part.outcome === "running" && part.output ? [h("p", { class: "quiet" }, "output so far"), h("pre", { dir: "auto" }, part.output)] : null,
      part.result ? [h("p", { class: "quiet" }, "result"), h("pre", { dir: "auto" }, part.result)] : null);
    case "approval": return h("p", { class: "notice" }, pill(part.status), ` ${visible(part.shown)} `, part.reason ? `(${visible(part.reason)}) ` : "", part.status === "pending" ? link(["approvals"], "decide") : null);
    default: return h("p", { class: "note-line" }, part.text);
  }
}

function toolText(part) {
  const words = [
    part.durationMs === undefined ? null : seconds(part.durationMs / 1000),
    part.exitCode ? `exit ${part.exitCode}` : null,
    part.costUsd === undefined ? null : money(part.costUsd),
    short(asText(part.input?.command ?? part.input?.description ?? part.input?.path ?? ""), 80),
  ];
  return words.filter(Boolean).join(" · ");
}

export function git(context) {
  const name = context.words[1];
  let items = [];
  let summary = null;
  let patch = null;
  let trouble = null;
  return {
    title: name ? `Git: ${name}` : "Git",
    topics: ["agent"],
    async load() {
      items = (await context.get("/v1/workshop/agents", context.signal)).items;
      if (!name) return;
      const path = `/v1/workshop/agents/${encodeURIComponent(name)}/git`;
      trouble = null;
      try {
        summary = await context.get(path, context.signal);
        patch = await context.get(`${path}/diff`, context.signal);
      } catch (error) {
        if (!error.status) throw error;
        trouble = error.message;  // the others can be chosen all the same
      }
    },
    view() {
      return [
        h("p", { class: "links" }, items.length ? items.map((each) => h("span", { "data-key": each.name }, link(["git", each.name], each.name), " ")) : h("span", { class: "quiet" }, "There are no agents.")),
        trouble ? h("p", { class: "notice" }, trouble) : null,
        name ? (trouble ? [] : [drawSummary(summary), section("Diff", drawPatch(patch))]) : h("p", { class: "quiet" }, "How the repository of an agent's folder stands: choose an agent."),
      ].flat();
    },
  };
}

function drawSummary(stands) {
  const paths = (title, list) => (list.length ? folded(`${count(list.length)} ${title}`, list.join("\n"), list.length <= 30) : null);
  return section("Status",
    h("dl", { class: "facts" }, [
      ["branch", stands.branch ?? "none"], ["commit", short(stands.sha ?? "none", 12)], ["state", stands.dirty ? "changed" : "clean"],
      ["upstream", stands.upstream ? `${stands.upstream}: ${stands.ahead} ahead, ${stands.behind} behind` : "none"],
    ].map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)))),
    paths("in conflict", stands.conflicts), paths("staged", stands.staged), paths("changed", stands.unstaged), paths("untracked", stands.untracked),
    table("Commits", ["commit", "subject"], stands.commits.map((each) => ({ key: each.sha, cells: [h("code", {}, short(each.sha, 12)), each.subject] })), "There are no commits."));
}

function drawPatch(patch) {
  if (!patch.diff) return h("p", { class: "quiet" }, "Nothing differs.");
  return [
    patch.cut ? h("p", { class: "notice" }, "The patch is longer than what is shown.") : null,
    h("pre", { class: "patch" }, patchLines(patch.diff).map(({ kind, text }) => h("span", { class: kind }, `${text}\n`))),
  ];
}
