// What is to be done: the board, those who do it, schedules and workflows.

import { button, folded, h, link, pill, section, table } from "./dom.js";
import { runsTable } from "./pages_house.js";
import { asText, away, count, elapsed, inColumns, money, short } from "./text.js";

const CARDS_SHOWN = 50;
const PAGE = 1000;
const MANY_CHANGES = 20;
const TYPES = ["code", "review", "test", "docs", "deploy", "triage", "custom"];
const OVER = ["done", "cancelled"];

export function board(context) {
  const items = new Map();
  const changed = new Set();
  const shown = new Map();
  let more = false;
  let pages = 1;
  let timer = null;
  const page = {
    title: "Board",
    actions: {
      "column-more": ({ column }) => shown.set(column, (shown.get(column) ?? CARDS_SHOWN) + 200),
      "items-more": () => { pages += 1; page.load().then(context.changed, () => {}); },
    },
    async load() {
      const fresh = new Map();
      let cursor = null;
      for (let number = 0; number < pages; number += 1) {
        const at = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
        const found = await context.get(`/v1/workshop/board/items?limit=${PAGE}${at}`, context.signal);
        for (const item of found.items) fresh.set(item.id, item);
        cursor = found.next;
        if (cursor === null) break;
      }
      more = cursor !== null;
      items.clear();
      for (const [id, item] of fresh) items.set(id, item);
    },
    // One change is one item; many at once are the whole board.
    onEvent(event) {
      const id = event.data?.item;
      if (!String(event.type).startsWith("work.") || !id) return;
      changed.add(String(id));
      timer ??= setTimeout(async () => {
        timer = null;
        const ids = [...changed];
        changed.clear();
        if (context.signal.aborted) return;
        try {
          if (ids.length > MANY_CHANGES) await page.load();
          else await Promise.all(ids.map(refresh));
        } catch (error) {
          if (error.name !== "AbortError") page.failed = error.message;
        }
        context.changed();
      }, 700);
    },
    view() {
      const now = context.now();
      const columns = inColumns([...items.values()]);
      return [
        context.writable ? addForm() : null,
        more ? h("p", { class: "notice" }, `The first ${count(items.size)} items. `, button("Load more", "items-more", {})) : null,
        h("div", { class: "columns" }, [...columns].map(([name, found]) => {
          const limit = shown.get(name) ?? CARDS_SHOWN;
          return h("section", { class: "column", "data-key": name, "aria-label": name },
            h("h2", {}, name.replace("_", " "), " ", h("span", { class: "count" }, count(found.length))),
            found.slice(0, limit).map((item) => card(item, context, now)),
            found.length > limit ? button(`${count(found.length - limit)} more`, "column-more", { column: name }) : null,
            found.length ? null : h("p", { class: "quiet" }, "none"));
        })),
      ];
    },
  };
  async function refresh(id) {
    try {
      items.set(id, await context.get(`/v1/workshop/board/items/${encodeURIComponent(id)}`, context.signal));
    } catch (error) {
      if (error.status !== 404) throw error;
      items.delete(id);
    }
  }
  return page;
}

function addForm() {
  return h("details", { class: "add" }, h("summary", {}, "Add an item"),
    h("form", { "data-form": "item-add", class: "fields" },
      h("label", {}, "Title", h("input", { name: "title", required: true, maxlength: 200, autocomplete: "off" })),
      h("label", {}, "Id (made up if empty)", h("input", { name: "id", maxlength: 64, autocomplete: "off" })),
      h("label", {}, "Type", h("select", { name: "type" }, TYPES.map((each) => h("option", { value: each, selected: each === "custom" }, each)))),
      h("label", {}, "Priority", h("select", { name: "priority" }, [1, 2, 3, 4, 5].map((each) => h("option", { value: each, selected: each === 3 }, each)))),
      h("label", {}, "Depends on (ids)", h("input", { name: "depends_on", autocomplete: "off" })),
      h("label", { class: "wide" }, "What is to be done", h("textarea", { name: "spec", rows: 4, dir: "auto" })),
      h("button", { type: "submit", class: "primary" }, "Add")));
}

