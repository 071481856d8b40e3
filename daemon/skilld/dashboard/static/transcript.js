// A conversation out of its events. Pure: the same events give the same turns, in whatever pieces they came.

import { blocksText } from "./text.js";

const MAX_OUTPUT = 20000;
const ENDINGS = ["turn.finished", "turn.failed", "turn.cancelled", "turn.interrupted"];

export function transcript() {
  return { entries: [], byTurn: new Map(), costUsd: 0, unpriced: false };
}

function turnOf(state, event) {
  let turn = state.byTurn.get(event.turn);
  if (!turn) {
    turn = { id: event.turn, version: 0, status: "running", prompt: null, time: event.time, parts: [], ending: null };
    state.byTurn.set(event.turn, turn);
    state.entries.push(turn);
  }
  turn.version += 1;
  return turn;
}

function toolOf(turn, id, name) {
  let tool = turn.parts.find((part) => part.kind === "tool" && part.id === id);
  if (!tool) {
    tool = { kind: "tool", id, name: name ?? "tool", input: null, output: "", outcome: "running", result: "" };
    turn.parts.push(tool);
  }
  return tool;
}

function delta(turn, event) {
  const data = event.data;
  let part = turn.parts.find((each) => each.draft && each.seq === event.seq);
  if (!part) {
    part = { kind: data.kind === "thinking" ? "thinking" : "text", draft: true, seq: event.seq, text: "", length: 0 };
    turn.parts.push(part);
  }
  const length = Array.from(data.text).length;
  const offset = data.offset ?? part.length + length;
  if (offset - length === 0) {
    part.text = data.text;
    part.length = length;
  } else if (offset > part.length) {
    const fresh = Array.from(data.text).slice(Math.max(0, length - (offset - part.length)));
    part.text += fresh.join("");
    part.length = offset;
  }
}

// What the model wrote, whole: it stands in the place of the pieces that came while it was writing.
function message(turn, data) {
  turn.parts = turn.parts.filter((part) => !part.draft);
  for (const block of data.content ?? []) {
    if (block.type === "text" && block.text) turn.parts.push({ kind: "text", text: block.text });
    if (block.type === "thinking" && block.thinking) turn.parts.push({ kind: "thinking", text: block.thinking });
  }
}

function finishTool(turn, data) {
  const tool = toolOf(turn, data.id, data.name);
  tool.outcome = data.outcome;
  tool.result = blocksText(data.content);
  tool.durationMs = data.duration_ms;
  tool.exitCode = data.exit_code;
  tool.costUsd = data.cost_usd;
}

function end(state, turn, event) {
  const data = event.data;
  turn.status = event.type.slice("turn.".length);
  turn.ending = data;
  turn.parts = turn.parts.map((part) => (part.draft ? { kind: part.kind, text: part.text } : part));
  for (const part of turn.parts) if (part.kind === "tool" && part.outcome === "running") part.outcome = "interrupted";
  if (data.text && !turn.parts.some((part) => part.kind === "text")) turn.parts.push({ kind: "text", text: data.text });
  if (typeof data.cost_usd === "number") state.costUsd += data.cost_usd;
  else state.unpriced = true;
}

function approval(state, turn, data, resolved) {
  let part = turn.parts.find((each) => each.kind === "approval" && each.id === data.id);
  if (!part) {
    part = { kind: "approval", id: data.id, shown: data.shown ?? data.tool ?? "a call", status: "pending" };
    turn.parts.push(part);
  }
  if (resolved) {
    part.status = data.status;
    part.reason = data.reason;
  }
}

// Take one event in. `state` is changed and given back.
export function fold(state, event) {
  const data = event.data ?? {};
  if (!event.turn) {
    const said = data.text ?? data.summary ?? "";
    state.entries.push({ id: `event-${event.seq}`, version: 0, note: event.type, text: said, time: event.time });
    return state;
  }
  const turn = turnOf(state, event);
  const kind = event.type;
  if (kind === "turn.queued") {
    turn.prompt = data.text;
    turn.files = (data.files ?? []).map((file) => file.name);
    turn.status = "queued";
  } else if (kind === "turn.started") {
    turn.status = "running";
  } else if (kind === "turn.steered") {
    turn.parts.push({ kind: "user", text: data.text });
  } else if (kind === "model.delta") {
    delta(turn, { ...event, data });
  } else if (kind === "model.message") {
    message(turn, data);
  } else if (kind === "tool.started") {
    Object.assign(toolOf(turn, data.id, data.name), { name: data.name, input: data.input });
  } else if (kind === "tool.output") {
    const tool = toolOf(turn, data.id);
    if (tool.output.length < MAX_OUTPUT) tool.output += data.text;
  } else if (kind === "tool.finished") {
    finishTool(turn, data);
  } else if (kind === "approval.requested" || kind === "approval.resolved") {
    approval(state, turn, data, kind === "approval.resolved");
  } else if (ENDINGS.includes(kind)) {
    end(state, turn, event);
  } else if (kind === "agent.notice") {
    turn.parts.push({ kind: "note", text: `${data.kind}: ${data.text ?? ""}` });
  } else if (kind === "budget.warning") {
    turn.parts.push({ kind: "note", text: `${Math.round(data.share * 100)} % of the cap ${data.cap} is used` });
  } else if (kind === "file.created" || kind === "file.changed" || kind === "file.deleted") {
    turn.parts.push({ kind: "note", text: `${kind.slice("file.".length)}: ${data.name}` });
  } else if (kind === "session.compacted") {
    turn.parts.push({ kind: "note", text: `the conversation was made shorter: ${data.summary ?? data.why_not ?? ""}` });
  }
  return state;
}
