// Elements, and numbers as people read them. Whatever a task or an upstream chose becomes a text node or an attribute without a meaning to
// the browser: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "rect", "title"]);
// Attributes that hold a link: they may only lead within the page.
const LINKS = new Set(["href", "src"]);

export function h(tag, props, ...children) {
  const node = SVG_TAGS.has(tag) && tag !== "title" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node[name] = value;
    else if (LINKS.has(name) && !String(value).startsWith("#")) throw new Error("a link out of the page");
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(9)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

const HANDLERS = ["onclick", "onsubmit", "oninput", "onchange"];

// Makes what is shown like `next`, and leaves alone what is the same: the focus, a selection and the place in a list stay.
export function update(shown, ...next) {
  const target = h("div", null, next);
  align(shown, target);
}

function align(shown, next) {
  const wanted = [...next.childNodes];
  wanted.forEach((node, at) => {
    const old = shown.childNodes[at];
    if (!old) shown.append(node);
    else if (old.nodeType !== node.nodeType || old.nodeName !== node.nodeName || old.id !== node.id) old.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) {
      if (old.data !== node.data) old.data = node.data;
    } else {
      for (const { name } of [...old.attributes]) if (!node.hasAttribute(name) && name !== "open") old.removeAttribute(name);
      // The policy forbids styles as attributes; a width is a property, below.
      for (const { name, value } of node.attributes) if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
      for (const handler of HANDLERS) old[handler] = node[handler];
      if (node.style?.width) old.style.width = node.style.width;
      align(old, node);
    }
  });
  while (shown.childNodes.length > wanted.length) shown.lastChild.remove();
}

export const count = (n) => (n === undefined || n === null ? "–" : Math.round(n).toLocaleString("en"));
export const num = (n) => h("td", { class: n ? "num" : "num zero" }, count(n));
export const share = (part, all) => (all ? `${Math.floor((1000 * part) / all) / 10} %` : "–");

export function rate(n) {
  if (!n) return "0/s";
  return `${n >= 100 ? count(n) : n >= 10 ? n.toFixed(1) : n.toFixed(2)}/s`;
}

export function span(ms) {
  if (ms === undefined || ms === null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min${ms % 60_000 >= 1000 ? ` ${Math.floor((ms % 60_000) / 1000)} s` : ""}`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
  return `${Math.floor(ms / 86_400_000)} d ${Math.floor((ms % 86_400_000) / 3_600_000)} h`;
}

export const ago = (now, at) => (at > now ? `in ${span(at - now)}` : `${span(now - at)} ago`);
export const when = (at) => new Date(at).toISOString().replace("T", " ").slice(0, 19);

export function when_cell(now, at) {
  return h("td", { title: `${when(at)} UTC` }, h("time", { datetime: new Date(at).toISOString() }, ago(now, at)));
}

export function meter(part, label, kind) {
  const bar = h("i", { class: kind ?? (part >= 1 ? "full" : "") });
  bar.style.width = `${Math.round(100 * Math.min(1, Math.max(0, part)))}%`;
  return h("span", { class: "meter", role: "img", "aria-label": label }, bar);
}

export function sparkline(values, label) {
  const top = Math.max(...values, 0.001);
  const point = (v, i) => `${i ? "L" : "M"}${((i * 100) / Math.max(1, values.length - 1)).toFixed(1)} ${(21 - (v / top) * 19).toFixed(1)}`;
  const d = values.length > 1 ? values.map(point).join("") : "M0 21L100 21";
  return h("svg", { class: "spark", viewBox: "0 0 100 22", preserveAspectRatio: "none", role: "img", "aria-label": label }, h("path", { d }));
}

// Attempts of each step: those that failed stand on top.
export function chart(steps, label) {
  const top = Math.max(1, ...steps.map((step) => step.attempts));
  const width = 100 / Math.max(1, steps.length);
  const bars = steps.flatMap((step, i) => {
    const [good, failed] = [(step.good / top) * 70, ((step.attempts - step.good) / top) * 70];
    const bar = (kind, y, height) => height > 0 && h("rect", { class: kind, x: i * width, y, width: width * 0.82, height });
    return [bar("fair", 71 - good, good), bar("failed", 71 - good - failed, failed)];
  });
  return h("svg", { class: "chart", viewBox: "0 0 100 72", preserveAspectRatio: "none", role: "img", "aria-label": label }, bars);
}

// A table with a caption for those who do not see it. `heads`: text, or [text, class].
export function table(caption, heads, rows, nothing) {
  if (!rows.length) return h("p", { class: "quiet" }, nothing);
  const head = (one) => h("th", { scope: "col", class: Array.isArray(one) ? one[1] : undefined }, Array.isArray(one) ? one[0] : one);
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, heads.map(head))), h("tbody", null, rows)));
}

export function panel(title, tools, ...content) {
  return h("section", { "aria-label": title }, h("div", { class: "head" }, h("h2", null, title), h("div", { class: "tools" }, tools)), content);
}

// Asks for values in a dialog; resolves to an object of texts, or undefined.
export function ask(title, fields, action, text) {
  return new Promise((resolve) => {
    const inputs = fields.map((field) => h("input", { name: field.name, type: field.type ?? "text", value: field.value, step: "any", min: field.min, required: field.required, autocomplete: "off" }));
    const close = (value) => { dialog.close(); dialog.remove(); resolve(value); };
    const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), text && h("p", { class: "quiet" }, text),
      fields.map((field, i) => h("label", null, field.label, inputs[i])),
      h("div", { class: "choice" }, h("button", { type: "button", onclick: () => close() }, "Cancel"), h("button", { class: "main" }, action)));
    form.onsubmit = (event) => { event.preventDefault(); close(Object.fromEntries(inputs.map((input) => [input.name, input.value.trim()]))); };
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    dialog.oncancel = () => close();
    document.body.append(dialog);
    dialog.showModal();
  });
}