function card(item, context, now) {
  const took = item.status === "ready" || item.status === "new"
    ? `waits ${away(item.updated, now).replace(" ago", "")}`
    : elapsed(item.started ?? item.claimed ?? item.created, item.ended, now);
  return h("details", { class: "card", "data-key": item.id },
    h("summary", {},
      h("span", { class: "card-title", dir: "auto" }, item.title),
      h("span", { class: "card-facts" }, pill(item.status), " ", h("code", {}, item.id), ` · ${item.type} · P${item.priority} · ${took}`,
        item.claimed_by ? ` · ${item.claimed_by}` : "", item.overdue ? " · overdue" : "")),
    item.spec ? [h("p", { class: "quiet" }, "what is to be done"), h("pre", { dir: "auto" }, item.spec)] : null,
    item.result ? [h("p", { class: "quiet" }, "result"), h("pre", { dir: "auto" }, item.result)] : null,
    item.error ? [h("p", { class: "quiet" }, "error"), h("pre", { class: "bad", dir: "auto" }, item.error)] : null,
    item.depends_on.length ? h("p", {}, h("span", { class: "quiet" }, "depends on "), item.depends_on.join(", ")) : null,
    h("p", { class: "quiet" }, `attempt ${item.attempts} of ${item.max_attempts}`, item.due ? ` · due ${away(item.due, now)}` : "", item.agent ? ` · for ${item.agent}` : ""),
    h("ol", { class: "history" }, (item.history ?? []).map((step) => h("li", {}, pill(step.status), ` ${away(step.time, now)} ${step.note}`))),
    context.writable ? h("p", { class: "row" },
      ["failed", "cancelled"].includes(item.status) ? button("Retry", "item-retry", { id: item.id }, "primary") : null,
      OVER.includes(item.status) ? null : button("Cancel", "item-cancel", { id: item.id }, "danger")) : null);
}

export function workers(context) {
  let data = null;
  return {
    title: "Workers and schedules",
    topics: ["board_worker", "schedule", "work"],
    async load() {
      const [crews, schedules] = await Promise.all([
        context.get("/v1/workshop/board/workers", context.signal), context.get("/v1/workshop/schedules", context.signal),
      ]);
      data = { crews: crews.items, schedules: schedules.items };
    },
    view() {
      const now = context.now();
      return [
        section("Workers", data.crews.length ? data.crews.map((crew) => h("article", { class: "card", "data-key": crew.name },
          h("h3", {}, crew.name, " ", pill(crew.state)), h("p", { class: "quiet" }, `${crew.types.join(", ") || "all types"} · ${count(crew.count)} agents${crew.profile ? ` · profile ${crew.profile}` : ""}`),
          table(`Agents of ${crew.name}`, ["agent", "item", "for", "done", "failed", "trouble"], crew.agents.map((each) => ({
            key: each.agent,
            cells: [link(["agents", each.agent], each.agent), each.item ?? "–", each.since ? elapsed(each.since, null, now) : "–", count(each.done), count(each.failed), short(each.error ?? "", 100) || "–"],
          })), "none"))) : h("p", { class: "quiet" }, "There are no workers. Start one with 'skillctl workshop worker start'.")),
        section("Schedules", table("Schedules", ["name", "agent", "when", "next", "runs", "left out", "last", "trouble", ""], data.schedules.map((each) => ({
          key: each.name,
          cells: [
            each.name, link(["agents", each.agent], each.agent), h("span", { title: each.prompt }, each.cron ? `${each.cron} ${each.timezone ?? "UTC"}` : `every ${each.every_s} s`),
            each.enabled ? away(each.next_due, now) : "disabled", count(each.runs), Object.entries(each.missed ?? {}).map(([why, times]) => `${times} ${why}`).join(", ") || "–",
            away(each.last_run, now), short(each.last_error ?? "", 100) || "–",
            context.writable ? button("Run now", "schedule-run", { name: each.name }) : "",
          ],
        })), "There are no schedules.")),
      ];
    },
  };
}

