// The few ways in which this page touches the document. Text only ever enters through `textContent`.

export const $ = (id) => document.getElementById(id);

const build = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) attr(node, name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
};

export const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// A function becomes a handler (`onclick`), nothing takes the attribute away.
export function attr(node, name, value) {
  if (typeof value === "function") node[name] = value;
  else   if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Writing is what costs, and most numbers do not change from one second to the next.
export function set(node, text) {
  if (node.shown === text) return;
  node.shown = text;
  node.textContent = text;
}

export const show = (node, visible) => {
  node.hidden = !visible;
};

// A setting of this browser. Private windows may forbid the storage: then it holds until the page is left.
export function memory(storage, name, value) {
  try {
    const key = `realtime-${name}`;
    if (value === undefined) return window[storage].getItem(key);
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, value);
  } catch {
    return null;
  }
}
