// Values as people read them, and streams as programs do. Pure: nothing here touches the page, the network or a clock.

export const BOARD_COLUMNS = ["ready", "claimed", "in_progress", "done", "failed", "other"];

export function money(usd, knownUsd) {
  if (usd === null || usd === undefined) {
    return knownUsd === undefined || knownUsd === null ? "–" : `${money(knownUsd)} or more`;
  }
  if (usd !== 0 && Math.abs(usd) < 0.01) return `$${usd.toFixed(4)}`;
  return `$${usd.toFixed(2)}`;
}

export function count(number) {
  if (number === null || number === undefined) return "–";
  return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.floor(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${units[unit]}`;
}

// How long ago, or in how long; `now` in milliseconds.
export function away(time, now) {
  if (!time) return "–";
  const gap = (now - Date.parse(time)) / 1000;
  if (Number.isNaN(gap)) return "–";
  const coarse = (value) => {
    if (value < 60) return `${Math.floor(value)} s`;
    if (value < 3600) return `${Math.floor(value / 60)} min`;
    if (value < 86400) return `${Math.floor(value / 3600)} h`;
    return `${Math.floor(value / 86400)} d`;
  };
  return gap >= 0 ? `${coarse(gap)} ago` : `in ${coarse(-gap)}`;
}

// From one time to another, or to now where it has not ended.
export function elapsed(from, to, now) {
  if (!from) return "–";
  const end = to ? Date.parse(to) : now;
  return seconds(Math.max(0, (end - Date.parse(from)) / 1000));
}

export function short(text, limit) {
  const line = String(text ?? "").replace(/\s+/g, " ").trim();
  const marks = Array.from(line);
  return marks.length <= limit ? line : `${marks.slice(0, limit - 1).join("")}…`;
}

export function shortId(id) {
  return id ? `${String(id).slice(0, 10)}…` : "–";
}

export function asText(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// What is no mark on the screen, or only a part of the letter before; of gaps only the plain ones are what they seem.
const UNSEEN = /(?![ \n\t])[\p{C}\p{Z}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\u{e0100}-\u{e01ef}]/gu;

// What somebody is to decide about, with nothing unseen in it: every such character is written as an escape, and long
// gaps, which push the rest out of sight, are counted instead.
export function visible(value) {
  const escaped = asText(value).replace(UNSEEN, (mark) => `\\u{${mark.codePointAt(0).toString(16)}}`);
  return escaped.replace(/ {40,}/g, (gap) => `[${gap.length} spaces]`);
}

// What a reader would not see in a text, or take for something else: some letters of Cyrillic look like Latin ones.
export function suspects(value) {
  const marks = [...new Set(asText(value))];
  const named = (mark) => `U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  const hidden = marks.filter((mark) => mark.match(UNSEEN));
  const foreign = marks.filter((mark) => mark > "\u007f" && !hidden.includes(mark));
  const some = (list) => `${list.slice(0, 6).join(", ")}${list.length > 6 ? ` and ${list.length - 6} more` : ""}`;
  return [
    hidden.length ? `written as escapes: ${some(hidden.map(named))}` : null,
    foreign.length ? `not ASCII: ${some(foreign.map((mark) => `${mark} is ${named(mark)}`))}` : null,
  ].filter(Boolean);
}

// What the model was told by a tool: blocks as in the Messages API, or a text.
export function blocksText(content) {
  if (!Array.isArray(content)) return asText(content);
  return content.map((block) => (block && block.type === "text" ? block.text : asText(block))).join("\n");
}

export function columnOf(status) {
  return BOARD_COLUMNS.includes(status) ? status : "other";
}

// The first to be taken comes first, of what was begun the latest.
export function inColumns(items) {
  const columns = new Map(BOARD_COLUMNS.map((name) => [name, []]));
  for (const item of items) columns.get(columnOf(item.status)).push(item);
  const waiting = (a, b) => a.priority - b.priority || compare(a.created, b.created);
  const begun = (a, b) => compare(b.ended ?? b.updated, a.ended ?? a.updated);
  for (const [name, found] of columns) found.sort(name === "ready" || name === "other" ? waiting : begun);
  return columns;
}

function compare(a, b) {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

// The share of a cap that is used, in its fullest unit; null without a limit.
export function fullest(cap) {
  let found = null;
  for (const [unit, limit] of Object.entries(cap.limits)) {
    if (limit === null || limit === undefined || !cap.used) continue;
    const used = (cap.used[unit] ?? 0) + (cap.held?.[unit] ?? 0);
    const share = limit > 0 ? used / limit : 1;
    if (found === null || share > found.share) found = { unit, used, limit, share };
  }
  return found;
}

export function amount(unit, value) {
  if (unit === "usd") return money(value);
  return unit === "seconds" ? seconds(value) : count(value);
}

// "#/agents/reviewer?x" as its words: ["agents", "reviewer"].
export function wordsOf(hash) {
  const path = hash.replace(/^#\/?/, "");
  try {
    return path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return [];
  }
}

// What an event of the workshop is about, in a few words.
export function eventSubject(event) {
  const data = event.data ?? {};
  const named = ["agent", "item", "worker", "workflow", "run", "schedule", "profile", "namespace", "key", "stage"];
  const words = named.filter((name) => data[name] !== undefined && data[name] !== null).map((name) => asText(data[name]));
  return short(words.length ? words.join(" · ") : asText(data), 120);
}

export function topicOf(event) {
  return String(event.type).split(".")[0];
}

// Server-sent events out of pieces of text, however they were cut. Each is {id, event, data}; `id` stays the last one.
export function sseDecoder() {
  let rest = "";
  let lastId = "";
  let fields = null;
  const line = (text, found) => {
    if (text === "") {
      if (fields && fields.data.length) found.push({ id: lastId, event: fields.event, data: fields.data.join("\n") });
      fields = null;
      return;
    }
    if (text.startsWith(":")) return;
    const colon = text.indexOf(":");
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    fields ??= { event: "message", data: [] };
    if (name === "id" && !value.includes("\0")) lastId = value;
    if (name === "event") fields.event = value;
    if (name === "data") fields.data.push(value);
  };
  return (piece) => {
    const found = [];
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const each of lines) line(each.endsWith("\r") ? each.slice(0, -1) : each, found);
    return found;
  };
}

// The pause before another try to connect, in milliseconds.
export function pauseMs(failures) {
  return Math.min(10000, 500 * 2 ** Math.min(failures, 5));
}

// Lines of a patch with what each is: "add", "del", "head" or "same".
export function patchLines(diff) {
  return String(diff ?? "").split("\n").map((text) => {
    if (/^(diff |index |\+\+\+|---|@@|new file|deleted file|rename |similarity )/.test(text)) return { kind: "head", text };
    if (text.startsWith("+")) return { kind: "add", text };
    return { kind: text.startsWith("-") ? "del" : "same", text };
  });
}

// The fields of a form named "p:NAME" as the parameters of a workflow; one that was left empty has its default.
export function parameters(fields) {
  const given = {};
  for (const [name, value] of fields) {
    if (name.startsWith("p:") && value !== "") given[name.slice(2)] = value;
  }
  return given;
}