export function workflows(context) {
  let data = null;
  let chosen = null;
  let definition = null;
  const page = {
    title: "Workflows",
    topics: ["workflow"],
    actions: {
      "workflow-choose": ({ name }) => {
        chosen = name;
        definition = null;
        context.get(`/v1/workshop/workflows/${encodeURIComponent(name)}`, context.signal).then((found) => { definition = found; context.changed(); }, (error) => { page.failed = error.message; context.changed(); });
      },
    },
    async load() {
      const [known, runs] = await Promise.all([
        context.get("/v1/workshop/workflows", context.signal), context.get("/v1/workshop/runs?limit=200", context.signal),
      ]);
      data = { known: known.items, runs: runs.items };
    },
    view() {
      return [
        section("Workflows", table("Workflows", ["name", "description", "stages", "changed", ""], data.known.map((each) => ({
          key: each.name,
          cells: [each.name, short(each.description ?? "", 160), each.stages.join(" → "), away(each.updated, context.now()), button(context.writable ? "Run…" : "Show", "workflow-choose", { name: each.name })],
        })), "There are no workflows. Define one with 'skillctl workflow define'."),
        chosen && definition ? runForm(chosen, definition, context.writable) : null),
        section("Runs", runsTable(data.runs, context.now())),
      ];
    },
  };
  return page;
}

function runForm(name, definition, writable) {
  const wanted = Object.entries(definition.parameters ?? {});
  return h("article", { class: "card", "data-key": `run-${name}` }, h("h3", {}, name), h("p", {}, definition.description ?? ""),
    writable ? h("form", { "data-form": "workflow-run", class: "fields" },
      h("input", { type: "hidden", name: "workflow", value: name }),
      wanted.map(([key, facts]) => h("label", { "data-key": key }, key, facts.description ? h("span", { class: "quiet" }, ` ${facts.description}`) : null,
        h("input", { name: `p:${key}`, required: facts.default === undefined, placeholder: facts.default ?? "", autocomplete: "off" }))),
      h("button", { type: "submit", class: "primary" }, "Run")) : null,
    folded("Definition", asText(definition)));
}

export function run(context) {
  const id = context.words[1];
  let data = null;
  return {
    title: "Run of a workflow",
    topics: ["workflow", "work"],
    async load() {
      data = await context.get(`/v1/workshop/runs/${encodeURIComponent(id)}`, context.signal);
    },
    view() {
      const now = context.now();
      return [
        h("p", { class: "row" }, pill(data.status), h("strong", {}, data.workflow), h("code", {}, id), ` ${money(data.cost_usd)} · ${elapsed(data.created, data.ended, now)}`,
          context.writable && data.status === "running" ? h("span", { class: "row end" }, button("Cancel run", "run-cancel", { id }, "danger")) : null),
        data.error ? h("p", { class: "notice bad" }, data.error) : null,
        Object.keys(data.arguments).length ? section("Parameters", h("dl", { class: "facts" }, Object.entries(data.arguments).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, short(value, 300)))))) : null,
        section("Stages", h("ol", { class: "stages" }, Object.entries(data.stages).map(([name, stage]) => h("li", { "data-key": name },
          h("details", { class: "card" },
            h("summary", {}, h("strong", {}, name), " ", pill(stage.status), ` ${elapsed(stage.started, stage.ended, now)} · ${money(stage.cost_usd)}`, stage.attempt > 1 ? ` · attempt ${stage.attempt}` : "", stage.round > 1 ? ` · round ${stage.round}` : ""),
            stage.item ? h("p", {}, `item ${stage.item} of the board`) : null,
            stage.error ? h("pre", { class: "bad", dir: "auto" }, stage.error) : null,
            stage.result ? h("pre", { dir: "auto" }, stage.result) : h("p", { class: "quiet" }, "no result")))))),
      ];
    },
  };
}
