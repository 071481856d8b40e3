// Elements out of values, and a page made like another without losing what somebody is doing in it.
// Every text goes in as text; there is no way here to make markup of it.

const SAFE_ATTRIBUTES = new Set([
  "aria-busy", "aria-current", "aria-label", "autocomplete", "class", "colspan", "dir", "disabled", "for", "href", "id",
  "max", "maxlength", "min", "name", "open", "placeholder", "required", "rows", "scope", "selected", "spellcheck",
  "tabindex", "title", "type", "value",
]);

// h("p", {class: "quiet"}, "text", child, [children], null)
export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (!SAFE_ATTRIBUTES.has(name) && !name.startsWith("data-")) throw new Error(`attribute ${name}`);
    if (name === "href" && !String(value).startsWith("#")) throw new Error("links stay in these pages");
    node.setAttribute(name, value === true ? "" : String(value));
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) add(node, child);
    else node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

// An element that is made only if there is none of this key and version on the page yet: most of a long list is.
export function lazy(tag, key, version, make) {
  const node = h(tag, { "data-key": key, "data-version": version, "data-lazy": "" });
  node.make = make;
  return node;
}

function whole(node) {
  if (node.make) return node.make();
  if (node.nodeType === Node.ELEMENT_NODE) for (const each of node.querySelectorAll("[data-lazy]")) each.replaceWith(each.make());
  return node;
}

// Make `old` like `fresh`, and keep its nodes: focus, what is unfolded and what was typed stay. Gives the node back.
// Children with the same data-key are the same; with the same data-version nothing in them has changed.
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    const made = whole(fresh);
    old.replaceWith(made);
    return made;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  if (fresh.dataset.version !== undefined && fresh.dataset.version === old.dataset.version) return old;
  if (fresh.make) return morph(old, fresh.make());
  for (const { name } of Array.from(old.attributes)) {
    if (!fresh.hasAttribute(name) && !isUsers(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of Array.from(fresh.attributes)) {
    if (old.getAttribute(name) !== value && !isUsers(old, name)) old.setAttribute(name, value);
  }
  if (old.nodeName === "PROGRESS") old.value = fresh.value;
  morphChildren(old, fresh);
  return old;
}

function isUsers(node, name) {
  if (node.nodeName === "BUTTON") return name === "disabled";  // while what it asked for is under way
  return (node.nodeName === "DETAILS" && name === "open") || (node.nodeName === "INPUT" && name === "value");
}

function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key !== undefined) keyed.set(child.dataset.key, child);
  let here = old.firstChild;
  for (const child of Array.from(fresh.childNodes)) {
    const key = child.dataset?.key;
    if (key !== undefined) {
      const same = keyed.get(key);
      keyed.delete(key);
      if (!same) {
        old.insertBefore(whole(child), here);
      } else {
        if (same === here) here = here.nextSibling;
        else old.insertBefore(same, here);
        morph(same, child);
      }
    } else if (here && here.dataset?.key === undefined) {
      const next = here.nextSibling;
      morph(here, child);
      here = next;
    } else {
      old.insertBefore(whole(child), here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

export function pill(status) {
  return h("span", { class: "pill", "data-status": status }, String(status).replace("_", " "));
}

export function link(words, ...children) {
  return h("a", { href: `#/${words.map(encodeURIComponent).join("/")}` }, ...children);
}

// A table; `rows` are lists of cells with a key each: {key, cells}.
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "quiet" }, empty);
  return h("div", { class: "scroll", tabindex: "0", "aria-label": caption },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map(({ key, cells }) => h("tr", { "data-key": key }, cells.map((cell) => h("td", {}, cell)))))));
}

export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), ...children);
}

export function button(label, action, data, kind) {
  const extra = Object.fromEntries(Object.entries(data ?? {}).map(([name, value]) => [`data-${name}`, value]));
  return h("button", { type: "button", class: kind, "data-do": action, ...extra }, label);
}

// A long text that can be unfolded.
export function folded(label, text, open) {
  return h("details", { open }, h("summary", {}, label), h("pre", { dir: "auto" }, text));
}
