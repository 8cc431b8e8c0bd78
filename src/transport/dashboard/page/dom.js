// The few ways in which this page touches the document. Text only ever enters through `textContent`.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, tag), attributes, children);

// Writing is what costs, and most numbers do not change from one second to the next: both setters remember.
export function set(node, text) {
  if (node.shown === text) return;
  node.shown = text;
  node.textContent = text;
}

export function attr(node, name, value) {
  const key = `attr:${name}`;
  if (node[key] === value) return;
  node[key] = value;
  if (value === null || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

// Settings of this browser; private windows may forbid the storage, the page works without.
export const memory = {
  get(name, kind = "localStorage") {
    try {
      return window[kind].getItem(`realtime-${name}`);
    } catch {
      return null;
    }
  },
  set(name, value, kind = "localStorage") {
    try {
      if (value === null) window[kind].removeItem(`realtime-${name}`);
      else window[kind].setItem(`realtime-${name}`, value);
    } catch {
      // Not stored: it holds until the page is left.
    }
  },
};
